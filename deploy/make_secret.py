"""Makes the cluster's secret when the cluster first starts, and the token that Prometheus reads metrics with.

Runs to its end before anything else starts, and again with every `docker compose up`:

- /run/drizzle/secret: what DRIZZLE_TOKEN says, if it says anything; else what is there already;
  else 32 random bytes. Only the services' user may read it.
- /run/drizzle-metrics/token: opens /metrics and nothing else, so Prometheus may hold it. A
  token ends one day, so each start makes a new one.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from drizzle_streams.protocol.tokens import Keyring, TokenKind

SECRET = Path("/run/drizzle/secret")
METRICS_TOKEN = Path("/run/drizzle-metrics/token")
METRICS_TTL_S = 366 * 86_400.0
SECRET_BYTES = 32


def main() -> None:
    """Write both files, each whole or not at all."""
    given = os.environ.get("DRIZZLE_TOKEN", "").strip()
    if given:
        _write(SECRET, given, 0o400)
    elif not SECRET.exists():
        _write(SECRET, secrets.token_hex(SECRET_BYTES), 0o400)
    ring = Keyring.parse(SECRET.read_text(encoding="utf-8"))
    _write(METRICS_TOKEN, ring.mint(TokenKind.METRICS, "prometheus", time.time(), METRICS_TTL_S), 0o444)


def _write(path: Path, text: str, mode: int) -> None:
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


if __name__ == "__main__":
    main()

"""The only place of this package that reads or sets the environment.

Tokens come from it because flags can be seen by every user of a machine; a token may lie in a file that
the variable with `_FILE` behind its name points to, as container secrets do.
"""

from __future__ import annotations

import os
import ssl
import time
from functools import cache
from pathlib import Path

from drizzle_loadgen.errors import UsageError
from drizzle_streams.errors import DrizzleError
from drizzle_streams.protocol.tokens import TokenKind, credential
from drizzle_streams.tls import TlsFiles

INGEST_TOKEN = "DRIZZLE_INGEST_TOKEN"
"""Opens the door for records."""
CLUSTER_TOKEN = "DRIZZLE_TOKEN"
"""The cluster's secret, or a token minted from it: opens the coordinator's status for `run --discover`.
Where no ingest token is given, the secret mints one."""
TOKEN_SLACK_S = 86_400.0
"""How much longer than its schedule a run's own tokens live."""


def bearer(variable: str) -> dict[str, str]:
    """The header with the token that `variable` holds; no header if it holds none."""
    token = _found(variable)
    return {"Authorization": f"Bearer {token}"} if token else {}


def minted(kind: TokenKind, subject: str, seconds: float) -> dict[str, str]:
    """The header with a token of `kind` for a run of `seconds`, from DRIZZLE_TOKEN; none without that."""
    secret = _found(CLUSTER_TOKEN)
    if not secret:
        return {}
    try:
        token = credential(secret, kind, time.time(), subject=subject, ttl_s=seconds + TOKEN_SLACK_S)
    except DrizzleError as error:
        raise UsageError(str(error)) from error
    return {"Authorization": f"Bearer {token}"}


def _found(variable: str) -> str:
    token = os.environ.get(variable, "")  # noqa: TID251 - this package's reader of the environment
    if not token and (path := os.environ.get(f"{variable}_FILE")):  # noqa: TID251
        token = Path(path).read_text(encoding="utf-8").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"{variable}: wanted printable ASCII without spaces, found something else")
    return token


@cache
def tls_context() -> ssl.SSLContext:
    """For https: the files that DRIZZLE_TLS_CA, DRIZZLE_TLS_CERT, DRIZZLE_TLS_KEY name, or the system's."""
    names = ("DRIZZLE_TLS_CERT", "DRIZZLE_TLS_KEY", "DRIZZLE_TLS_CA")
    paths = [os.environ.get(name, "") for name in names]  # noqa: TID251
    try:
        found = TlsFiles(*(Path(path) if path else None for path in paths)).client()
    except DrizzleError as error:
        raise UsageError(str(error)) from error
    return found or ssl.create_default_context()


def use_one_polars_thread() -> None:
    """Let the generator take one core at most, unless POLARS_MAX_THREADS says otherwise.

    Polars starts its threads at its first computation, so this has to be called before that.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # noqa: TID251 - handed to a library

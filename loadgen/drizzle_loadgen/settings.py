"""The only place of this package that reads or sets the environment."""

from __future__ import annotations

import os

from drizzle_loadgen.errors import UsageError

TOKEN_VARIABLE = "DRIZZLE_INGEST_TOKEN"


def ingest_headers() -> dict[str, str]:
    """Headers that let this process post: a bearer token if DRIZZLE_INGEST_TOKEN holds one, else none."""
    token = os.environ.get(TOKEN_VARIABLE, "")  # noqa: TID251 - this package's reader of the environment
    if not token:
        return {}
    if not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"{TOKEN_VARIABLE}: wanted printable ASCII without spaces, found something else")
    return {"Authorization": f"Bearer {token}"}


def use_one_polars_thread() -> None:
    """Let the generator take one core at most, unless POLARS_MAX_THREADS says otherwise.

    Polars starts its threads at its first computation, so this has to be called before that.
    """
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # noqa: TID251 - see above

"""Small synchronous requests to services on loopback or elsewhere: what commands and the supervisor need.

Standard library only, so that a command starts quickly; every request has a timeout and a bound.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from drizzle_streams.errors import DrizzleError, UnreachableError, explain

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024


def ask(
    address: str, path: str, token: str, *, method: str = "GET", timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """The JSON answer to a request. Raises `UnreachableError` (no answer) or `DrizzleError` (refused)."""
    request = Request(f"{address}{path}", method=method)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urlopen(request, timeout=timeout_s) as answer:
            body = answer.read(ANSWER_BYTES_MAX)
    except HTTPError as error:
        raise DrizzleError(_refusal(address, error)) from error
    except (URLError, OSError) as error:
        raise UnreachableError(
            explain(
                f"cluster {address}",
                wanted="an answer",
                found=str(getattr(error, "reason", error)),
                remedy="Start one with `drizzle up`, or name another with --cluster.",
            )
        ) from error
    return json.loads(body) if body else {}


def is_ready(address: str, timeout_s: float = 1.0) -> bool:
    """Whether a service says that it is ready."""
    try:
        with urlopen(f"{address}/readyz", timeout=timeout_s) as answer:
            return answer.status == 200
    except (URLError, OSError):
        return False


def _refusal(address: str, error: HTTPError) -> str:
    try:
        reason = json.loads(error.read(64 * 1024))["error"]
    except (ValueError, KeyError, TypeError):
        reason = {"thing": f"{address}", "wanted": "200", "found": str(error.code), "remedy": "See its log."}
    if isinstance(reason, dict) and {"thing", "wanted", "found", "remedy"} <= reason.keys():
        return explain(
            str(reason["thing"]),
            wanted=str(reason["wanted"]),
            found=str(reason["found"]),
            remedy=str(reason["remedy"]),
        )
    return f"{address} answered {error.code}: {reason}"

"""Small synchronous requests to services on loopback or elsewhere: what commands and the supervisor need.

Standard library only, so that a command starts quickly; every request has a timeout and a bound.
"""

from __future__ import annotations

import json
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from drizzle_streams.errors import ConfigError, DrizzleError, UnreachableError, explain
from drizzle_streams.protocol.tokens import TokenKind, credential
from drizzle_streams.tls import NO_TLS, TlsFiles

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024


def ask(
    address: str,
    path: str,
    token: str,
    *,
    method: str = "GET",
    timeout_s: float = TIMEOUT_S,
    kind: TokenKind = TokenKind.USER,
    tls: TlsFiles = NO_TLS,
) -> dict[str, Any]:
    """The JSON answer to a request. `token` is a minted one, or the secret that mints one of `kind`.

    Raises `ConfigError` (no address), `UnreachableError` (no answer) or `DrizzleError` (refused, or no JSON).
    """
    _require_address(address)
    request = Request(f"{address}{path}", method=method)
    if token:
        request.add_header("Authorization", f"Bearer {credential(token, kind, time.time())}")
    try:
        with urlopen(request, timeout=timeout_s, context=tls.client()) as answer:
            body = answer.read(ANSWER_BYTES_MAX)
    except HTTPError as error:
        raise DrizzleError(_refusal(address, error)) from error
    except (URLError, OSError, HTTPException) as error:
        raise UnreachableError(_no_answer(address, error)) from error
    return _json(address, body)


def is_ready(address: str, timeout_s: float = 1.0) -> bool:
    """Whether a service says that it is ready."""
    try:
        with urlopen(f"{address}/readyz", timeout=timeout_s) as answer:
            return answer.status == 200
    except (URLError, OSError, HTTPException):
        return False


def _require_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        fits = False
    if not fits:
        remedy = "Name the coordinator's with --cluster or DRIZZLE_CLUSTER."
        raise ConfigError(
            explain("cluster address", wanted="http://host:port", found=repr(address), remedy=remedy)
        )


def _json(address: str, body: bytes) -> dict[str, Any]:
    try:
        return json.loads(body) if body else {}
    except ValueError as error:
        raise DrizzleError(
            explain(
                f"cluster {address}",
                wanted="the JSON of a coordinator",
                found=repr(body[:80]),
                remedy="Check the address: another service seems to listen there.",
            )
        ) from error


def _no_answer(address: str, error: Exception) -> str:
    return explain(
        f"cluster {address}",
        wanted="an answer",
        found=str(getattr(error, "reason", error)) or type(error).__name__,
        remedy="Start one with `drizzle up`, or name another with --cluster.",
    )


def _refusal(address: str, error: HTTPError) -> str:
    try:
        reason = json.loads(error.read(64 * 1024))["error"]
    except (ValueError, KeyError, TypeError):
        reason = {"thing": address, "wanted": "200", "found": str(error.code), "remedy": "See its log."}
    if isinstance(reason, dict) and {"thing", "wanted", "found", "remedy"} <= reason.keys():
        return explain(
            str(reason["thing"]),
            wanted=str(reason["wanted"]),
            found=str(reason["found"]),
            remedy=str(reason["remedy"]),
        )
    return f"{address} answered {error.code}: {reason}"

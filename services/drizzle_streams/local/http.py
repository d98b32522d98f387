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

from drizzle_streams.api.leader import AskAnotherError, ask_leader
from drizzle_streams.errors import ConfigError, DrizzleError, explain
from drizzle_streams.protocol.tokens import TokenKind, credential
from drizzle_streams.tls import NO_TLS, TlsFiles

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
REFUSAL_BYTES_MAX = 64 * 1024


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

    `address` may be several between commas: then, and where a standby answers, the leader's answer.
    Raises `ConfigError` (no address), `UnreachableError` (no answer) or `DrizzleError` (refused, or no JSON).
    """
    context = tls.client()

    def once(address: str) -> tuple[int, bytes]:
        _require_address(address)
        request = Request(f"{address}{path}", method=method)
        if token:
            request.add_header("Authorization", f"Bearer {credential(token, kind, time.time())}")
        try:
            with urlopen(request, timeout=timeout_s, context=context) as answer:
                return answer.status, answer.read(ANSWER_BYTES_MAX)
        except HTTPError as error:
            return error.code, error.read(REFUSAL_BYTES_MAX)
        except (URLError, OSError, HTTPException) as error:
            raise AskAnotherError(_no_answer(address, error)) from error

    status, body = ask_leader(address, once)
    if not 200 <= status < 300:
        raise DrizzleError(_refusal(address, status, body))
    return _json(address, body)


def is_ready(address: str, timeout_s: float = 1.0, path: str = "/readyz") -> bool:
    """Whether a service says that it is ready; with `/healthz` as the path, that it lives."""
    try:
        with urlopen(f"{address}{path}", timeout=timeout_s) as answer:
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


def _refusal(address: str, status: int, body: bytes) -> str:
    try:
        reason = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        reason = {"thing": address, "wanted": "200", "found": str(status), "remedy": "See its log."}
    if isinstance(reason, dict) and {"thing", "wanted", "found", "remedy"} <= reason.keys():
        return explain(
            str(reason["thing"]),
            wanted=str(reason["wanted"]),
            found=str(reason["found"]),
            remedy=str(reason["remedy"]),
        )
    return f"{address} answered {status}: {reason}"

"""How a service says no over HTTP: always JSON, always the same shape.

    {"error": {"thing": …, "wanted": …, "found": …, "remedy": …}}

A handler raises `RefusedError`, or one of our errors, or what aiohttp raises; this
middleware words them all. What nobody expected is logged with its traceback and
answered with 500 and no inner detail: never a crash, never a leak.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from drizzle_streams.errors import (
    BackPressureError,
    DrizzleError,
    ProtocolError,
    StoreError,
    UnreachableError,
    explain,
)
from drizzle_streams.transport.base import NotFoundError

log = logging.getLogger("drizzle.http")

RETRY_AFTER_S = 1
"""What a caller is told to wait when a bound is reached and nobody says better."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATUS: tuple[tuple[type[DrizzleError], int], ...] = (
    (NotFoundError, 404),
    (BackPressureError, 429),
    (ProtocolError, 400),
    (UnreachableError, 503),
    (StoreError, 503),
)


class RefusedError(DrizzleError):
    """An answer that says no; `status` is HTTP's word for it."""

    def __init__(
        self,
        status: int,
        thing: str,
        *,
        wanted: str,
        found: str,
        remedy: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(explain(thing, wanted=wanted, found=found, remedy=remedy))
        self.status = status
        self.fields = {"thing": thing, "wanted": wanted, "found": found, "remedy": remedy}
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        """The refusal as it goes over the wire."""
        body = json.dumps({"error": self.fields}).encode()
        return web.Response(
            status=self.status, body=body, content_type="application/json", headers=self.headers
        )


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost: whatever a handler raises becomes an answer in our words."""
    try:
        return await handler(request)
    except RefusedError as refusal:
        return refusal.response()
    except DrizzleError as error:
        return _of_ours(request, error).response()
    except web.HTTPException as answer:
        if answer.status < 400:
            raise
        return _of_aiohttp(request, answer).response()
    except Exception as error:
        if isinstance(error, ConnectionError) and _hung_up(request):
            log.info("who asked has hung up", extra={"method": request.method, "path": request.path})
        else:
            log.exception("request failed", extra={"method": request.method, "path": request.path})
        return RefusedError(
            500,
            request.path,
            wanted="an answer",
            found="an internal error",
            remedy="The service's log has the traceback.",
        ).response()


def _hung_up(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _of_ours(request: web.Request, error: DrizzleError) -> RefusedError:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    wait_s = error.retry_after_s if isinstance(error, BackPressureError) else RETRY_AFTER_S
    headers = {"Retry-After": str(wait_s)} if status in (429, 503) else {}
    remedy = "Try again later." if headers else "Correct the request."
    return RefusedError(
        status,
        request.path,
        wanted="a request that can be met",
        found=str(error),
        remedy=remedy,
        headers=headers,
    )


def _of_aiohttp(request: web.Request, answer: web.HTTPException) -> RefusedError:
    headers = {name: answer.headers[name] for name in ("Allow", "Retry-After") if name in answer.headers}
    wanted, found, remedy = "a request that can be met", answer.reason, "See the documentation of the route."
    if isinstance(answer, web.HTTPMethodNotAllowed):
        wanted, found = " or ".join(sorted(answer.allowed_methods)), answer.method
    elif isinstance(answer, web.HTTPRequestEntityTooLarge):
        wanted, found = "a body within the service's limit", answer.text or "a longer one"
        remedy = "Send less at a time."
    elif isinstance(answer, web.HTTPNotFound):
        wanted, found = "a path of this service", "none by that name"
    return RefusedError(
        answer.status, request.path, wanted=wanted, found=found, remedy=remedy, headers=headers
    )

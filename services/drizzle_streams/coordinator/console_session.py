"""Signing in to the console: whoever shows the secret or a user token gets a session of some hours.

    GET  /console/enter?ticket=   a link to sign in with: 303 to the page, or 401 with the form
    POST /console/session         the form: the cluster's secret or a user token; 303 or 401
    POST /console/leave           ends the session: 303

These doors check for themselves and are open to all else. The session is a `user` token in a
cookie (`transport.auth`): no script can read it, no other site can send it, and it opens doors by
GET only, so that nothing can be changed with it. A link's token lives for minutes, since links are
kept in histories.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import hdrs, web

from drizzle_streams.coordinator.console_page import SAFE_HEADERS, sign_in_page
from drizzle_streams.protocol.tokens import Fault, Keyring, TokenKind
from drizzle_streams.transport import auth
from drizzle_streams.transport.http_errors import RefusedError

ENTER_PATH = "/console/enter"
SESSION_PATH = "/console/session"
LEAVE_PATH = "/console/leave"
TICKET_TTL_S = 600.0
"""Life of the token in a link to sign in with; nothing that lives longer is taken from a link."""
FORM_BYTES_MAX = 4_096
FORM_TIMEOUT_S = 10.0
_OWN = frozenset({None, "same-origin", "none"})
"""What a browser says of where a request comes from, if it is not from another site."""

WELCOME = ""
WRONG = "That is neither this cluster’s secret nor a user token of it."
EXPIRED = "That token has expired."
LINK_OVER = "That link is not valid any more. Sign in below, or take a new link."


class Sessions:
    """Who is signed in, by cookies alone: nothing is kept here. `now` is unix seconds."""

    def __init__(self, ring: Keyring, now: Callable[[], float]) -> None:
        self._ring = ring
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """Doors that are open to all and check for themselves."""
        return [
            web.get(ENTER_PATH, self._enter, allow_head=False),
            web.post(SESSION_PATH, self._sign_in),
            web.post(LEAVE_PATH, self._leave),
        ]

    def admits(self, request: web.Request) -> bool:
        """Whether whoever asks has a session, or a token as any other client would."""
        authorization, now = request.headers.get(hdrs.AUTHORIZATION), self._now()
        if authorization is not None:
            return auth.admits(auth.USER, self._ring, authorization, {}, now) is None
        cookie = request.cookies.get(auth.SESSION_COOKIE)
        return cookie is not None and auth.admits_session(auth.USER, self._ring, cookie, now) is None

    async def _enter(self, request: web.Request) -> web.Response:
        now = self._now()
        found = self._ring.check(request.query.get("ticket", ""), now)
        if isinstance(found, Fault) or found.kind is not TokenKind.USER or found.expires > now + TICKET_TTL_S:
            return sign_in_page(LINK_OVER)
        return self._signed_in(request, auth.SESSION_TTL_S)

    async def _sign_in(self, request: web.Request) -> web.Response:
        _check_form(request)
        async with asyncio.timeout(FORM_TIMEOUT_S):
            shown = (await request.post()).get("token", "")
        text, now = shown.strip() if isinstance(shown, str) else "", self._now()
        if self._ring.is_secret(text):
            return self._signed_in(request, auth.SESSION_TTL_S)
        found = self._ring.check(text, now)
        if isinstance(found, Fault) or found.kind is not TokenKind.USER:
            return sign_in_page(EXPIRED if found is Fault.EXPIRED else WRONG)
        return self._signed_in(request, min(auth.SESSION_TTL_S, found.expires - now))

    def _signed_in(self, request: web.Request, ttl_s: float) -> web.Response:
        """A session, which never lives longer than what it was given for."""
        token = self._ring.mint(TokenKind.USER, "console", self._now(), ttl_s)
        return _to_page(request, token, max(0, int(ttl_s)))

    async def _leave(self, request: web.Request) -> web.Response:
        _check_form(request)
        return _to_page(request, "", 0)


def _to_page(request: web.Request, token: str, ttl_s: int) -> web.Response:
    headers = SAFE_HEADERS | {hdrs.LOCATION: "/", hdrs.CACHE_CONTROL: "no-store"}
    response = web.Response(status=303, headers=headers)
    response.set_cookie(
        auth.SESSION_COOKIE,
        token,
        max_age=ttl_s,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=request.secure,
    )
    return response


def _check_form(request: web.Request) -> None:
    """Raise `RefusedError` for what is no small form of our own page."""
    if request.headers.get("Sec-Fetch-Site") not in _OWN:
        raise RefusedError(
            403, request.path, wanted="our own page", found="another site", remedy="Sign in at /."
        )
    if request.content_length is None or request.content_length > FORM_BYTES_MAX:
        wanted = f"a form of at most {FORM_BYTES_MAX} bytes, its length announced"
        raise RefusedError(413, request.path, wanted=wanted, found="another body", remedy="Sign in at /.")

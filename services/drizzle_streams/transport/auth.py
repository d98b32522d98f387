"""Who may enter which door. Pure: what was presented in, yes or no out.

Every door of a service has exactly one key, and a door without a stated key has the cluster's.
A token is presented as `Authorization: Bearer …` (`protocol.tokens` says what one is); a header
is never logged.

    key       opened by tokens of the kind            doors
    PUBLIC    none wanted                             /healthz, /readyz, /metrics where configured
    CLUSTER   cluster                                 links, bulk fetches, programs, exits of nodes
    USER      user, cluster                           submit, stop, status, story, console
    METRICS   metrics, user, cluster                  /metrics
    ingest    ingest (its stream, or `*`), or static  records; without static tokens user and cluster too

Nothing at all, or what nobody here signed, or what has expired, is answered with 401; a genuine
token of another kind, or for another stream, with 403.

A browser presents its token as a cookie (`SESSION_COOKIE`), which is taken only where it can
change nothing: by GET, at doors for users, and only as a `user` token. Whoever sets it says
HttpOnly and SameSite=Strict.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drizzle_streams.protocol.tokens import Fault, Keyring, Token, TokenKind

SCHEME = "Bearer "
SESSION_COOKIE = "drizzle_session"
SESSION_TTL_S = 12 * 3600.0
"""How long a browser stays logged in."""
ANY_STREAM = "*"


@dataclass(frozen=True, slots=True)
class Public:
    """No token wanted."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A token of one of `kinds`; `name` is what people call it ("cluster token")."""

    name: str
    kinds: frozenset[TokenKind]


@dataclass(frozen=True, slots=True)
class Ingest:
    """An ingest token for the path's `stream`.

    `static` gives tokens of the settings for a stream. `open_to_users`: `user` and `cluster`
    tokens open it, too.
    """

    static: Callable[[str], tuple[str, ...]]
    open_to_users: bool


Auth = Public | Signed | Ingest

PUBLIC = Public()
CLUSTER = Signed("cluster token", frozenset({TokenKind.CLUSTER}))
USER = Signed("user token", frozenset({TokenKind.USER, TokenKind.CLUSTER}))
METRICS = Signed("metrics token", frozenset({TokenKind.METRICS, TokenKind.USER, TokenKind.CLUSTER}))


def header(token: str) -> str:
    """The value of the Authorization header that presents `token`."""
    return SCHEME + token


def ingest(static: Mapping[str, tuple[str, ...]]) -> Ingest:
    """The key of the doors for records; `static` are the tokens of the settings by stream.

    Users may post only where no static tokens are configured.
    """

    def of(stream: str) -> tuple[str, ...]:
        return static.get(stream, static.get(ANY_STREAM, ()))

    return Ingest(of, open_to_users=not static)


def name_of(key: Auth) -> str:
    """What people call what opens a door."""
    match key:
        case Public():
            return "no token"
        case Signed(name=name):
            return name
        case Ingest():
            return "ingest token of the stream"


def admits(
    key: Auth, ring: Keyring, authorization: str | None, variables: Mapping[str, str], now: float
) -> Fault | None:
    """None when the Authorization header's value opens the door at `now` (unix seconds), else why not."""
    if isinstance(key, Public):
        return None
    if authorization is None:
        return Fault.NOTHING
    if not authorization.startswith(SCHEME):
        return Fault.GARBLED
    presented = authorization[len(SCHEME) :]
    if isinstance(key, Ingest) and _among(presented, key.static(variables["stream"])):
        return None
    found = ring.check(presented, now)
    if isinstance(found, Fault):
        return found
    return None if _opens(key, found, variables) else Fault.KIND


def admits_session(key: Auth, ring: Keyring, cookie: str, now: float) -> Fault | None:
    """The same for the cookie of a browser that asks by GET: a `user` token at a door for users."""
    found = ring.check(cookie, now)
    if isinstance(found, Fault):
        return found
    fits = isinstance(key, Signed) and found.kind is TokenKind.USER and found.kind in key.kinds
    return None if fits else Fault.KIND


def session_token(ring: Keyring, now: float) -> str:
    """The value of the session cookie of somebody who has just proved who they are."""
    return ring.mint(TokenKind.USER, "console", now, SESSION_TTL_S)


def _opens(key: Signed | Ingest, found: Token, variables: Mapping[str, str]) -> bool:
    if isinstance(key, Signed):
        return found.kind in key.kinds
    if found.kind is TokenKind.INGEST:
        return found.subject in (variables["stream"], ANY_STREAM)
    return key.open_to_users and found.kind in USER.kinds


def _among(presented: str, tokens: tuple[str, ...]) -> bool:
    # Every token is compared, so the time does not tell which one was near.
    given = presented.encode("utf-8", "surrogateescape")
    matches = [hmac.compare_digest(given, token.encode()) for token in tokens]
    return any(matches)

"""Who may enter which door. Pure: what was presented in, yes or no out.

Every door of a service has exactly one of three keys, and a door without a
stated key has the cluster's. Compared in constant time, as bytes; a header is
never logged. Several tokens may be valid at once, so that one can be replaced
without stopping anything: add the new one everywhere, then take the old one away.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from drizzle_streams.errors import ConfigError, explain

SCHEME = "Bearer "


@dataclass(frozen=True, slots=True)
class Public:
    """No token wanted."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """One of `tokens`; `name` is what people call it ("cluster token")."""

    name: str
    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.tokens or not all(_usable(token) for token in self.tokens):
            raise ConfigError(
                explain(
                    f"the {self.name}",
                    wanted="printable ASCII, no spaces",
                    found="an empty or unprintable one",
                    remedy="Make one with `openssl rand -hex 32`.",
                )
            )


@dataclass(frozen=True, slots=True)
class BearerOf:
    """A token that depends on what is asked for.

    `tokens` gets the path's variables (for instance the stream) and answers
    with the valid ones; none means that nobody may enter.
    """

    name: str
    tokens: Callable[[Mapping[str, str]], tuple[str, ...]]


Auth = Public | Bearer | BearerOf

PUBLIC = Public()


def cluster(token: str) -> Bearer:
    """The key of every service-to-service door, and of submit, stop and query."""
    return Bearer("cluster token", (token,))


def header(token: str) -> str:
    """The value of the Authorization header that presents `token`."""
    return SCHEME + token


def admits(auth: Auth, authorization: str | None, variables: Mapping[str, str]) -> bool:
    """True when the Authorization header's value opens the door."""
    match auth:
        case Public():
            return True
        case Bearer(tokens=tokens):
            return _matches(authorization, tokens)
        case BearerOf(tokens=tokens_of):
            return _matches(authorization, tokens_of(variables))


def _matches(authorization: str | None, tokens: tuple[str, ...]) -> bool:
    if authorization is None or not authorization.startswith(SCHEME):
        return False
    presented = authorization[len(SCHEME) :].encode("utf-8", "surrogateescape")
    # Every token is compared, so the time does not tell which one was near.
    matches = [hmac.compare_digest(presented, token.encode()) for token in tokens]
    return any(matches)


def _usable(token: str) -> bool:
    return bool(token) and all("!" <= character <= "~" for character in token)

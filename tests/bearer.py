"""What tests present at doors: tokens minted from the secret of their services."""

from __future__ import annotations

import time

from drizzle_streams.protocol.tokens import Keyring, Token, TokenKind
from drizzle_streams.transport.auth import header

TTL_S = 600.0


def bearer(secret: str, kind: TokenKind = TokenKind.CLUSTER, subject: str = "tests") -> str:
    """The Authorization header of somebody who holds the secret."""
    return header(minted(secret, kind, subject))


def minted(
    secret: str, kind: TokenKind = TokenKind.CLUSTER, subject: str = "tests", ttl_s: float = TTL_S
) -> str:
    return Keyring.parse(secret).mint(kind, subject, time.time(), ttl_s)


def kind_of(authorization: str, secret: str) -> TokenKind | None:
    """Of which kind a presented token is, if `secret` signed it."""
    found = Keyring.parse(secret).check(authorization.removeprefix("Bearer "), time.time())
    return found.kind if isinstance(found, Token) else None

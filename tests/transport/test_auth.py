"""Which header opens which door."""

from __future__ import annotations

import pytest

from drizzle_streams.protocol.tokens import CLOCK_SKEW_S, Fault, Keyring, TokenKind
from drizzle_streams.transport.auth import (
    CLUSTER,
    METRICS,
    PUBLIC,
    USER,
    Auth,
    admits,
    admits_session,
    header,
    ingest,
    name_of,
    session_token,
)

SECRET = "secret-of-the-tests"
RING = Keyring((SECRET,))
NOW = 1_800_000_000.0
STREAM = {"stream": "clicks"}
DOORS: dict[str, Auth] = {
    "public": PUBLIC,
    "cluster": CLUSTER,
    "user": USER,
    "metrics": METRICS,
    "ingest": ingest({}),
    "ingest with static tokens": ingest({"clicks": ("c-1", "c-2"), "*": ("any",)}),
}
OPENED_BY = {
    "public": set(TokenKind),
    "cluster": {TokenKind.CLUSTER},
    "user": {TokenKind.CLUSTER, TokenKind.USER},
    "metrics": {TokenKind.CLUSTER, TokenKind.USER, TokenKind.METRICS},
    "ingest": {TokenKind.CLUSTER, TokenKind.USER, TokenKind.INGEST},
    "ingest with static tokens": {TokenKind.INGEST},
}


def token(kind: TokenKind, subject: str = "clicks", ttl_s: float = 60.0, ring: Keyring = RING) -> str:
    return header(ring.mint(kind, subject, NOW, ttl_s))


def test_a_public_door_is_open() -> None:
    assert admits(PUBLIC, RING, None, {}, NOW) is None
    assert admits(PUBLIC, RING, "nonsense", {}, NOW) is None


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", TokenKind)
def test_each_kind_opens_its_doors_and_no_others(door: str, kind: TokenKind) -> None:
    wanted = None if kind in OPENED_BY[door] else Fault.KIND
    assert admits(DOORS[door], RING, token(kind), STREAM, NOW) is wanted


@pytest.mark.parametrize("door", sorted(set(DOORS) - {"public"}))
def test_nothing_strange_or_old_opens_any(door: str) -> None:
    key = DOORS[door]
    assert admits(key, RING, None, STREAM, NOW) is Fault.NOTHING
    for strange in (
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {SECRET}",
        f"Basic {SECRET}",
        token(TokenKind.CLUSTER).replace("Bearer", "bearer"),
        token(TokenKind.CLUSTER) + " ",
        token(TokenKind.CLUSTER, ring=Keyring(("another-secret-of-tests",))),
        "Bearer c-3",
        "Bearer s\u00e9cret",
        "Bearer \udcff",
    ):
        assert admits(key, RING, strange, STREAM, NOW) is Fault.GARBLED, strange
    later = NOW + 60 + CLOCK_SKEW_S + 1
    assert admits(key, RING, token(TokenKind.INGEST), STREAM, later) is Fault.EXPIRED
    assert admits(key, RING, token(TokenKind.CLUSTER), STREAM, later) is Fault.EXPIRED


def test_an_ingest_token_is_for_its_stream_or_for_any() -> None:
    key = DOORS["ingest"]
    assert admits(key, RING, token(TokenKind.INGEST, "views"), STREAM, NOW) is Fault.KIND
    assert admits(key, RING, token(TokenKind.INGEST, "*"), STREAM, NOW) is None


def test_a_static_ingest_token_is_for_its_stream() -> None:
    key = DOORS["ingest with static tokens"]
    for opens in ("c-1", "c-2"):
        assert admits(key, RING, header(opens), STREAM, NOW) is None
    assert admits(key, RING, header("any"), STREAM, NOW) is Fault.GARBLED
    assert admits(key, RING, header("any"), {"stream": "views"}, NOW) is None
    assert admits(USER, RING, header("c-1"), STREAM, NOW) is Fault.GARBLED


def test_a_cookie_is_a_users_at_doors_for_users() -> None:
    cookie = session_token(RING, NOW)
    assert admits_session(USER, RING, cookie, NOW) is None
    assert admits_session(METRICS, RING, cookie, NOW) is None
    assert admits_session(CLUSTER, RING, cookie, NOW) is Fault.KIND
    assert admits_session(DOORS["ingest"], RING, cookie, NOW) is Fault.KIND
    assert admits_session(USER, RING, cookie, NOW + 86_400) is Fault.EXPIRED
    assert admits_session(USER, RING, "x", NOW) is Fault.GARBLED
    stronger = RING.mint(TokenKind.CLUSTER, "x", NOW, 60)
    assert admits_session(USER, RING, stronger, NOW) is Fault.KIND


def test_keys_have_names() -> None:
    assert {name_of(key) for key in DOORS.values()} == {
        "no token",
        "cluster token",
        "user token",
        "metrics token",
        "ingest token of the stream",
    }

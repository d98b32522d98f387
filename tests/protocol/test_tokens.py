"""Tokens and seals: what is signed is believed, everything else is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.errors import ConfigError, ProtocolError
from drizzle_streams.protocol.tokens import (
    CLOCK_SKEW_S,
    SECRETS_MAX,
    Fault,
    Keyring,
    Token,
    TokenKind,
    credential,
)

OLD, NEW = "old-secret-of-tests", "new-secret-of-tests"
RING = Keyring((NEW,))
NOW = 1_800_000_000.0
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."


def test_the_format_is_as_documented() -> None:
    token = RING.mint(TokenKind.INGEST, "ad-events", NOW, 60)
    said, _, signature = token.rpartition(".")
    assert said == "drz1.ingest.ad-events.1800000060"
    digest = hmac.new(NEW.encode(), said.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == signature
    assert NEW not in token


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("subject", ["*", "ad-events", "a.b_c-d", "worker-1-abc123", "x" * 128])
def test_what_was_minted_is_read(kind: TokenKind, subject: str) -> None:
    token = RING.mint(kind, subject, NOW, 60)
    assert RING.check(token, NOW) == Token(kind, subject, int(NOW) + 60)


def test_the_end_allows_for_clocks_that_differ() -> None:
    token = RING.mint(TokenKind.USER, "me", NOW, 60)
    assert isinstance(RING.check(token, NOW - 86_400), Token), "a clock that is behind"
    assert isinstance(RING.check(token, NOW + 60 + CLOCK_SKEW_S), Token)
    assert RING.check(token, NOW + 60 + CLOCK_SKEW_S + 0.1) is Fault.EXPIRED


@given(at=st.integers(0, 200), character=st.sampled_from(ALPHABET))
def test_no_character_can_be_changed(at: int, character: str) -> None:
    token = RING.mint(TokenKind.INGEST, "ad-events", NOW, 60)
    at %= len(token)
    changed = token[:at] + character + token[at + 1 :]
    if changed != token:
        assert RING.check(changed, NOW) is Fault.GARBLED


@given(st.text(max_size=600))
def test_noise_is_no_token(text: str) -> None:
    assert RING.check(text, NOW) is Fault.GARBLED


def test_fields_cannot_slide_into_each_other() -> None:
    token = RING.mint(TokenKind.INGEST, "a", NOW, 60)
    _, kind, subject, expires, signature = token.split(".")
    assert RING.check(f"drz1.{kind}.{subject}.9{expires}.{signature}", NOW) is Fault.GARBLED
    assert RING.check(f"drz1.user.{subject}.{expires}.{signature}", NOW) is Fault.GARBLED
    assert RING.check(token + "=", NOW) is Fault.GARBLED
    assert RING.check(token + "\n", NOW) is Fault.GARBLED
    assert RING.check(f"drz1.{kind}.{subject}.\u0661.{signature}", NOW) is Fault.GARBLED


def test_a_kind_of_another_release_is_none() -> None:
    said = f"drz1.root.me.{int(NOW) + 60}"
    digest = hmac.new(NEW.encode(), said.encode(), hashlib.sha256).digest()
    token = f"{said}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
    assert RING.check(token, NOW) is Fault.GARBLED


def test_a_secret_is_replaced_in_three_steps() -> None:
    rings = [Keyring.parse(text) for text in (OLD, f"{OLD},{NEW}", f"{NEW},{OLD}", NEW)]
    for before, after in pairwise(rings):
        for minter, checker in ((before, after), (after, before)):
            assert isinstance(checker.check(minter.mint(TokenKind.CLUSTER, "w", NOW, 60), NOW), Token)
    assert rings[3].check(rings[0].mint(TokenKind.CLUSTER, "w", NOW, 60), NOW) is Fault.GARBLED


MANY = ",".join("a" * (SECRETS_MAX + 1))


@pytest.mark.parametrize("text", ["", "two words", "a,", ",a", "a\nb", "\u00e9", MANY])
def test_what_is_no_secret_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigError, match=r"cluster's secret: wanted printable ASCII.*found something else"):
        Keyring.parse(text)


def test_a_minted_token_is_no_secret() -> None:
    with pytest.raises(ConfigError, match="found a minted token"):
        Keyring.parse(RING.mint(TokenKind.USER, "me", NOW, 60))


def test_a_keyring_shows_no_secret() -> None:
    assert NEW not in repr(RING)


@pytest.mark.parametrize("subject", ["", "x" * 129, "a b", "a\n", "\u00e9", "a/b"])
def test_an_odd_subject_is_refused(subject: str) -> None:
    with pytest.raises(ProtocolError, match="the subject of a token"):
        RING.mint(TokenKind.INGEST, subject, NOW, 60)


def test_a_client_presents_what_it_was_given_or_mints() -> None:
    given_token = RING.mint(TokenKind.USER, "me", NOW, 60)
    assert credential(given_token, TokenKind.CLUSTER, NOW) == given_token
    minted = RING.check(credential(NEW, TokenKind.USER, NOW), NOW)
    assert isinstance(minted, Token)
    assert (minted.kind, minted.subject) == (TokenKind.USER, "client")


def test_a_person_may_prove_to_know_the_secret() -> None:
    ring = Keyring((NEW, OLD))
    assert ring.is_secret(NEW)
    assert ring.is_secret(OLD)
    for other in ("", NEW + "x", NEW[:-1], "\udcff"):
        assert not ring.is_secret(other)


# --- seals -------------------------------------------------------------------------------------


def test_what_was_sealed_is_opened() -> None:
    for data in (b"", b"x", b"x" * 100_000):
        assert RING.unseal("ysb", RING.seal("ysb", data)) == data


@given(at=st.integers(0, 10_000), change=st.integers(1, 255))
def test_no_byte_can_be_changed(at: int, change: int) -> None:
    sealed = bytearray(RING.seal("ysb", b"a program"))
    sealed[at % len(sealed)] ^= change
    with pytest.raises(ProtocolError, match="the seal of ysb"):
        RING.unseal("ysb", bytes(sealed))


def test_a_seal_is_of_a_name_and_a_secret() -> None:
    sealed = RING.seal("ysb", b"a program")
    for ring, name, data in (
        (RING, "other", sealed),
        (Keyring((OLD,)), "ysb", sealed),
        (RING, "ysb", b""),
        (RING, "ysb", sealed[:20]),
        (RING, "ysb", b"a program"),
    ):
        with pytest.raises(ProtocolError, match="the seal of"):
            ring.unseal(name, data)
    assert Keyring((OLD, NEW)).unseal("ysb", sealed) == b"a program"


def test_a_name_does_not_run_into_the_data() -> None:
    with pytest.raises(ProtocolError):
        RING.unseal("ab", RING.seal("a", b"b:"))

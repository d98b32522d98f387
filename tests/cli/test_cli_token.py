"""`drizzle token`: what it prints opens what it says, and it asks nobody."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from drizzle_streams.local.found import STATE_DIRECTORY, leave_note
from drizzle_streams.protocol.tokens import Fault, Keyring, Token, TokenKind
from tests.cli.said import Drizzle

SECRET = "secret-of-the-tests"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("DRIZZLE_TOKEN", SECRET)


def read(token: str, at: float | None = None, secret: str = SECRET) -> Token | Fault:
    return Keyring((secret,)).check(token.strip(), at or time.time())


@pytest.mark.parametrize(
    ("arguments", "kind", "subject"),
    [
        ((), TokenKind.USER, "user"),
        (("--name", "ann"), TokenKind.USER, "ann"),
        (("--kind", "ingest"), TokenKind.INGEST, "*"),
        (("--kind", "ingest", "--stream", "ad-events"), TokenKind.INGEST, "ad-events"),
        (("--kind", "metrics"), TokenKind.METRICS, "metrics"),
    ],
)
def test_a_token_of_each_kind(
    drizzle: Drizzle, arguments: tuple[str, ...], kind: TokenKind, subject: str
) -> None:
    said = drizzle("token", *arguments)
    assert (said.code, said.error) == (0, "")
    found = read(said.out)
    assert isinstance(found, Token)
    assert (found.kind, found.subject) == (kind, subject)


def test_it_ends_when_it_was_said_to(drizzle: Drizzle) -> None:
    token = drizzle("token", "--ttl", "2h").out
    assert isinstance(read(token, time.time() + 7_000), Token)
    assert read(token, time.time() + 7_300) is Fault.EXPIRED


def test_the_secret_of_the_note(drizzle: Drizzle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRIZZLE_TOKEN")
    leave_note(folder / STATE_DIRECTORY, "http://127.0.0.1:1", "of-the-note")
    assert isinstance(read(drizzle("token").out, secret="of-the-note"), Token)


def test_without_a_secret_it_says_where_one_is_looked_for(
    drizzle: Drizzle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DRIZZLE_TOKEN")
    said = drizzle("token")
    assert said.code == 2
    assert "DRIZZLE_TOKEN_FILE" in said.error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--ttl", "soon"), "--ttl: wanted a duration"),
        (("--ttl", "0s"), "--ttl: wanted 1s to 366d"),
        (("--ttl", "367d"), "--ttl: wanted 1s to 366d"),
        (("--kind", "ingest", "--stream", "a b"), "the subject of a token"),
    ],
)
def test_mistakes(drizzle: Drizzle, arguments: tuple[str, ...], words: str) -> None:
    said = drizzle("token", *arguments)
    assert said.code == 2
    assert words in said.error
    assert said.error.count("\n") == 1


def test_a_token_makes_no_tokens(drizzle: Drizzle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIZZLE_TOKEN", drizzle("token").out.strip())
    said = drizzle("token")
    assert said.code == 2
    assert "found a minted token" in said.error

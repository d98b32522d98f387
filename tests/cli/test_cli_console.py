"""`drizzle console`: a link to the leading coordinator, good for minutes, made without sending the secret."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

import pytest

from drizzle_streams.coordinator.console_session import ENTER_PATH, TICKET_TTL_S
from drizzle_streams.local.desktop import has_desktop
from drizzle_streams.protocol.tokens import Keyring, Token, TokenKind
from tests.cli.said import Drizzle

SECRET = "secret-of-the-tests"


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIZZLE_TOKEN", SECRET)


def test_the_link_of_a_single_coordinator_is_made_without_asking_it(drizzle: Drizzle, dead_port: int) -> None:
    said = drizzle("console", "--cluster", f"http://127.0.0.1:{dead_port}/")
    link = urlsplit(said.out.strip())
    assert (said.code, link.netloc, link.path) == (0, f"127.0.0.1:{dead_port}", ENTER_PATH)
    (ticket,) = parse_qs(link.query)["ticket"]
    found = Keyring.parse(SECRET).check(ticket, time.time())
    assert isinstance(found, Token)
    assert found.kind is TokenKind.USER
    assert found.expires - time.time() <= TICKET_TTL_S
    assert SECRET not in said.out


def test_a_browser_may_reach_it_at_another_address(drizzle: Drizzle, dead_port: int) -> None:
    inside = f"http://127.0.0.1:{dead_port},http://127.0.0.1:{dead_port}"
    said = drizzle("console", "--cluster", inside, "--at", "http://127.0.0.1:7070/")
    assert said.out.startswith(f"http://127.0.0.1:7070{ENTER_PATH}?ticket=")


@pytest.mark.parametrize("opens", [True, False])
def test_it_is_opened_where_there_is_a_browser_and_printed_where_not(
    drizzle: Drizzle, dead_port: int, monkeypatch: pytest.MonkeyPatch, opens: bool
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda link: opened.append(link) or opens)
    said = drizzle("console", "--open", "--cluster", f"http://127.0.0.1:{dead_port}")
    assert len(opened) == 1
    assert said.out == ("" if opens else f"{opened[0]}\n")


@pytest.mark.parametrize(
    ("environ", "platform", "wanted"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, "linux", False),
        ({}, "darwin", True),
    ],
)
def test_a_desktop_is_where_windows_can_be_shown(
    environ: dict[str, str], platform: str, wanted: bool
) -> None:
    assert has_desktop(environ, platform) is wanted

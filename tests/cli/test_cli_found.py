"""Which cluster a command talks to: the flag's, the environment's, or the one `drizzle up` left a note of."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from drizzle_streams.local.found import STATE_DIRECTORY, leave_note, remove_note
from drizzle_streams.protocol.tokens import TokenKind
from tests.bearer import kind_of, minted
from tests.cli.said import Drizzle


class Coordinator(ThreadingHTTPServer):
    """Answers as told, and remembers who asked with which token."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.answer: tuple[int, bytes] = (200, b'{"jobs": []}')
        self.asked: list[tuple[str, str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answers(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        assert isinstance(self.server, Coordinator)
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization", "")))
        status, body = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_DELETE = _answer  # noqa: N815 - the names are http.server's

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base has it
        return


@pytest.fixture
def coordinator() -> Iterator[Coordinator]:
    with Coordinator() as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def test_the_note_of_drizzle_up(drizzle: Drizzle, coordinator: Coordinator, folder: Path) -> None:
    leave_note(folder / STATE_DIRECTORY, coordinator.address, "of-the-note")
    assert drizzle("jobs").code == 0
    [(method, path, shown)] = coordinator.asked
    assert (method, path, kind_of(shown, "of-the-note")) == ("GET", "/jobs", TokenKind.USER)


def test_the_secret_stays_here_and_a_minted_token_is_shown_as_it_is(
    drizzle: Drizzle, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = minted("secret-of-the-tests", TokenKind.USER)
    for given in ("secret-of-the-tests", token):
        monkeypatch.setenv("DRIZZLE_TOKEN", given)
        assert drizzle("jobs", "--cluster", coordinator.address).code == 0
    assert all("secret-of-the-tests" not in shown for _, _, shown in coordinator.asked)
    assert coordinator.asked[1][2] == f"Bearer {token}"


def test_only_its_user_may_read_the_note(folder: Path) -> None:
    place = folder / STATE_DIRECTORY
    leave_note(place, "http://127.0.0.1:1", "old")
    leave_note(place, "http://127.0.0.1:2", "new")
    [note] = place.iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    assert json.loads(note.read_text()) == {"cluster": "http://127.0.0.1:2", "token": "new", "supervisor": ""}
    remove_note(place)
    remove_note(place)
    assert not list(place.iterdir())


def test_the_flag_beats_the_environment_which_beats_the_note(
    drizzle: Drizzle, coordinator: Coordinator, folder: Path, monkeypatch: pytest.MonkeyPatch, dead_port: int
) -> None:
    dead = f"http://127.0.0.1:{dead_port}"
    leave_note(folder / STATE_DIRECTORY, dead, "of-the-note")
    monkeypatch.setenv("DRIZZLE_TOKEN", "of-the-environment")
    monkeypatch.setenv("DRIZZLE_CLUSTER", coordinator.address)
    assert drizzle("jobs").code == 0
    monkeypatch.setenv("DRIZZLE_CLUSTER", dead)
    assert drizzle("jobs").code == 2
    assert drizzle("jobs", "--cluster", coordinator.address).code == 0
    assert len(coordinator.asked) == 2
    assert all(kind_of(shown, "of-the-environment") for _, _, shown in coordinator.asked)


def test_a_note_that_cannot_be_read(drizzle: Drizzle, folder: Path) -> None:
    (folder / STATE_DIRECTORY).mkdir()
    (folder / STATE_DIRECTORY / "cluster.json").write_text("{")
    said = drizzle("jobs")
    assert said.code == 2
    assert "cluster.json" in said.error
    assert said.error.count("\n") == 1


def test_a_refusal_is_told_in_the_coordinators_words(
    drizzle: Drizzle, coordinator: Coordinator, folder: Path
) -> None:
    leave_note(folder / STATE_DIRECTORY, coordinator.address, "t0ken")
    words = {"thing": "job 'ysb'", "wanted": "a job", "found": "none", "remedy": "GET /jobs lists them."}
    coordinator.answer = 404, json.dumps({"error": words}).encode()
    said = drizzle("stop", "ysb/1")
    assert said.code == 2
    assert said.error == "drizzle: job 'ysb': wanted a job, found none. GET /jobs lists them.\n"
    [(method, path, shown)] = coordinator.asked
    assert (method, path, kind_of(shown, "t0ken")) == ("DELETE", "/jobs/ysb%2F1", TokenKind.USER)


@pytest.mark.parametrize("answer", [(200, b"<html>"), (500, b"<html>"), (404, b'{"error": 7}')])
def test_something_else_listens_there(
    drizzle: Drizzle, coordinator: Coordinator, folder: Path, answer: tuple[int, bytes]
) -> None:
    leave_note(folder / STATE_DIRECTORY, coordinator.address, "t0ken")
    coordinator.answer = answer
    said = drizzle("jobs")
    assert said.code == 2
    assert coordinator.address in said.error
    assert said.error.count("\n") == 1

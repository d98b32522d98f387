"""The small programs that containers start with, without containers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy import healthy, make_secret
from drizzle_streams.protocol.tokens import Keyring, Token, TokenKind


class Answers(BaseHTTPRequestHandler):
    """`/readyz` is not ready, everything else is well."""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == "/readyz" else 200)
        self.end_headers()
        self.wfile.write(b"not welcomed yet" if self.path == "/readyz" else b"alive")

    def log_request(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        monkeypatch.setenv("DRIZZLE_PORT", str(server.server_port))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_healthy_is_an_answer_of_200(
    service: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["healthy.py", "/healthz"])
    assert healthy.main() == 0
    monkeypatch.setattr("sys.argv", ["healthy.py"])
    assert healthy.main() == 1
    assert capsys.readouterr().out == f"/readyz on port {service}: not welcomed yet\n"


def test_nobody_there_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["healthy.py", "/healthz"])
    monkeypatch.setenv("DRIZZLE_PORT", "1")
    assert healthy.main() == 1
    assert "refused" in capsys.readouterr().out


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.delenv("DRIZZLE_TOKEN", raising=False)
    secret, metrics = tmp_path / "secret", tmp_path / "token"
    monkeypatch.setattr(make_secret, "SECRET", secret)
    monkeypatch.setattr(make_secret, "METRICS_TOKEN", metrics)
    return secret, metrics


def test_the_secret_is_made_once_and_the_metrics_token_each_time(places: tuple[Path, Path]) -> None:
    secret, metrics = places
    make_secret.main()
    made = secret.read_text()
    assert len(made) == 64
    assert secret.stat().st_mode & 0o777 == 0o400
    token = Keyring.parse(made).check(metrics.read_text(), time.time())
    assert isinstance(token, Token)
    assert token.kind is TokenKind.METRICS
    metrics.chmod(0o600)
    metrics.write_text("an old one")
    make_secret.main()
    assert secret.read_text() == made
    assert metrics.read_text() != "an old one"


def test_a_secret_of_ones_own_takes_the_place_of_the_one_made(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, metrics = places
    make_secret.main()
    monkeypatch.setenv("DRIZZLE_TOKEN", "new-secret-of-32-characters-0000,old-secret-of-32-characters-0000")
    make_secret.main()
    assert secret.read_text().startswith("new-secret")
    found = Keyring.parse("new-secret-of-32-characters-0000").check(metrics.read_text(), time.time())
    assert isinstance(found, Token)

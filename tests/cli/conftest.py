"""Commands run in this process, in an empty folder, with nothing of ours in the environment."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from drizzle_streams.cli.main import main
from tests.cli.said import Drizzle, Said


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DRIZZLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def drizzle(capsys: pytest.CaptureFixture[str]) -> Drizzle:
    def run(*arguments: str) -> Said:
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as ended:  # argparse ends the process itself
            code = ended.code if isinstance(ended.code, int) else 1
        wrote = capsys.readouterr()
        return Said(code, wrote.out, wrote.err)

    return run


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody listens on, and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def dead_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

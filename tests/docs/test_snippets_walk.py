"""README's walk on a local cluster, walked: its own lines, in a shell, with real processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from drizzle_streams.local.ports import free_port
from tests.docs.pages import ROOT, codes

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the walk posts with curl"),
]
UP_S = 60.0


def block(mark: tuple[str, str]) -> str:
    (found,) = [code.text for code in codes(ROOT / "README.md") if code.mark == mark]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A reader's folder: the job saved, and `.venv` where README has it."""
    (tmp_path / "job.py").write_text(block(("file", "job.py")))
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return tmp_path


@pytest.fixture
def source(folder: Path) -> Iterator[str]:
    """A cluster, as README starts it but on a port of its own; gives the address of a source."""
    script = block(("run", "up")).replace("drizzle up", f"exec drizzle up --port {free_port()}")
    process = subprocess.Popen(
        ["sh", "-ec", script],
        cwd=folder,
        env=quiet(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = ""
        while not (found := re.search(r"sources +(http://[\w.:]+)", said)):
            line = process.stdout.readline()
            assert line, f"it ended before it was up: {said}"
            said += line
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=UP_S)
    assert process.returncode == 0, said + rest


def quiet() -> dict[str, str]:
    """The environment without settings of ours, so that the commands find the cluster by its note."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DRIZZLE_")}


def test_the_walk_of_the_readme(folder: Path, source: str) -> None:
    script, replaced = re.subn(r"^SOURCE=\S+", f"SOURCE={source}", block(("run", "walk")), flags=re.MULTILINE)
    assert replaced == 1
    walked = subprocess.run(
        ["sh", "-exc", script],
        cwd=folder,
        env=quiet(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert walked.returncode == 0, walked.stderr
    for said in ("job ysb runs on", '"records": 5000', "source-1", "running", "job ysb stops"):
        assert said in walked.stdout, walked.stdout
    assert re.search(r"exact\W+yes", walked.stderr), walked.stderr

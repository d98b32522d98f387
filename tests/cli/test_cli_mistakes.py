"""What goes wrong for a person is one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.said import Drizzle, Said


def refused(said: Said, *words: str) -> None:
    """One line on standard error that holds the words; exit code 2."""
    assert said.code == 2, said
    assert said.error.startswith("drizzle: "), said
    assert said.error.count("\n") == 1, said
    assert "Traceback" not in said.error + said.out
    for word in words:
        assert word in said.error, said.error


# --- where the cluster is ------------------------------------------------------------------


@pytest.mark.parametrize("command", [["status"], ["jobs"], ["stop", "ysb"]])
def test_no_cluster_is_known(drizzle: Drizzle, command: list[str]) -> None:
    refused(drizzle(*command), "DRIZZLE_CLUSTER", "`drizzle up`")


@pytest.mark.parametrize("command", [["status"], ["jobs"], ["stop", "ysb"]])
def test_the_cluster_does_not_answer(
    drizzle: Drizzle, monkeypatch: pytest.MonkeyPatch, dead_port: int, command: list[str]
) -> None:
    monkeypatch.setenv("DRIZZLE_TOKEN", "secret-of-the-tests")
    address = f"http://127.0.0.1:{dead_port}"
    refused(drizzle(*command, "--cluster", address), address, "Connection refused", "`drizzle up`")


def test_submit_to_a_cluster_that_does_not_answer(
    drizzle: Drizzle, monkeypatch: pytest.MonkeyPatch, dead_port: int, folder: Path
) -> None:
    monkeypatch.setenv("DRIZZLE_TOKEN", "secret-of-the-tests")
    (folder / "job.py").write_text(JOB)
    address = f"http://127.0.0.1:{dead_port}"
    refused(drizzle("submit", "job.py", "--cluster", address), address, "Connection refused")


@pytest.mark.parametrize(
    "address", ["nonsense", "ftp://127.0.0.1", "http://", "127.0.0.1:7070", "http://a:b"]
)
def test_an_address_that_is_none(drizzle: Drizzle, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("DRIZZLE_TOKEN", "secret-of-the-tests")
    refused(drizzle("status", "--cluster", address), "address", "http://host:port", repr(address))


# --- job files -----------------------------------------------------------------------------

JOB = """
import polars as pl
import drizzle_streams as dz

words = dz.stream("words", schema={"word": pl.String})
job = words.group_by("word").agg(times=dz.count()).to(dz.redis("words")).job("count")
"""


def test_a_job_file_that_is_not_there(drizzle: Drizzle) -> None:
    refused(drizzle("submit", "nowhere.py"), "nowhere.py", "no such file")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nowhere\n", ["line 1", "No module named 'nowhere'"]),
        ("\n\nx = (\n", ["line 3", "SyntaxError"]),
        ("x = 1\n", ["a job in a global name"]),
        (JOB.replace('group_by("word")', 'group_by("wort")'), ["line 6", "'wort'", "word"]),
        ("raise SystemExit('no more')\n", ["line 1", "no more"]),
    ],
)
def test_a_job_file_that_does_not_run(drizzle: Drizzle, folder: Path, text: str, words: list[str]) -> None:
    (folder / "job.py").write_text(text)
    refused(drizzle("submit", "job.py"), "job.py", *words)


# --- numbers and words ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--rate", "0"],
        ["demo", "--seconds", "nan"],
        ["demo", "--seconds", "soon"],
        ["demo", "--workers", "0"],
        ["demo", "--kill", "everybody"],
        ["demo", "--scheduling", "sometimes"],
        ["up", "--port", "65536"],
        ["up", "--workers", "-1"],
        ["stop"],
        ["rain"],
    ],
)
def test_arguments_that_cannot_be(drizzle: Drizzle, arguments: list[str]) -> None:
    said = drizzle(*arguments)
    assert said.code == 2
    assert "error: " in said.error.splitlines()[-1]
    assert "Traceback" not in said.error


def test_a_window_that_is_no_duration(drizzle: Drizzle) -> None:
    refused(drizzle("demo", "--window", "ten"), "--window", "'ten'", '"10s"')


# --- services that cannot start ------------------------------------------------------------


def test_up_with_a_port_that_is_taken(drizzle: Drizzle, taken_port: int) -> None:
    refused(drizzle("up", "--port", str(taken_port)), f"127.0.0.1:{taken_port}", "another process", "port")


def test_up_in_a_place_that_cannot_be_written(drizzle: Drizzle, folder: Path) -> None:
    (folder / "file").write_text("not a directory")
    refused(drizzle("up", "--dir", "file/state", "--port", "1"), "state directory", "--dir")


@pytest.mark.parametrize("command", ["coordinator", "worker", "source"])
def test_a_service_without_the_token(drizzle: Drizzle, command: str) -> None:
    refused(drizzle(command), "DRIZZLE_TOKEN", "DRIZZLE_TOKEN_FILE")


@pytest.mark.parametrize("command", ["coordinator", "worker", "source"])
def test_a_service_with_a_setting_that_cannot_be(
    drizzle: Drizzle, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("DRIZZLE_TOKEN", "secret-of-the-tests")
    refused(drizzle(command, "--port", "many"), "--port", "'many'", "a whole number")


def as_process(command: str, *arguments: str, outage_s: float = 0.2) -> Said:
    """A service as a process of its own, which gives Redis `outage_s` seconds instead of 20 to come up."""
    code = (
        "import sys\nfrom functools import partial\nfrom drizzle_streams.stores import redis_link\n"
        f"redis_link.LinkBounds = partial(redis_link.LinkBounds, outage_s_max={outage_s})\n"
        "from drizzle_streams.cli.main import main\nsys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, command, *arguments],
        check=False,
        env={"DRIZZLE_TOKEN": "secret-of-the-tests", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=60,
        text=True,
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize("command", ["coordinator", "worker"])
def test_a_service_whose_redis_does_not_answer(command: str, dead_port: int) -> None:
    said = as_process(command, "--redis-url", f"redis://:hunter2@127.0.0.1:{dead_port}/0", "--port", "0")
    assert (said.code, said.out) == (2, "")
    last = said.error.splitlines()[-1]
    assert last.startswith(f"drizzle: Redis at 127.0.0.1:{dead_port}"), said.error
    assert "Traceback" not in said.error
    assert "hunter2" not in said.error, "the password is nobody's business"


def test_a_source_whose_port_is_taken(taken_port: int, folder: Path) -> None:
    said = as_process("source", "--port", str(taken_port), "--name", "source-1")
    assert said.code == 2
    last = said.error.splitlines()[-1]
    assert last.startswith("drizzle: ")
    assert f"127.0.0.1:{taken_port}" in last
    assert "another process" in last
    assert "Traceback" not in said.error

"""The walk of docs/cli.md, as it stands there, on a cluster of real processes; and its profiles."""

from __future__ import annotations

import json
import shlex
import tomllib

import pytest

from drizzle_streams.api.profiles import KNOWN
from drizzle_streams.local.ports import free_port
from tests.cluster.drizzle_commands import Place, doors_of, until
from tests.docs.pages import ROOT, codes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

PAGE = ROOT / "docs" / "cli.md"
JOB_FILE = """
import polars as pl
import drizzle_streams as dz

stream = dz.stream("words", schema={"word": pl.String})
job = stream.group_by("word").agg(times=dz.count()).to(dz.redis("words")).job("words", batch_interval="20ms")
"""


def test_the_walk_works_as_it_is_written(place: Place) -> None:
    [walk] = [code for code in codes(PAGE, "sh") if code.mark[0] == "walk"]
    (place.folder / "job.py").write_text(JOB_FILE)
    running = place.start("up", "--port", str(free_port()), "--workers", "2", "--sources", "1", "--standby")
    running.says("Drizzle is up")

    said: dict[str, str] = {}
    for line in walk.text.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "drizzle"
        done = place.run(*arguments)
        assert done.code == 0, (line, done.said())
        said[line] = done.said()

    assert "job words runs on" in said["drizzle submit job.py"]
    assert "job words: running" in said["drizzle status"]
    assert "workers: worker-1, worker-2, worker-3\n" in said["drizzle scale --workers 3"]
    assert "workers: worker-1, worker-2\n" in said["drizzle scale --workers 2"]
    assert "JobPlaced" in said["drizzle story --job words"]
    assert "JobAssigned" in said["drizzle story --service worker-1"]
    [job] = json.loads(said["drizzle jobs --json"])["jobs"]
    assert job["phase"] == "running"
    assert "job words: stopped" in said["drizzle stop words --wait"]

    running.interrupt()
    assert running.ended() == 0, running.said()
    assert place.left_behind() == ([], [])


def test_scaling_while_a_job_runs_moves_what_is_there(place: Place) -> None:
    (place.folder / "job.py").write_text(JOB_FILE)
    running = place.start("up", "--port", str(free_port()), "--workers", "1", "--sources", "1")
    running.says("Drizzle is up")
    doors = doors_of(place.folder / ".drizzle")
    assert place.run("submit", "job.py", "--detach").code == 0

    def owners() -> list[str]:
        values = doors.ask("/jobs/words")
        return sorted(worker.rpartition("-")[0] for worker in values["placement"]) if values else []

    until("one worker has everything", lambda: owners() == ["worker-1"])
    assert place.run("scale", "--workers", "2").code == 0
    until("the new one has its share", lambda: owners() == ["worker-1", "worker-2"])
    assert place.run("scale", "--workers", "1").code == 0
    until("the first one has everything again", lambda: owners() == ["worker-1"])
    before = doors.ask("/jobs/words")["batches_done"]
    until("it goes on", lambda: doors.ask("/jobs/words")["batches_done"] > before + 20)
    assert not [line for line in place.processes().values() if "--name worker-2" in line]
    running.interrupt()
    assert running.ended() == 0, running.said()
    assert place.left_behind() == ([], [])


def test_the_profiles_that_the_page_shows_can_be_read() -> None:
    [shown] = codes(PAGE, "toml")
    contents = tomllib.loads(shown.text)
    assert contents["default"] in contents["profiles"]
    assert all(table.keys() <= KNOWN for table in contents["profiles"].values())

"""`drizzle source`, started by hand while a job runs: its records count, once, whoever is killed then."""

from __future__ import annotations

import itertools
import os
import signal

import pytest
import redis

from drizzle_streams.local.ports import free_port
from tests.cluster.drizzle_commands import ClusterDoors, Place, Running, doors_of, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

JOB_FILE = """
import polars as pl
import drizzle_streams as dz

words = dz.stream("words", schema={"word": pl.String})
counts = words.group_by("word").agg(times=dz.count())
job = counts.to(dz.redis("words")).job("count", batch_interval="20ms", checkpoint_interval="200ms")
"""
LATE = "source-9"
NUMBERS = itertools.count(1)
"""Of posts, over all sources and tests."""


def post(doors: ClusterDoors, source: str, times: int) -> None:
    """Records are taken as soon as the source answers, whether it is a member by then or not.

    A post whose answer does not come in time is repeated under its number, and counts once.
    """
    body = b'{"word": "rain"}\n' * times
    headers = {
        "Content-Type": "application/x-ndjson",
        "Drizzle-Producer": "test",
        "Drizzle-Sequence": str(next(NUMBERS)),
    }

    def taken() -> bool:
        try:
            return doors.send(source, "/streams/words/records", body, headers)[0] == 200
        except OSError:  # it does not listen yet
            return False

    until(f"{source} takes records", taken)


def counted(doors: ClusterDoors) -> int:
    with redis.Redis.from_url(doors.redis_url) as client:
        return int(client.hget("words:rain", "times") or 0)


def become(doors: ClusterDoors, times: int) -> None:
    until(f"{times} are counted", lambda: counted(doors) == times)


def late_source(place: Place, doors: ClusterDoors) -> Running:
    address = doors.address("coordinator")
    named = ("--name", LATE, "--port", str(doors.ports[LATE]), "--data-dir", "late")
    return place.start("source", *named, "--coordinator", address, DRIZZLE_TOKEN=doors.token)


def test_a_source_that_joins_a_running_job_is_read_exactly_once(place: Place) -> None:
    (place.folder / "job.py").write_text(JOB_FILE)
    port = free_port()
    cluster = place.start("up", "--port", str(port), "--workers", "2", "--sources", "1")
    cluster.says("Drizzle is up")
    doors = doors_of(place.folder / ".drizzle")
    assert place.run("submit", "job.py").code == 0
    post(doors, "source-1", 100)
    become(doors, 100)

    doors.ports[LATE] = free_port()
    late = late_source(place, doors)
    post(doors, LATE, 50)
    become(doors, 150)
    assert set(doors.ask("/jobs/count")["sources"]) == {"source-1", LATE}
    story = doors.ask("/debug/story")["story"]
    assert [line["job"] for line in story if line["kind"] == "SourceTakenIn"] == ["count"]

    post(doors, LATE, 30)
    late.process.kill()
    late.ended()
    late = late_source(place, doors)
    post(doors, LATE, 20)
    become(doors, 200)

    worker = next(pid for pid, line in place.processes().items() if "--name worker-1 " in line)
    post(doors, LATE, 10)
    os.kill(worker, signal.SIGKILL)
    post(doors, "source-1", 10)
    become(doors, 220)
    at = doors.ask("/jobs/count")["batches_done"]
    until("batches go on", lambda: doors.ask("/jobs/count")["batches_done"] > at + 20)
    assert counted(doors) == 220, "nothing is counted again"

    late.process.terminate()
    assert late.ended() == 0, late.said()
    cluster.interrupt()
    assert cluster.ended() == 0, cluster.said()

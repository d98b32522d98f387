"""A cluster that a person keeps: started, given a job, looked at, stopped, and started again where it was."""

from __future__ import annotations

import json

import pytest
import redis

from drizzle_streams.local.ports import free_port
from tests.cluster.drizzle_commands import ClusterDoors, Place, Running, doors_of, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

JOB_FILE = """
import polars as pl
import drizzle_streams as dz

words = dz.stream("words", schema={"word": pl.String})
job = words.group_by("word").agg(times=dz.count()).to(dz.redis("words")).job("count", batch_interval="20ms")
"""


def up(place: Place, port: int) -> tuple[Running, ClusterDoors]:
    running = place.start("up", "--port", str(port), "--workers", "1", "--sources", "1")
    running.says("Drizzle is up")
    return running, doors_of(place.folder / ".drizzle")


def post(doors: ClusterDoors, word: str, times: int) -> None:
    body = f'{{"word": "{word}"}}\n'.encode() * times
    status, answer = doors.send(
        "source-1", "/streams/words/records", body, {"Content-Type": "application/x-ndjson"}
    )
    assert status == 200, answer


def counted(doors: ClusterDoors, word: str) -> int:
    with redis.Redis.from_url(doors.redis_url) as client:
        return int(client.hget(f"words:{word}", "times") or 0)


def jobs(place: Place) -> list[dict[str, object]]:
    listed = place.run("jobs", "--json")
    assert listed.code == 0, listed.said()
    return json.loads(listed.said())["jobs"]


def test_a_cluster_goes_on_where_it_was_stopped(place: Place) -> None:
    port = free_port()
    (place.folder / "job.py").write_text(JOB_FILE)
    running, doors = up(place, port)

    submitted = place.run("submit", "job.py")
    assert submitted.code == 0, submitted.said()
    assert f"job count runs on http://127.0.0.1:{port}" in submitted.said()
    post(doors, "rain", 100)
    until("100 words are counted", lambda: counted(doors, "rain") == 100)
    again = place.run("submit", "job.py")
    assert (again.code, "Traceback" in again.said()) == (2, False), "it runs already"
    status = place.run("status")
    assert status.code == 0, status.said()
    assert all(name in status.said() for name in ("worker-1-", "source-1", "count", "running"))

    running.interrupt()
    assert running.ended() == 0, running.said()
    assert place.left_behind() == ([], [])

    running, doors = up(place, port)
    assert [(job["job"], job["phase"]) for job in jobs(place)] == [("count", "running")]
    post(doors, "rain", 50)
    until("the count went on", lambda: counted(doors, "rain") == 150)

    stopped = place.run("stop", "count")
    assert stopped.code == 0, stopped.said()
    until("the job has stopped", lambda: jobs(place)[0]["phase"] == "stopped")
    running.interrupt()
    assert running.ended() == 0, running.said()
    assert place.left_behind() == ([], [])


def test_a_second_cluster_in_the_same_place_is_refused(place: Place) -> None:
    port = free_port()
    running, doors = up(place, port)

    second = place.run("up", "--port", str(free_port()), "--workers", "1", "--sources", "1")

    assert second.code == 2, second.said()
    assert "no other cluster using it" in second.said()
    assert "Traceback" not in second.said()
    assert doors.ask("/status")["workers"], "the first is untouched"
    assert place.run("status").code == 0, "and is still found"
    running.interrupt()
    assert running.ended() == 0, running.said()

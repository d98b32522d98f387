"""Workers are added under load until partitions must be split for them; counts stay exact."""

from __future__ import annotations

import pytest

from drizzle_streams.core.resizing import PARTITIONS_PER_WORKER_MIN
from tests.cluster.drizzle_commands import ClusterDoors, Place, doors_of, until
from tests.cluster.test_demo import ENDS_WITHIN_S, assert_exact, demo_arguments, report_of
from tests.cluster.test_drain import owners
from tests.cluster.test_failover import frontier

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SECONDS = 14
WORKERS = 6


def partitions(doors: ClusterDoors) -> int:
    """Of the stage that counts."""
    answer = doors.ask("/jobs/ysb")
    return int(answer["stages"][1]["partitions"]) if answer and "stages" in answer else 0


def test_two_workers_become_six_and_share_twice_as_many_partitions(place: Place) -> None:
    demo = place.start(*demo_arguments(SECONDS, "--kill", "none", "--dir", "state"))
    doors = doors_of(place.folder / "state")
    until("batches are done", lambda: frontier(doors, "coordinator") > 20)
    before = partitions(doors)
    assert before < WORKERS * PARTITIONS_PER_WORKER_MIN

    cluster = doors.address("coordinator")
    for number in range(3, WORKERS + 1):
        place.start(
            *("worker", "--name", f"worker-{number}", "--coordinator", cluster),
            DRIZZLE_TOKEN=doors.token,
            DRIZZLE_REDIS_URL=doors.redis_url,
            POLARS_MAX_THREADS="1",
        )
    until("all six own partitions", lambda: len(owners(doors)) == WORKERS)
    until("partitions are split", lambda: partitions(doors) == 2 * before)
    at = frontier(doors, "coordinator")
    until("batches go on", lambda: frontier(doors, "coordinator") > at + 20)

    job = doors.ask("/jobs/ysb")
    assert job["resized"] == 1
    assert [ended for ended in job["recoveries"] if ended["replayed_batches"]] == []
    assert doors.metric("coordinator", "drizzle_stage_partitions", job="ysb", stage="1") == 2 * before
    plan = doors.ask("/jobs/ysb/plan")
    assert plan["resized"] == 1
    assert any("workers" in reason["why"] for reason in plan["stages"][1]["reasons"])
    story = place.run("story", "--cluster", cluster, DRIZZLE_TOKEN=doors.token).said()
    assert f"stage 1: {before} partitions split into {2 * before}" in story

    assert demo.ended(ENDS_WITHIN_S) == 0, demo.said()
    assert_exact(report_of(place), SECONDS)

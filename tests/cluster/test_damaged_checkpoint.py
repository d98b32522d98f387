"""The newest checkpoint is damaged in Redis and a worker dies: the checkpoint before it is used, exactly.

A stopped worker holds checkpoints up, so the one that is damaged is still the newest one when that
worker is killed.
"""

from __future__ import annotations

import os
import signal
from typing import cast

import pytest
from redis import Redis

from tests.cluster.drizzle_commands import ClusterDoors, Place, doors_of, until
from tests.cluster.test_demo import ENDS_WITHIN_S, assert_exact, demo_arguments, report_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SECONDS = 14


def checkpoint(doors: ClusterDoors) -> int:
    """The batch of the newest checkpoint."""
    answer = doors.ask("/jobs/ysb")
    return -1 if not answer or not answer.get("checkpoint") else answer["checkpoint"]["batch"]


def damage(doors: ClusterDoors, batch: int) -> int:
    """Cut the last byte off everything that was stored at that batch; how many parts."""
    with Redis.from_url(doors.redis_url) as client:
        cut = 0
        for key in client.scan_iter("drizzle:snapshot:parts:*"):
            for name, data in client.hgetall(key).items():
                if cast("bytes", name).split(b"/")[2] == str(batch).encode():
                    client.hset(key, name, data[:-1])
                    cut += 1
    return cut


def test_counts_are_exact_though_the_newest_checkpoint_is_damaged(place: Place) -> None:
    demo = place.start(*demo_arguments(SECONDS, "--kill", "none", "--dir", "state"))
    doors = doors_of(place.folder / "state")
    until("several checkpoints are committed", lambda: checkpoint(doors) > 60)
    pid = next(pid for pid, line in place.processes().items() if "--name worker-2 " in line)
    os.kill(pid, signal.SIGSTOP)
    batch = checkpoint(doors)
    assert damage(doors, batch) > 0
    assert checkpoint(doors) == batch, "a newer one came in between"
    os.kill(pid, signal.SIGKILL)

    story = until(
        "the damage is told",
        lambda: [line for line in doors.ask("/debug/story")["story"] if line["kind"] == "SnapshotDamaged"],
    )
    assert f"at batch {batch}" in story[0]["text"]
    until("checkpoints go on", lambda: checkpoint(doors) > batch + 20)
    assert doors.metric("worker-1", "drizzle_snapshots_damaged_total") >= 1

    assert demo.ended(ENDS_WITHIN_S) == 0, demo.said()
    assert_exact(report_of(place), SECONDS)

"""A worker process is asked to stop under load, and another comes: exact, and not one batch is replayed.

The supervisor of the demo's cluster starts a worker that ended anew, so one SIGTERM is a drain and a
join. How long batches wait meanwhile is what `drizzle bench elasticity` measures; here the machine may be
busy, so the bounds are only those that tell a move from waiting for a group's end.
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.cluster.drizzle_commands import ClusterDoors, Place, doors_of, until
from tests.cluster.test_demo import ENDS_WITHIN_S, assert_exact, demo_arguments, report_of
from tests.cluster.test_failover import frontier

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SECONDS = 14
GROUP_SIZE = "2000"
"""Batches of 50 ms: a group of 100 s. A move that waited for its end would never happen here."""


def owners(doors: ClusterDoors) -> set[str]:
    """The workers that own partitions of the demo's job."""
    answer = doors.ask("/jobs/ysb")
    return set(answer["placement"]) if answer and "placement" in answer else set()


def test_a_worker_that_is_asked_to_stop_hands_over_and_its_next_life_takes_a_share(place: Place) -> None:
    demo = place.start(
        *demo_arguments(SECONDS, "--kill", "none", "--group-size", GROUP_SIZE, "--dir", "state")
    )
    doors = doors_of(place.folder / "state")
    until("batches are done", lambda: frontier(doors, "coordinator") > 20)
    before = until("both workers own partitions", lambda: owners(doors) if len(owners(doors)) == 2 else None)
    leaving = next(worker for worker in before if worker.startswith("worker-2-"))
    pid = next(pid for pid, line in place.processes().items() if "--name worker-2 " in line)

    os.kill(pid, signal.SIGTERM)
    until("it owns nothing any more", lambda: owners(doors) and leaving not in owners(doors))
    until("its process has ended", lambda: pid not in place.processes())
    came = until(
        "its next life owns partitions",
        lambda: next((w for w in owners(doors) if w.startswith("worker-2-") and w != leaving), None),
    )
    at = frontier(doors, "coordinator")
    until("batches go on", lambda: frontier(doors, "coordinator") > at + 20)

    job = doors.ask("/jobs/ysb")
    assert job["groups_cut"] >= 2, "one cut to leave, one to join"
    assert [ended for ended in job["recoveries"] if ended["replayed_batches"]] == []
    assert doors.ask("/status")["workers_lost"] == 0
    assert doors.metric("coordinator", "drizzle_groups_cut_total") >= 2
    assert doors.metric("worker-2", "drizzle_states_taken_over_total", origin="worker") >= 1, came

    assert demo.ended(ENDS_WITHIN_S) == 0, demo.said()
    assert_exact(report_of(place), SECONDS)

"""A real worker that is stopped again and again, or starved by others: every count stays exact.

Whether it is relieved of its partitions depends on what else the machine does, so that is not asked here
but in the simulation, and measured by `drizzle bench stragglers`. What must hold on any machine: copies,
moves and returns change no count, nobody who is merely slow is lost, and nothing is replayed for it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drizzle_benchmarks import stragglers
from tests.cluster.drizzle_commands import ClusterDoors, Place, doors_of, until
from tests.cluster.test_demo import ENDS_WITHIN_S, assert_exact, demo_arguments, report_of
from tests.cluster.test_failover import frontier

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SECONDS = 12
STOPS = 5
STOP_S = 0.2
HOGS = 2
HOGGED_S = 4.0
HOG = f"import time; end = time.monotonic() + {HOGGED_S}\nwhile time.monotonic() < end: pass"
NICEST = 19


@contextmanager
def under_load(place: Place) -> Iterator[tuple[ClusterDoors, int]]:
    """A demo that runs, and the pid of its second worker; afterwards every count must be exact."""
    demo = place.start(*demo_arguments(SECONDS, "--kill", "none", "--dir", "state"))
    doors = doors_of(place.folder / "state")
    until("batches are done", lambda: frontier(doors, "coordinator") > 20)
    pid = next(pid for pid, line in place.processes().items() if "--name worker-2 " in line)

    yield doors, pid

    at = frontier(doors, "coordinator")
    until("batches go on", lambda: frontier(doors, "coordinator") > at + 20)
    job = doors.ask("/jobs/ysb")
    if doors.ask("/status")["workers_lost"] == 0:
        assert [ended for ended in job["recoveries"] if ended["replayed_batches"]] == []
    assert job["copies"]["won"] + job["copies"]["wasted"] <= job["copies"]["started"]
    assert demo.ended(ENDS_WITHIN_S) == 0, demo.said()
    assert_exact(report_of(place), SECONDS)
    assert place.left_behind() == ([], [])


def test_counts_are_exact_while_a_worker_is_stopped_again_and_again(place: Place) -> None:
    with under_load(place) as (doors, pid):
        reached = frontier(doors, "coordinator")
        for _ in range(STOPS):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(STOP_S)
            os.kill(pid, signal.SIGCONT)
            time.sleep(1.0 - STOP_S)
        assert frontier(doors, "coordinator") > reached


def test_counts_are_exact_while_a_worker_is_starved(place: Place) -> None:
    """Others want the processor as well, and the worker is the last that gets it."""
    with under_load(place) as (doors, pid):
        os.setpriority(os.PRIO_PROCESS, pid, NICEST)
        reached = frontier(doors, "coordinator")
        hogs = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(HOGS)]
        for one in hogs:
            assert one.wait(ENDS_WITHIN_S) == 0
        assert frontier(doors, "coordinator") > reached


async def test_the_benchmark_measures_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stragglers, "CALM_S", 5.0)
    report = await stragglers.run(argparse.Namespace(rate=2_000, seconds=10.0, runs=1))

    assert [row["speculation"] for row in report.rows] == [False, True]
    for row in report.rows:
        assert row["exact"] is True
        assert row["stops"] >= 3
        assert row["peak_window_latency_ms"] >= row["p99_window_latency_ms"] >= row["p50_window_latency_ms"]
        assert row["normal_window_latency_ms"] > 0
    assert {claim.name for claim in report.claims} >= {
        "runs with exact counts",
        "p99 window latency with speculation over without",
    }

"""`drizzle demo` at a small scale: exact counts whoever is killed or paused, in every scheduling mode."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from drizzle_loadgen.events import Workload
from drizzle_loadgen.oracle import Coverage, expected_counts
from tests.cluster.drizzle_commands import ClusterDoors, Place, doors_of, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

RATE = 5_000
WINDOW_MS = 2_000
PERCENTILES = {"p50", "p95", "p99", "max"}
ENDS_WITHIN_S = 200.0


def demo_arguments(seconds: int, *more: str) -> list[str]:
    sizes = ["--rate", str(RATE), "--seconds", str(seconds), "--window", f"{WINDOW_MS}ms"]
    return ["demo", *sizes, "--json", "report.json", *more]


def report_of(place: Place) -> dict[str, Any]:
    return json.loads((place.folder / "report.json").read_text())


def views(seconds: int) -> int:
    """How many views the first events of the seed hold: worked out here, without a run."""
    workload = Workload(0, 0, RATE, False)
    return int(expected_counts(workload, Coverage.of_first(RATE * seconds), WINDOW_MS)["expected"].sum())


def assert_exact(report: dict[str, Any], seconds: int) -> None:
    assert report["exact"] is True
    assert report["sent"] == RATE * seconds
    assert report["counted"] == views(seconds)
    assert (report["lost"], report["duplicates"]) == (0, 0)
    assert report["windows"] >= seconds * 1000 // WINDOW_MS
    assert report["latency_ms"].keys() >= PERCENTILES
    assert report["batch_latency_ms"].keys() >= PERCENTILES


@pytest.mark.parametrize(
    ("victim", "groups"), [("worker", "auto"), ("coordinator", "20"), ("source", "20"), ("redis", "auto")]
)
def test_counts_are_exact_through_a_kill(place: Place, victim: str, groups: str) -> None:
    arguments = demo_arguments(6, "--kill", victim, "--group-size", groups)
    demo = place.run(*arguments, timeout_s=ENDS_WITHIN_S)

    assert demo.code == 0, demo.said()
    report = report_of(place)
    assert_exact(report, 6)
    assert report["killed"].startswith(victim)
    assert groups in ("auto", str(report["group_size"]))
    assert report["batches"] > 6_000 / 50 / 2, "the cluster went on"
    assert "exact: every count equals the oracle's" in demo.said()
    assert place.left_behind() == ([], [])


@pytest.mark.parametrize("mode", ["prescheduled", "barrier"])
def test_other_scheduling_modes_count_the_same(place: Place, mode: str) -> None:
    demo = place.run(*demo_arguments(4, "--kill", "none", "--scheduling", mode), timeout_s=ENDS_WITHIN_S)

    assert demo.code == 0, demo.said()
    report = report_of(place)
    assert_exact(report, 4)
    assert report["group_size"] == 1
    assert report["killed"] == ""
    assert report["recovery_seconds"] == 0


def test_a_paused_worker_is_replaced_and_refused_when_it_wakes(place: Place) -> None:
    demo = place.start(*demo_arguments(14, "--kill", "none", "--dir", "state"))
    doors = doors_of(place.folder / "state")
    until("batches are done", lambda: frontier(doors) > 20)
    [before] = [worker for worker in workers(doors) if worker.startswith("worker-2-")]

    pid = next(pid for pid, line in place.processes().items() if "--name worker-2" in line)
    os.kill(pid, signal.SIGSTOP)
    paused_at, paused_for_s = frontier(doors), 5.0
    began = time.monotonic()
    until("the paused worker is lost", lambda: before not in workers(doors))
    until("the others go on", lambda: frontier(doors) > paused_at + 20)
    time.sleep(max(0.0, began + paused_for_s - time.monotonic()))  # longer than its lease
    os.kill(pid, signal.SIGCONT)

    [after] = until("it joined again", lambda: [w for w in workers(doors) if w.startswith("worker-2-")])
    assert after != before, "as one that is new"
    assert doors.metric("coordinator", "drizzle_messages_sent_total", kind="Refused") >= 1
    story = doors.ask("/debug/story")["story"]
    assert any(before in line["text"] and line["kind"] == "WorkerLost" for line in story)

    assert demo.ended(ENDS_WITHIN_S) == 0, demo.said()
    assert_exact(report_of(place), 14)


def frontier(doors: ClusterDoors) -> int:
    answer = doors.ask("/jobs")
    return -1 if not answer or not answer["jobs"] else answer["jobs"][0]["frontier"]


def workers(doors: ClusterDoors) -> list[str]:
    answer = doors.ask("/status")
    return [] if answer is None else [member["id"] for member in answer["workers"]]

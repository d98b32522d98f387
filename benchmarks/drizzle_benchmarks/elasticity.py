"""One worker becomes two and two become one while a job runs: how late results become.

A real local cluster under load: a second worker process is started, and later asked to stop by SIGTERM.
Windows of 200 ms, groups of 60 batches (3 s), so that waiting for the end of a group would show. Lateness
counts from the moment of asking, with the start of the process. Counts must be exact.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from drizzle_benchmarks.faults import RUNS_MAX
from drizzle_benchmarks.outages import Outage, Window, outage
from drizzle_benchmarks.report import Claim, Report, Row, exact_claim
from drizzle_benchmarks.runs import BATCH_INTERVAL_MS, WINDOW_MS, under_load
from drizzle_streams.errors import DrizzleError
from drizzle_streams.local.cluster import LocalCluster

NAME = "elasticity"
GROUP_SIZE = 60
OUT, DRAIN = "scale-out 1 -> 2 workers", "drain 2 -> 1 workers"
LATE_MS_MAX = {OUT: 500.0, DRAIN: 300.0}
ROUND_TRIP_MS = 50.0
"""A cut said, state stored, the checkpoint committed and the new generation said: with Redis, four ways."""
REACTION_MS_MAX = 2 * BATCH_INTERVAL_MS + ROUND_TRIP_MS
CALM_S = 8.0
"""Seconds at least between the changes: what is normal has to be known again."""
MOVED_TIMEOUT_S = 20.0
LOOKS_EVERY_S = 0.2

Story = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of scale: when it was asked for and over (Unix ms), and from ready to moved, in ms."""

    event: str
    asked_at_ms: float
    over_at_ms: float
    reaction_ms: float
    exit_status: int | None = None


@dataclass(slots=True)
class Changes:
    """Scales a cluster out after a third of the run and drains after two; remembers what came of it."""

    seconds: float
    made: list[Change] = field(default_factory=list[Change])

    async def __call__(self, cluster: LocalCluster) -> None:
        """Beside the load, which outlives it."""
        began = time.monotonic()
        await asyncio.sleep(self.seconds / 3)
        self.made.append(await self._out(cluster))
        drain_at = max(began + self.seconds * 2 / 3, time.monotonic() + CALM_S)
        await asyncio.sleep(drain_at - time.monotonic())
        self.made.append(await self._drain(cluster))

    async def _out(self, cluster: LocalCluster) -> Change:
        asked_at_ms = time.time() * 1000.0
        await cluster.scale(2)
        told = await _told(cluster, asked_at_ms, "NodeJoined")
        return Change(OUT, asked_at_ms, told[1], told[1] - told[0])

    async def _drain(self, cluster: LocalCluster) -> Change:
        leaving = cluster.of_role("worker")[-1]
        asked_at_ms = time.time() * 1000.0
        await cluster.scale(1)
        told = await _told(cluster, asked_at_ms, "WorkerLeaving")
        process = leaving.process
        status = None if process is None else process.returncode
        return Change(DRAIN, asked_at_ms, told[1], told[1] - told[0], status)


async def _told(cluster: LocalCluster, since_ms: float, wish: str) -> tuple[float, float]:
    """When the coordinator heard the wish and when partitions had moved for it, Unix ms.

    Raises `DrizzleError` where they never did.
    """
    try:
        async with asyncio.timeout(MOVED_TIMEOUT_S):
            while True:
                answer = await cluster.ask("/debug/story?after=0")
                if found := told_in(answer["story"], since_ms, wish):
                    return found
                await asyncio.sleep(LOOKS_EVERY_S)
    except TimeoutError as error:
        raise DrizzleError(f"no partitions moved within {MOVED_TIMEOUT_S:g} s of {wish}") from error


def told_in(story: Story, since_ms: float, wish: str) -> tuple[float, float] | None:
    """When the wish was told, and the first move after it, in ms; None while there is none."""
    wishes = [line["at"] * 1000.0 for line in story if line["kind"] == wish]
    heard = next((at for at in wishes if at >= since_ms), None)
    moves = [line["at"] * 1000.0 for line in story if line["kind"] == "PartitionsMoved"]
    moved = next((at for at in moves if heard is not None and at >= heard), None)
    return None if heard is None or moved is None else (heard, moved)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much load, how long, how often."""
    parser.add_argument("--rate", type=int, default=20_000, help="events per second (default: 20000)")
    parser.add_argument("--seconds", type=float, default=36.0, help="length of a run (default: 36)")
    parser.add_argument("--runs", type=int, default=3, help="runs; claims are on the median (default: 3)")


async def run(arguments: argparse.Namespace) -> Report:
    """Scale out and drain in each run."""
    rows: list[Row] = []
    series: list[Mapping[str, Any]] = []
    runs = min(max(arguments.runs, 1), RUNS_MAX)
    for _ in range(runs):
        found, shown = await _once(arguments.rate, arguments.seconds)
        rows += found
        series += shown
    settings = {
        "rate": arguments.rate,
        "seconds": arguments.seconds,
        "runs": runs,
        "batch_interval_ms": BATCH_INTERVAL_MS,
        "group_size": GROUP_SIZE,
        "window_ms": WINDOW_MS,
    }
    return Report(NAME, settings, rows, _claims(rows), series)


async def _once(rate: int, seconds: float) -> tuple[list[Row], list[Mapping[str, Any]]]:
    changes = Changes(seconds)
    found = await under_load(rate, seconds, workers=1, group_size=GROUP_SIZE, disturb=changes)
    out, drain = changes.made
    # Each change is held against what was before it, without the windows of the other change.
    stretches = (
        (out, [window for window in found.windows if window[0] < drain.asked_at_ms]),
        (drain, [window for window in found.windows if not out.asked_at_ms <= window[0] <= out.over_at_ms]),
    )
    rows: list[Row] = []
    series: list[Mapping[str, Any]] = []
    for change, near in stretches:
        rows.append(_row(change, found.report, near))
        series.append({"event": change.event, "fault_at_ms": change.asked_at_ms, "windows": near})
    return rows, series


def _row(change: Change, found: Mapping[str, Any], windows: Sequence[Window]) -> Row:
    measured, late_ms, seconds = lateness(change, windows)
    return {
        "event": change.event,
        "exact": bool(found["exact"]) and change.exit_status in (None, 0),
        "normal_window_latency_ms": round(measured.normal_ms, 1),
        "normal_max_window_latency_ms": round(measured.normal_max_ms, 1),
        "peak_window_latency_ms": round(late_ms, 1),
        "seconds_to_normal": seconds,
        "reaction_ms": round(change.reaction_ms, 1),
        "replayed_batches": found["replayed_batches"],
        "survivors_max_gap_ms": round(measured.first_rows_max_gap_ms, 1),
    }


def lateness(change: Change, windows: Sequence[Window]) -> tuple[Outage, float, float | None]:
    """What was normal; the latest window from asking on; seconds until normal, None if it never was.

    A process takes seconds to start, and latency may be normal all the while: so it is looked at from the
    moment of asking and again from the moment when partitions have moved.
    """
    asked, moved = outage(windows, change.asked_at_ms), outage(windows, change.over_at_ms)
    during = [late for end, late, _ in windows if change.asked_at_ms <= end + late <= change.over_at_ms]
    seconds = moved.seconds_to_normal
    if seconds is not None:
        between = (change.over_at_ms - change.asked_at_ms) / 1000.0
        seconds = round(between + seconds, 3) if seconds else asked.seconds_to_normal
    return asked, max(asked.peak_ms, moved.peak_ms, *during), seconds


def _claims(rows: Sequence[Row]) -> list[Claim]:
    claims = [exact_claim(rows)]
    for event, bound in LATE_MS_MAX.items():
        mine = [row for row in rows if row["event"] == event]
        late = median(row["peak_window_latency_ms"] - row["normal_window_latency_ms"] for row in mine)
        claims.append(Claim(f"{event}: peak window latency above normal", round(late, 1), bound, "ms"))
        reaction = median(row["reaction_ms"] for row in mine)
        claims.append(Claim(f"{event}: from ready to moved", round(reaction, 1), REACTION_MS_MAX, "ms"))
    replayed = float(sum(row["replayed_batches"] for row in rows))
    return [*claims, Claim("batches replayed", replayed, 0.0, "batches")]

"""One of two workers is stopped 200 ms of every second: p99 of window latency, with speculation and without.

After section 5 of D-Streams (a node slowed by a hog; 3.0 s a batch without speculation, 1.0 s with it), on
one machine: real SIGSTOP and SIGCONT, windows of 200 ms, so that each stop delays one or two windows.
Latencies count from the first stop on, with the time that it takes to find out. Counts must be exact.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from drizzle_benchmarks.faults import RUNS_MAX
from drizzle_benchmarks.numbers import percentile
from drizzle_benchmarks.outages import Window, outage
from drizzle_benchmarks.report import Claim, Report, Row, exact_claim
from drizzle_benchmarks.runs import BATCH_INTERVAL_MS, WINDOW_MS, under_load
from drizzle_benchmarks.scraping import load_began
from drizzle_streams.local.cluster import LocalCluster

NAME = "stragglers"
STOP_S = 0.2
EVERY_S = 1.0
CALM_S = 8.0
"""Seconds from the first records to the first stop: what is normal has to be known."""
P99_RATIO_MAX = 0.5


@dataclass(slots=True)
class Pulses:
    """Stops the second worker of a cluster again and again; remembers when it began, Unix ms."""

    seconds: float
    began_at_ms: float = 0.0
    stops: int = field(default=0)

    async def __call__(self, cluster: LocalCluster) -> None:
        """From `CALM_S` on, until the load ends."""
        await load_began(cluster)
        await asyncio.sleep(CALM_S)
        victim = cluster.of_role("worker")[1]
        self.began_at_ms = time.time() * 1000.0
        for number in range(int((self.seconds - CALM_S) / EVERY_S)):
            victim.signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(STOP_S)
            finally:
                victim.signal(signal.SIGCONT)
            self.stops += 1
            next_at_ms = self.began_at_ms + (number + 1) * EVERY_S * 1000.0
            await asyncio.sleep(max(0.0, next_at_ms / 1000.0 - time.time()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much load, how long, how often."""
    parser.add_argument("--rate", type=int, default=20_000, help="events per second (default: 20000)")
    parser.add_argument("--seconds", type=float, default=70.0, help="length of a run (default: 70)")
    parser.add_argument("--runs", type=int, default=1, help="runs with and without each (default: 1)")


async def run(arguments: argparse.Namespace) -> Report:
    """Runs without and with speculation in turn, so that both see the same machine."""
    rows: list[Row] = []
    series: list[Mapping[str, Any]] = []
    runs = min(max(arguments.runs, 1), RUNS_MAX)
    for speculation in (False, True) * runs:
        row, shown = await _once(arguments.rate, arguments.seconds, speculation=speculation)
        rows.append(row)
        series.append(shown)
    settings = {
        "rate": arguments.rate,
        "seconds": arguments.seconds,
        "runs": runs,
        "batch_interval_ms": BATCH_INTERVAL_MS,
        "window_ms": WINDOW_MS,
        "stop_s": STOP_S,
        "every_s": EVERY_S,
    }
    return Report(NAME, settings, rows, _claims(rows), series)


async def _once(rate: int, seconds: float, *, speculation: bool) -> tuple[Row, Mapping[str, Any]]:
    pulses = Pulses(seconds)
    found = await under_load(rate, seconds, speculation=speculation, disturb=pulses)
    event = f"SIGSTOP {STOP_S:g} s of every {EVERY_S:g} s, speculation {'on' if speculation else 'off'}"
    return _row(event, found.report, found.windows, pulses, speculation=speculation), {
        "event": event,
        "fault_at_ms": pulses.began_at_ms,
        "windows": found.windows,
    }


def _row(
    event: str, found: Mapping[str, Any], windows: Sequence[Window], pulses: Pulses, *, speculation: bool
) -> Row:
    measured = outage(windows, pulses.began_at_ms)
    during = [late for end, late, _ in windows if end >= pulses.began_at_ms]
    firsts = [first for end, _, first in windows if end >= pulses.began_at_ms]
    return {
        "event": event,
        "speculation": speculation,
        "exact": bool(found["exact"]),
        "stops": pulses.stops,
        "normal_window_latency_ms": round(measured.normal_ms, 1),
        "p50_window_latency_ms": round(percentile(during, 0.50), 1),
        "p99_window_latency_ms": round(percentile(during, 0.99), 1),
        "p99_first_row_ms": round(percentile(firsts, 0.99), 1),
        "peak_window_latency_ms": round(max(during), 1),
        "seconds_to_normal": measured.seconds_to_normal,
        "replayed_batches": found["replayed_batches"],
        "survivors_max_gap_ms": round(measured.first_rows_max_gap_ms, 1),
    }


def _claims(rows: Sequence[Row]) -> list[Claim]:
    with_, without = (
        median(row["p99_window_latency_ms"] for row in rows if row["speculation"] is wanted)
        for wanted in (True, False)
    )
    return [
        exact_claim(rows),
        Claim(
            "p99 window latency with speculation over without",
            round(with_ / without, 3),
            P99_RATIO_MAX,
            "ratio",
        ),
        Claim("batches replayed", float(sum(row["replayed_batches"] for row in rows)), 0.0, "batches"),
    ]

"""What groups cost and what launching ahead hides: latency and overhead for sizes of groups and intervals.

Live load as in `latency`. With pipelined groups the next one is launched while the present one runs; without,
batches at a boundary wait until the coordinator has heard, planned and told. A batch is as late as its oldest
record: from the seal of the batch before, less the batch interval, to its output in Redis. So a batch that
is sealed late counts as late.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from pathlib import Path

from drizzle_benchmarks.groups_plots import plot_groups
from drizzle_benchmarks.live import Batch, Live, LiveSettings, run_live
from drizzle_benchmarks.numbers import numbers, percentiles
from drizzle_benchmarks.packing import not_pipelined, pipelined
from drizzle_benchmarks.report import Claim, Report, Row, exact_claim

NAME = "groups"
INTERVALS_MS = (10, 50)
SIZES = (5, 20, 100)
BOUNDARY_OVER_OTHERS_MAX = 1.1
BOUNDARIES_MIN = 200
"""Boundaries that a claim is made of, at least: the p99 of a hundred is the slowest of them."""
CLAIMED_RUN_S_MAX = 75.0
"""A run goes on until it has seen so many, unless that takes longer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which groups, how much load, how long."""
    parser.add_argument("--intervals", type=numbers, default=INTERVALS_MS, help="batch intervals, ms (10,50)")
    parser.add_argument("--group-sizes", type=numbers, default=SIZES, help="group sizes (5,20,100)")
    parser.add_argument("--rate", type=int, default=20_000, help="events per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=24.0, help="length of a run (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=4.0, help="of it, not measured (%(default)s)")


async def run(arguments: argparse.Namespace) -> Report:
    """Each interval and size without and with pipelining, one after the other: both see the same machine."""
    rows: list[Row] = []
    for interval_ms, size, ahead in product(arguments.intervals, arguments.group_sizes, (False, True)):
        settings = LiveSettings(
            rate=arguments.rate,
            batch_interval_ms=interval_ms,
            seconds=run_s(arguments.seconds, arguments.warm_up, interval_ms, size)
            if ahead
            else arguments.seconds,
            warm_up_s=arguments.warm_up,
            group_size=size,
            pack=pipelined if ahead else not_pipelined,
        )
        rows.append(_row(settings, await run_live(settings), ahead=ahead))
    stated = {name: getattr(arguments, name) for name in ("rate", "seconds", "warm_up")}
    return Report(NAME, stated, rows, list(claims(rows)))


def run_s(seconds: float, warm_up_s: float, interval_ms: float, size: int) -> float:
    """Length of a run of which p99 is claimed: with boundaries enough, and some that are not known whole."""
    enough_s = warm_up_s + 1.15 * BOUNDARIES_MIN * size * interval_ms / 1000.0
    return max(seconds, enough_s) if enough_s <= CLAIMED_RUN_S_MAX else seconds


def plot(report: Report, path: Path) -> None:
    """p99 of batches at boundaries and of others over the group size."""
    plot_groups(report.rows, path)


def _row(settings: LiveSettings, live: Live, *, ahead: bool) -> Row:
    size = settings.group_size
    late = lateness(live.batches, settings.batch_interval_ms)
    boundary = percentiles([ms for batch, ms in late if batch % size == 0]) or {}
    others = percentiles([ms for batch, ms in late if batch % size]) or {}
    return {
        "batch_interval_ms": settings.batch_interval_ms,
        "group_size": size,
        "pipelined": ahead,
        "boundary_p50_ms": boundary.get("p50"),
        "boundary_p99_ms": boundary.get("p99"),
        "other_p50_ms": others.get("p50"),
        "other_p99_ms": others.get("p99"),
        "boundaries": boundary.get("count", 0),
        "overhead": round(live.overhead, 5),
        "window_latency_ms": live.report["latency_ms"],
        "coordinator_cpu_cores": live.cpu_cores.get("coordinator"),
        "exact": live.exact,
    }


def lateness(batches: Sequence[Batch], interval_ms: float) -> list[tuple[int, float]]:
    """Batches and how late the oldest record of each was done, ms; where the batch before is known."""
    return [
        (batch, sealed_ms + took_ms - before_ms - interval_ms)
        for (before, before_ms, _), (batch, sealed_ms, took_ms) in pairwise(batches)
        if batch == before + 1
    ]


def claims(rows: Sequence[Row]) -> Iterator[Claim]:
    """p99 at pipelined boundaries over p99 of the others, where there were boundaries enough."""
    for row in rows:
        if row["pipelined"] and row["other_p99_ms"] and row["boundaries"] >= BOUNDARIES_MIN:
            name = f"{row['batch_interval_ms']} ms batches, groups of {row['group_size']}"
            ratio = round(row["boundary_p99_ms"] / row["other_p99_ms"], 3)
            yield Claim(f"{name}: p99 at boundaries over others", ratio, BOUNDARY_OVER_OTHERS_MAX, "ratio")
    yield exact_claim(rows)

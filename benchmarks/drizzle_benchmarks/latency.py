"""How late results are while events keep coming: the whole system live, up to more than it can take.

The Yahoo Streaming Benchmark through load generator, sources, workers and Redis, with checkpoints, all on
this machine. Rates go up until one is not kept up; then the span between is halved. Window latency is the
time from the end of a 1 s window to the final count of a campaign in Redis, for every campaign and window.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from drizzle_benchmarks.latency_plots import plot_latency
from drizzle_benchmarks.live import Batch, Live, LiveSettings, run_live
from drizzle_benchmarks.numbers import listed, numbers, percentiles
from drizzle_benchmarks.report import Claim, Report, Row
from drizzle_streams.errors import DrizzleError

NAME = "latency"
INTERVALS_MS = (10, 50)
RATES = (20_000, 100_000, 200_000, 300_000)
RATE_STEP = 5_000
"""Halving ends at spans of this: runs of seconds tell no finer."""
OF_RATES = ((20_000, 12.0, 20.0), (100_000, 18.0, 35.0))
"""Events per second, and the p50 and p99 window latency that are claimed there, ms."""
SUSTAINED = 200_000
"""Events per second that are claimed to be kept up with exact counts."""
P99_MS = (100, 250, 1_000)
"""Bounds on p99 window latency, for each of which the highest sustained rate is told."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which rates and batch intervals, on what, for how long."""
    parser.add_argument("--rates", type=numbers, default=RATES, help=f"events per second ({listed(RATES)})")
    parser.add_argument(
        "--intervals",
        type=numbers,
        default=INTERVALS_MS,
        help=f"batch intervals, ms ({listed(INTERVALS_MS)})",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a run (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=6.0, help="of it, not measured (%(default)s)")
    parser.add_argument("--halvings", type=int, default=1, help="after the first rate too high (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (%(default)s)")
    parser.add_argument("--sources", type=int, default=2, help="source processes (%(default)s)")
    parser.add_argument(
        "--budget-seconds", type=float, default=290.0, help="no run begins that would end later (%(default)s)"
    )


async def run(arguments: argparse.Namespace) -> Report:
    """Each batch interval in turn, each with rates that go up."""
    ends_at, longest_s = time.monotonic() + arguments.budget_seconds, arguments.seconds
    rows: list[Row] = []
    for interval_ms in arguments.intervals:
        search = Search(arguments.rates, arguments.halvings)
        while (rate := search.next()) is not None and time.monotonic() + longest_s <= ends_at:
            began = time.monotonic()
            row = await measured(_settings(rate, interval_ms, arguments))
            longest_s = max(longest_s, time.monotonic() - began)
            rows.append(row)
            search.found(kept_up=row["sustained"] and row["exact"])
    names = ("seconds", "warm_up", "workers", "sources", "budget_seconds")
    return Report(NAME, {name: getattr(arguments, name) for name in names}, rows, list(claims(rows)))


def plot(report: Report, path: Path) -> None:
    """Window latency over the rate, a line per batch interval."""
    plot_latency(report.rows, path)


class Search:
    """Which rate comes next: up through `rates` to the first that was too high, then halves between."""

    def __init__(self, rates: Sequence[int], halvings: int) -> None:
        self._rates = sorted(set(rates))
        self._halvings = halvings
        self._kept_up = 0
        self._too_high: int | None = None
        self._now = 0

    def next(self) -> int | None:
        """The next rate, or None."""
        if self._too_high is None:
            self._now = next((rate for rate in self._rates if rate > self._kept_up), 0)
            return self._now or None
        middle = (self._kept_up + self._too_high) // 2 // RATE_STEP * RATE_STEP
        if self._halvings <= 0 or middle <= self._kept_up:
            return None
        self._halvings -= 1
        self._now = middle
        return middle

    def found(self, *, kept_up: bool) -> None:
        """What came of the rate that `next` gave."""
        if kept_up:
            self._kept_up = self._now
        else:
            self._too_high = self._now


async def measured(settings: LiveSettings) -> Row:
    """A run's row. A system that could not go on at a rate has not kept up with it, and says why."""
    try:
        live = await run_live(settings)
    except DrizzleError as error:
        return _row(settings, None) | {"failure": str(error)}
    return _row(settings, live)


def _settings(rate: int, interval_ms: int, arguments: argparse.Namespace) -> LiveSettings:
    return LiveSettings(
        rate=rate,
        batch_interval_ms=interval_ms,
        seconds=arguments.seconds,
        warm_up_s=arguments.warm_up,
        workers=arguments.workers,
        sources=arguments.sources,
    )


def _row(settings: LiveSettings, live: Live | None) -> Row:
    load = live.load if live else {}
    batches = live.batches if live else []
    return {
        "rate": settings.rate,
        "batch_interval_ms": settings.batch_interval_ms,
        "window_latency_ms": live.report["latency_ms"] if live else None,
        "batch_latency_ms": percentiles([took_ms for _, _, took_ms in batches]),
        "exact": live is not None and live.exact,
        "sustained": live is not None and live.sustained,
        "batches_per_second": _per_second(batches),
        "cpu_cores": dict(live.cpu_cores) if live else {},
        "resident_mib": dict(live.resident_mib) if live else {},
        "posts_held_back": load.get("throttled"),
        "generator_behind_p99_ms": (load.get("behind_ms") or {}).get("p99"),
        "failure": None,
    }


def _per_second(batches: Sequence[Batch]) -> float | None:
    if len(batches) < 2:
        return None
    return round((len(batches) - 1) * 1000.0 / (batches[-1][1] - batches[0][1]), 2)


# --- claims ---------------------------------------------------------------------------------


def claims(rows: Sequence[Row]) -> Iterator[Claim]:
    """At the stated rates with the batch interval that serves best there, and the highest rates kept up."""
    for rate, p50_ms, p99_ms in OF_RATES:
        best = min(
            (row for row in rows if row["rate"] == rate and row["exact"] and row["window_latency_ms"]),
            key=lambda row: row["window_latency_ms"]["p99"],
            default=None,
        )
        late = best["window_latency_ms"] if best else {}
        place = f"{rate} events/s" + (f", {best['batch_interval_ms']} ms batches" if best else "")
        yield Claim(f"{place}: p50 window latency", late.get("p50"), p50_ms, "ms")
        yield Claim(f"{place}: p99 window latency", late.get("p99"), p99_ms, "ms")
    for p99_ms in P99_MS:
        name = f"highest rate kept up, exact, p99 window latency <= {p99_ms} ms"
        yield Claim(name, _highest(rows, p99_ms), SUSTAINED, "events/s", at_least=True)


def _highest(rows: Sequence[Row], p99_ms: float) -> float | None:
    kept_up = [
        float(row["rate"])
        for row in rows
        if row["exact"] and row["sustained"] and row["window_latency_ms"]
        if row["window_latency_ms"]["p99"] <= p99_ms
    ]
    return max(kept_up, default=None)

"""What aggregating before the shuffle is worth: live load with it and without it, at several rates.

After figure 8 of the Drizzle paper. The Yahoo Streaming Benchmark as in `latency`; results are the same.
Shuffle bytes are those of blocks made for other workers, so half of all blocks with two workers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from drizzle_benchmarks.combine_plots import plot_combine
from drizzle_benchmarks.live import Live, LiveSettings, run_live
from drizzle_benchmarks.numbers import numbers, percentiles
from drizzle_benchmarks.packing import combined, not_combined
from drizzle_benchmarks.report import Claim, Report, Row, exact_claim

NAME = "combine"
RATES = (20_000, 50_000, 100_000)
RATIO_MAX = 1.0
"""Aggregating before the shuffle may not send more, nor be later."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which rates, how long."""
    parser.add_argument("--rates", type=numbers, default=RATES, help="events per second (20000,50000,100000)")
    parser.add_argument("--interval", type=int, default=20, help="batch interval, ms (%(default)s)")
    parser.add_argument("--seconds", type=float, default=18.0, help="length of a run (%(default)s)")
    parser.add_argument("--warm-up", type=float, default=5.0, help="of it, not measured (%(default)s)")


async def run(arguments: argparse.Namespace) -> Report:
    """Each rate without and with it, one after the other: both see the same machine."""
    rows: list[Row] = []
    for rate in arguments.rates:
        for combine in (False, True):
            settings = LiveSettings(
                rate=rate,
                batch_interval_ms=arguments.interval,
                seconds=arguments.seconds,
                warm_up_s=arguments.warm_up,
                pack=combined if combine else not_combined,
            )
            rows.append(_row(rate, await run_live(settings), combine=combine))
    stated = {name: getattr(arguments, name) for name in ("interval", "seconds", "warm_up")}
    return Report(NAME, stated, rows, list(claims(rows)))


def plot(report: Report, path: Path) -> None:
    """Window latency and shuffle bytes over the rate."""
    plot_combine(report.rows, path)


def _row(rate: int, live: Live, *, combine: bool) -> Row:
    return {
        "rate": rate,
        "combine": combine,
        "shuffle_bytes_per_batch": round(live.shuffle_bytes_per_batch),
        "batch_latency_ms": percentiles([took_ms for _, _, took_ms in live.batches]),
        "window_latency_ms": live.report["latency_ms"],
        "worker_cpu_cores": live.cpu_cores.get("worker"),
        "exact": live.exact,
        "sustained": live.sustained,
    }


def claims(rows: Sequence[Row]) -> Iterator[Claim]:
    """At the highest rate: bytes and median latency with it over without; all counts exact."""
    rate = max(row["rate"] for row in rows)
    with_ = next(row for row in rows if row["rate"] == rate and row["combine"])
    without = next(row for row in rows if row["rate"] == rate and not row["combine"])
    name = f"{rate} events/s, aggregated before the shuffle over not"
    ratio = _ratio(with_["shuffle_bytes_per_batch"], without["shuffle_bytes_per_batch"])
    yield Claim(f"{name}: shuffle bytes", ratio, RATIO_MAX, "ratio")
    late, without_late = (row["window_latency_ms"] or {} for row in (with_, without))
    ratio = _ratio(late.get("p50"), without_late.get("p50"))
    yield Claim(f"{name}: p50 window latency", ratio, RATIO_MAX, "ratio")
    yield exact_claim(rows)


def _ratio(over: float | None, under: float | None) -> float | None:
    return round(over / under, 3) if over is not None and under else None

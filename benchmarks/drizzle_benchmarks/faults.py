"""Runs with a fault, several times over: one row each, claims on the median run."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import median
from typing import Any

from drizzle_benchmarks.outages import Outage, outage
from drizzle_benchmarks.report import Claim, Report, Row, exact_claim
from drizzle_benchmarks.runs import BATCH_INTERVAL_MS, Loaded

RUNS_MAX = 50
Measure = Callable[[], Awaitable[Loaded]]


def add_load_arguments(parser: argparse.ArgumentParser, *, seconds: float) -> None:
    """How much, how long, how often."""
    parser.add_argument("--rate", type=int, default=20_000, help="events per second (default: 20000)")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help=f"length of a run (default: {seconds:g})"
    )
    parser.add_argument("--runs", type=int, default=3, help="runs; claims are on the median (default: 3)")


async def measure(
    name: str, event: str, run: Measure, arguments: argparse.Namespace, bounds: Mapping[str, float]
) -> Report:
    """Run it `--runs` times. `bounds`: the claimed seconds to normal and ms above normal."""
    rows: list[Row] = []
    series: list[Mapping[str, Any]] = []
    for _ in range(min(max(arguments.runs, 1), RUNS_MAX)):
        found = await run()
        killed_at_ms = float(found.report["killed_at_ms"])
        rows.append(_row(event, found.report, outage(found.windows, killed_at_ms)))
        series.append({"event": event, "fault_at_ms": killed_at_ms, "windows": found.windows})
    settings = {
        "rate": arguments.rate,
        "seconds": arguments.seconds,
        "runs": len(rows),
        "batch_interval_ms": BATCH_INTERVAL_MS,
    }
    return Report(name, settings, rows, _claims(rows, bounds), series)


def _row(event: str, found: Mapping[str, Any], measured: Outage) -> Row:
    return {
        "event": event,
        "exact": bool(found["exact"]),
        "normal_window_latency_ms": round(measured.normal_ms, 1),
        "normal_max_window_latency_ms": round(measured.normal_max_ms, 1),
        "peak_window_latency_ms": round(measured.peak_ms, 1),
        "seconds_to_normal": measured.seconds_to_normal,
        "replayed_batches": found["replayed_batches"],
        "survivors_max_gap_ms": round(measured.first_rows_max_gap_ms, 1),
        "recovery_seconds": found["recovery_seconds"],
    }


def _claims(rows: Sequence[Row], bounds: Mapping[str, float]) -> list[Claim]:
    claims = [exact_claim(rows)]
    if "seconds_to_normal" in bounds:
        times = [row["seconds_to_normal"] for row in rows]
        known = [float(one) for one in times if one is not None]
        typical = median(known) if len(known) == len(times) else None
        claims.append(Claim("latency is normal again after", typical, bounds["seconds_to_normal"], "s"))
    if "above_normal_ms" in bounds:
        above = median(row["peak_window_latency_ms"] - row["normal_window_latency_ms"] for row in rows)
        claims.append(
            Claim("peak window latency above normal", round(above, 1), bounds["above_normal_ms"], "ms")
        )
    return claims

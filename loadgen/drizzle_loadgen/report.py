"""Figures for people and for programs: bounded histograms, percentiles, tables, JSON.

A histogram keeps logarithmic buckets one percent wide instead of values, so that an hour at 200 blocks per
second costs what a second costs; the maximum is exact, a percentile is right within one percent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PERCENTS = (50, 95, 99)
_RESOLUTION = math.log(1.01)
_SMALLEST = 0.001  # everything below is one bucket; in ms this is a microsecond


@dataclass(frozen=True, slots=True)
class Percentiles:
    """p50, p95, p99 and max of `count` values, in the unit of the values."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles | None:
        """Exact, by nearest rank: the least value with at least that share at or below; None without any."""
        ordered = sorted(values)
        if not ordered:
            return None
        p50, p95, p99 = (ordered[math.ceil(percent / 100 * len(ordered)) - 1] for percent in PERCENTS)
        return cls(len(ordered), p50, p95, p99, ordered[-1])

    def as_json(self) -> dict[str, float]:
        """p50, p95, p99, max rounded to a microsecond (of ms), and count."""
        figures = {f"p{percent}": round(getattr(self, f"p{percent}"), 3) for percent in PERCENTS}
        return {**figures, "max": round(self.max, 3), "count": self.count}


class Histogram:
    """Counts values of 0 and above in buckets one percent wide: its size grows with their spread alone."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._count = 0
        self._max = 0.0

    def add(self, value: float) -> None:
        """Count one value; below zero counts as zero."""
        bucket = math.ceil(math.log(value / _SMALLEST) / _RESOLUTION) if value > _SMALLEST else 0
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._count += 1
        self._max = max(self._max, value)

    def merge(self, other: Histogram) -> None:
        """Count all that `other` has counted."""
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self._count += other._count
        self._max = max(self._max, other._max)

    def percentiles(self) -> Percentiles | None:
        """By nearest rank, each at most one percent above the true value; None if nothing was counted."""
        if not self._count:
            return None
        p50, p95, p99 = (self._at(percent) for percent in PERCENTS)
        return Percentiles(self._count, p50, p95, p99, self._max)

    def _at(self, percent: int) -> float:
        rank, seen, reached = math.ceil(percent / 100 * self._count), 0, 0
        for bucket in sorted(self._buckets):
            seen, reached = seen + self._buckets[bucket], bucket
            if seen >= rank:
                break
        return min(self._max, _SMALLEST * math.exp(reached * _RESOLUTION) if reached else 0.0)


def as_json(percentiles: Percentiles | None) -> dict[str, float] | None:
    """`Percentiles.as_json`, None staying None."""
    return None if percentiles is None else percentiles.as_json()


def write_json(value: Mapping[str, Any], destination: str) -> None:
    """Write one JSON object to the file `destination`, or to standard output if it is `-`."""
    if destination == "-":
        print(json.dumps(value), flush=True)
    else:
        Path(destination).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def print_report(
    title: str, figures: Sequence[tuple[str, str]], latencies: Sequence[tuple[str, Percentiles | None]]
) -> None:
    """Show figures and percentiles (ms) as tables on standard error; standard output is for programs."""
    console = Console(stderr=True)
    facts = Table("", "", title=title, show_header=False)
    for name, value in figures:
        facts.add_row(name, value)
    console.print(facts)
    table = Table("latency, ms", *(f"p{percent}" for percent in PERCENTS), "max", "values")
    for name, found in latencies:
        if found is not None:
            cells = (f"{value:,.1f}" for value in (found.p50, found.p95, found.p99, found.max))
            table.add_row(name, *cells, f"{found.count:,}")
    if table.row_count:
        console.print(table)

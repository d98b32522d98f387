"""A picture of what aggregating before the shuffle is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks.canvas import canvas


def plot_combine(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Median and p99 window latency, and shuffle bytes a batch, over the rate."""
    with canvas(path, columns=2) as [times, sizes]:
        for number, combine in enumerate((False, True)):
            line = [row for row in rows if row["combine"] is combine and row["window_latency_ms"]]
            rates = [row["rate"] for row in line]
            name = "before the shuffle" if combine else "only behind it"
            for share, style in (("p50", "-"), ("p99", "--")):
                late = [row["window_latency_ms"][share] for row in line]
                times.plot(rates, late, style, marker=".", color=f"C{number}", label=f"{name}, {share}")
            shuffled = [row["shuffle_bytes_per_batch"] / 1024.0 for row in line]
            sizes.plot(rates, shuffled, marker=".", color=f"C{number}", label=name)
        times.set(xlabel="events per second", ylabel="window latency, ms", yscale="log")
        sizes.set(xlabel="events per second", ylabel="shuffle, KiB a batch", yscale="log")
        for axes in (times, sizes):
            axes.grid(visible=True, which="both", alpha=0.25)
        times.legend()

"""Pictures of live runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks.canvas import canvas


def plot_latency(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """p50 and p99 window latency over the rate, a colour per batch interval; a cross: not kept up with."""
    with canvas(path) as [axes]:
        for number, interval_ms in enumerate(dict.fromkeys(row["batch_interval_ms"] for row in rows)):
            line = [
                row for row in rows if row["batch_interval_ms"] == interval_ms and row["window_latency_ms"]
            ]
            line.sort(key=lambda row: row["rate"])
            rates = [row["rate"] for row in line]
            for share, style in (("p50", "-"), ("p99", "--")):
                late = [row["window_latency_ms"][share] for row in line]
                label = f"{interval_ms} ms batches, {share}"
                axes.plot(rates, late, style, marker=".", color=f"C{number}", label=label)
            failed = [row for row in line if not (row["sustained"] and row["exact"])]
            late = [row["window_latency_ms"]["p99"] for row in failed]
            axes.plot([row["rate"] for row in failed], late, "x", color="black")
        axes.set(xlabel="events per second", ylabel="window latency, ms", yscale="log")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend()

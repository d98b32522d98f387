"""Batch times over a size, as PNG files, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks.canvas import canvas


def plot_batch_times(rows: Sequence[Mapping[str, Any]], size: str, label: str, path: Path) -> None:
    """p50 and p99 of batch time over the size that varies. Raises `ImportError`."""
    with canvas(path) as [axes]:
        for name in ("p50", "p99"):
            times = [row["batch_ms"][name] for row in rows]
            axes.plot([row[size] for row in rows], times, marker="o", label=name)
        axes.set(xlabel=label, ylabel="batch time, ms", xscale="log", ylim=(0, None))
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend()

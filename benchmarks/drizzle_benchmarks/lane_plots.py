"""Batch times over a size, as PNG files, where matplotlib is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_batch_times(rows: Sequence[Mapping[str, Any]], size: str, label: str, path: Path) -> None:
    """p50 and p99 of batch time over the size that varies. Raises `ImportError`."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    for name in ("p50", "p99"):
        times = [row["batch_ms"][name] for row in rows]
        axes.plot([row[size] for row in rows], times, marker="o", label=name)
    axes.set(xlabel=label, ylabel="batch time, ms", xscale="log", ylim=(0, None))
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)

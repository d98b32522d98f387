"""Timelines as PNG files, where matplotlib is installed (`pip install 'drizzle-streams[bench]'`)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_outages(series: Sequence[Mapping[str, Any]], title: str, file: Path) -> None:
    """Window latency over time, one line a run, time counted from the fault. Raises `ImportError`."""
    # By name: types of an extra are for nobody.
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    for number, one in enumerate(series, 1):
        ends = [(end - one["fault_at_ms"]) / 1000.0 for end, _, _ in one["windows"]]
        axes.plot(ends, [late for _, late, _ in one["windows"]], linewidth=1.2, label=f"run {number}")
    axes.axvline(0.0, color="0.3", linestyle="--", linewidth=1)
    axes.set(title=title, xlabel="window end, seconds from the fault", ylabel="window latency, ms")
    axes.set_yscale("log")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def plot_losses(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss over group size, a line per setting; what chose by itself as points on it."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")

    figure, axes = pyplot.subplots(figsize=(9, 4), layout="constrained")
    for setting in dict.fromkeys(row["setting"] for row in rows):
        fixed = [row for row in rows if row["setting"] == setting and row["mode"] == "fixed"]
        axes.plot([row["group_size"] for row in fixed], [row["loss"] for row in fixed], label=setting)
    for row in rows:
        if row["mode"] != "fixed":
            axes.annotate(row["mode"], (row["group_size"], row["loss"]))
            axes.plot(row["group_size"], row["loss"], "o", color="black")
    axes.set(xlabel="group size (batches)", ylabel="loss (s/s)", xscale="log", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

"""Timelines as PNG files, where matplotlib is installed (`pip install 'drizzle-streams[bench]'`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks.canvas import canvas


def plot_outages(series: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Window latency over time, one line a run, time counted from the fault. Raises `ImportError`."""
    with canvas(path) as [axes]:
        for number, one in enumerate(series, 1):
            ends = [(end - one["fault_at_ms"]) / 1000.0 for end, _, _ in one["windows"]]
            axes.plot(ends, [late for _, late, _ in one["windows"]], linewidth=1.2, label=f"run {number}")
        axes.axvline(0.0, color="0.3", linestyle="--", linewidth=1)
        axes.set(title=title, xlabel="window end, seconds from the fault", ylabel="window latency, ms")
        axes.set_yscale("log")
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend()


def plot_losses(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss over group size, a line per setting; what chose by itself as points on it."""
    with canvas(path) as [axes]:
        for setting in dict.fromkeys(row["setting"] for row in rows):
            fixed = [row for row in rows if row["setting"] == setting and row["mode"] == "fixed"]
            axes.plot([row["group_size"] for row in fixed], [row["loss"] for row in fixed], label=setting)
        for row in rows:
            if row["mode"] != "fixed":
                axes.annotate(row["mode"], (row["group_size"], row["loss"]))
                axes.plot(row["group_size"], row["loss"], "o", color="black")
        axes.set(xlabel="group size (batches)", ylabel="loss (s/s)", xscale="log", yscale="log")
        axes.legend()


def plot_scheduling(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Time per batch over the number of workers, a picture per number of stages, a line per mode."""
    stages = list(dict.fromkeys(row["stages"] for row in rows))
    with canvas(path, columns=len(stages), sharey=True) as pictures:
        for number, axes in zip(stages, pictures, strict=True):
            shown = [row for row in rows if row["stages"] == number]
            for mode, size in dict.fromkeys((row["mode"], row["group_size"]) for row in shown):
                line = [row for row in shown if (row["mode"], row["group_size"]) == (mode, size)]
                label = f"groups of {size}" if mode == "group" else mode
                times = [row["ms_per_batch"] for row in line]
                axes.plot([row["workers"] for row in line], times, marker="o", label=label)
            axes.set(title=f"stages: {number}", xlabel="workers", xscale="log", yscale="log")
            axes.grid(visible=True, which="both", alpha=0.25)
        pictures[0].set_ylabel("ms per batch")
        pictures[0].legend()

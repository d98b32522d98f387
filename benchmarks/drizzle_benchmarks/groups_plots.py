"""A picture of what group boundaries cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks.canvas import canvas


def plot_groups(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """p99 at boundaries (lines) and of other batches (dots) over the group size, a picture per interval."""
    intervals = list(dict.fromkeys(row["batch_interval_ms"] for row in rows))
    with canvas(path, columns=len(intervals), sharey=True) as pictures:
        for interval_ms, axes in zip(intervals, pictures, strict=True):
            for number, ahead in enumerate((False, True)):
                line = [
                    row
                    for row in rows
                    if (row["batch_interval_ms"], row["pipelined"]) == (interval_ms, ahead)
                    if row["boundary_p99_ms"] is not None
                ]
                sizes, name = [row["group_size"] for row in line], "pipelined" if ahead else "not pipelined"
                at = [row["boundary_p99_ms"] for row in line]
                axes.plot(sizes, at, marker="o", color=f"C{number}", label=f"boundaries, {name}")
                others = [row["other_p99_ms"] for row in line]
                axes.plot(sizes, others, ":", marker=".", color=f"C{number}", label=f"others, {name}")
            axes.set(title=f"{interval_ms:g} ms batches", xlabel="group size", xscale="log", yscale="log")
            axes.grid(visible=True, which="both", alpha=0.25)
        pictures[0].set_ylabel("p99 of the oldest record, ms")
        pictures[0].legend()

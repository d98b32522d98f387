"""What a soak looked at over its batches, as PNG files, where matplotlib is installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


def plot_soak(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Memory of each service, and batch latency, over the number of batches. Raises `ImportError`."""
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")

    figure, (memory, latency) = pyplot.subplots(2, 1, figsize=(9, 6), layout="constrained", sharex=True)
    batches = [row["batches"] for row in rows]
    for name in rows[0]["resident_bytes"]:
        memory.plot(batches, [row["resident_bytes"][name] / MIB for row in rows], label=name)
    memory.plot(batches, [row["redis_bytes"] / MIB for row in rows], label="redis (used)", linestyle="--")
    memory.set(ylabel="resident, MiB", ylim=(0, None))
    memory.legend()
    latency.plot(batches, [row["batch_latency_p50_ms"] for row in rows], marker="o")
    latency.set(xlabel="batches", ylabel="batch latency p50, ms", ylim=(0, None))
    figure.savefig(path, dpi=100)
    pyplot.close(figure)

"""What a soak looked at over its batches, as PNG files, where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks.canvas import canvas

MIB = 1024 * 1024


def plot_soak(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Memory of each service, and batch latency, over the number of batches. Raises `ImportError`."""
    with canvas(path, rows=2, size=(9.0, 6.0), sharex=True) as [memory, latency]:
        batches = [row["batches"] for row in rows]
        for name in rows[0]["resident_bytes"]:
            memory.plot(batches, [row["resident_bytes"][name] / MIB for row in rows], label=name)
        memory.plot(batches, [row["redis_bytes"] / MIB for row in rows], label="redis (used)", linestyle="--")
        memory.set(ylabel="resident, MiB", ylim=(0, None))
        memory.legend()
        latency.plot(batches, [row["batch_latency_p50_ms"] for row in rows], marker="o")
        latency.set(xlabel="batches", ylabel="batch latency p50, ms", ylim=(0, None))

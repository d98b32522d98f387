"""The picture of `drizzle bench throughput`: a group of bars for each number of cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks.canvas import canvas


def plot_throughput(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Million events per second by cores, a bar an engine. Raises `ImportError`."""
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    cores = sorted({row["cores"] for row in rows})
    width = 0.8 / len(engines)
    with canvas(path, size=(7.0, 4.0)) as [axes]:
        for place, engine in enumerate(engines):
            shown = [row for row in rows if row["engine"] == engine]
            at = [cores.index(row["cores"]) + (place - (len(engines) - 1) / 2) * width for row in shown]
            bars = axes.bar(at, [row["events_per_second"] / 1e6 for row in shown], width, label=engine)
            axes.bar_label(bars, fmt="%.2f")
        axes.set_xticks(range(len(cores)), [f"cores: {number}" for number in cores])
        axes.set(ylabel="million events per second", title="Yahoo Streaming Benchmark over a file")
        axes.legend()

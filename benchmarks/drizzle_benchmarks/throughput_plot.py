"""The picture of `drizzle bench throughput`: for each query a group of bars for each number of cores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks.canvas import canvas


def plot_throughput(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Million events per second by cores, a bar an engine, a picture a query. Raises `ImportError`."""
    queries, engines = (list(dict.fromkeys(row[name] for row in rows)) for name in ("query", "engine"))
    cores = sorted({row["cores"] for row in rows})
    width = 0.8 / len(engines)
    with canvas(path, columns=len(queries), size=(4.0 + 3.0 * len(queries), 4.0)) as pictures:
        for query, axes in zip(queries, pictures, strict=True):
            for place, engine in enumerate(engines):
                shown = [row for row in rows if (row["query"], row["engine"]) == (query, engine)]
                at = [cores.index(row["cores"]) + (place - (len(engines) - 1) / 2) * width for row in shown]
                bars = axes.bar(at, [row["events_per_second"] / 1e6 for row in shown], width, label=engine)
                axes.bar_label(bars, fmt="%.2f")
            axes.set_xticks(range(len(cores)), [f"cores: {number}" for number in cores])
            axes.set(title=query)
        pictures[0].set_ylabel("million events per second")
        pictures[0].legend()

"""A picture of what one source takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drizzle_benchmarks.canvas import canvas

BAR = 0.25


def plot_ingest(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Events a second, a bar per format and durability, a picture per size of posts."""
    sizes = list(dict.fromkeys(row["post_events"] for row in rows))
    formats = list(dict.fromkeys(row["format"] for row in rows))
    with canvas(path, columns=len(sizes), sharey=True) as pictures:
        for size, axes in zip(sizes, pictures, strict=True):
            for number, durability in enumerate(dict.fromkeys(row["durability"] for row in rows)):
                shown = [row for row in rows if (row["post_events"], row["durability"]) == (size, durability)]
                places = [formats.index(row["format"]) + (number - 1) * BAR for row in shown]
                axes.bar(places, [row["events_per_second"] for row in shown], BAR, label=durability)
            axes.set_xticks(range(len(formats)), formats)
            axes.set(title=f"posts of {size:,} events")
            axes.grid(visible=True, axis="y", alpha=0.25)
        pictures[0].set_ylabel("events per second")
        pictures[0].legend(title="durability")

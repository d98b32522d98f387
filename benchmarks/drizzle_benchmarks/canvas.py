"""The frame of every picture: a PNG file, where matplotlib is installed (`drizzle-streams[bench]`)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIZE_INCHES = (9.0, 4.0)
DOTS_PER_INCH = 100


@contextmanager
def canvas(
    path: Path,
    *,
    rows: int = 1,
    columns: int = 1,
    size: tuple[float, float] = SIZE_INCHES,
    sharex: bool = False,
    sharey: bool = False,
) -> Iterator[list[Any]]:
    """Axes to draw on, row by row; written to `path` when the block ends. Raises `ImportError`."""
    # By name: types of an extra are for nobody.
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, grid = pyplot.subplots(
        rows, columns, figsize=size, layout="constrained", sharex=sharex, sharey=sharey, squeeze=False
    )
    try:
        yield list(grid.flat)
        figure.savefig(path, dpi=DOTS_PER_INCH)
    finally:
        pyplot.close(figure)

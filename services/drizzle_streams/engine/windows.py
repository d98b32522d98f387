"""Tumbling windows of event time, and the slot: where a group of a window lies in sorted state.

Event time is milliseconds since the Unix epoch as Int64, wherever it came from. Windows
are counted from the epoch, also backwards: window n is [n*size, (n+1)*size).
"""

from __future__ import annotations

from typing import Final

import polars as pl

from drizzle_streams.engine.columns import KEY_HASH, WINDOW_START
from drizzle_streams.engine.keys import HASH_BITS, upper_bits
from drizzle_streams.engine.program import TumblingWindow
from drizzle_streams.errors import BuildError, explain

SLOT: Final = "__slot"
"""uint64: sort key of state rows."""

_WINDOW_BITS: Final = 64 - HASH_BITS


def event_time_ms(name: str, dtype: pl.DataType) -> pl.Expr:
    """Event time of a column as Int64 milliseconds; integers are milliseconds already."""
    if dtype.is_integer():
        return pl.col(name).cast(pl.Int64)
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).dt.epoch("ms")
    raise BuildError(
        explain(
            f"event time {name!r}",
            wanted="an integer column (milliseconds since 1970) or a Datetime column",
            found=str(dtype),
            remedy="Declare or cast it as one of these.",
        )
    )


def window_start(time: pl.Expr, window: TumblingWindow) -> pl.Expr:
    """First instant (ms) of the window that a time (ms) falls into."""
    return (time // window.size_ms * window.size_ms).alias(WINDOW_START)


def slot(window: TumblingWindow | None) -> pl.Expr:
    """Sort key (uint64) of a state row with columns `KEY_HASH` and, if windowed, `WINDOW_START`.

    The upper 16 bits count windows (modulo 65,536), the lower 48 are the upper bits of the
    hash. So the rows of one window are neighbours: closing it is slicing, not filtering, and
    inside a window rows are sorted by hash. Windows 65,536 apart may share slots; like any
    hash collision that costs a comparison and is never wrong, because keys are compared.
    """
    if window is None:
        return pl.col(KEY_HASH).alias(SLOT)
    number = (pl.col(WINDOW_START) // window.size_ms) & ((1 << _WINDOW_BITS) - 1)
    upper = number.cast(pl.UInt64) * pl.lit(1 << HASH_BITS, dtype=pl.UInt64)
    return (upper + upper_bits(pl.col(KEY_HASH))).alias(SLOT)


def slot_range(start: int, size_ms: int) -> tuple[int, int]:
    """First and last slot of a window, both inclusive."""
    first = (start // size_ms & ((1 << _WINDOW_BITS) - 1)) << HASH_BITS
    return first, first + (1 << HASH_BITS) - 1

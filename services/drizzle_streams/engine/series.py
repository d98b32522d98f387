"""The few cheap calls on whole series that the engine is built of.

An expression costs a query plan, 50 to 200 µs however small the frame is; these cost a few
microseconds, except for `search_sorted` (0.1 ms per 1,000 probes).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, cast

import polars as pl

_NUMBERS: Final = pl.int_range(0, 1 << 16, dtype=pl.UInt32, eager=True)
"""Row numbers of all but large frames: a slice is a sixth of making them."""
_CONSTANTS_MAX: Final = 4_096
"""Values that are kept to be repeated; mostly numbers of partitions."""


def search_sorted(series: pl.Series, probes: pl.Series, side: Literal["left", "right"] = "left") -> pl.Series:
    """For each probe (of the same type) the first position not before it ("right": behind it); uint32."""
    return series.search_sorted(probes, side)


def largest(series: pl.Series) -> int | None:
    """The largest value of an integer series; None of none."""
    return cast("int | None", series.max())


def smallest(series: pl.Series) -> int | None:
    """The smallest value of an integer series; None of none."""
    return cast("int | None", series.min())


def total(series: pl.Series) -> int:
    """The sum of an integer series, or how many of a boolean one are true."""
    return int(series.sum())


def constant(name: str, value: int, rows: int, dtype: pl.DataType) -> pl.Series:
    """A series of one value over and over."""
    return _single(name, value, dtype).new_from_index(0, rows)


def row_numbers(rows: int) -> pl.Series:
    """0 … rows-1 as uint32, the type that gathers want."""
    if rows <= len(_NUMBERS):
        return _NUMBERS.slice(0, rows)
    return pl.int_range(0, rows, dtype=pl.UInt32, eager=True)


@lru_cache(_CONSTANTS_MAX)
def _single(name: str, value: int, dtype: pl.DataType) -> pl.Series:
    return pl.Series(name, [value], dtype=dtype)

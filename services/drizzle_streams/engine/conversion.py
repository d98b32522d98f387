"""From what a record holds to what the schema declares, value by value.

Rules:
- A value converts or it does not, whatever stands beside it: the same record is read the
  same way in every batch, so nothing is inferred from a column as a whole.
- What does not convert becomes null here; the caller tells such nulls from real ones and
  makes the record a dead letter.
- Text that holds a number is a number where a number is declared (YSB's event time is text).
"""

from __future__ import annotations

from typing import Final

import polars as pl

from drizzle_streams.engine.failures import POLARS_ERRORS

_NAIVE_FORMATS: Final = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d")
_ZONED_FORMAT: Final = "%+"
"""ISO 8601 with `Z` or an offset."""


def read_type(dtype: pl.DataType) -> pl.DataType:
    """The type to read a JSON value as: text for every scalar, itself for lists and structs."""
    return dtype if dtype.is_nested() else pl.String()


def convert(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """The column as `dtype`; null where a value does not convert."""
    if column.dtype == dtype:
        return column
    try:
        return _convert(column, dtype)
    except POLARS_ERRORS:
        # Some conversions raise instead of giving null: find out value by value which.
        singles = [_convert_one(column.slice(row, 1), dtype) for row in range(len(column))]
        return pl.concat([pl.Series(column.name, [], dtype=dtype), *singles])


def _convert_one(value: pl.Series, dtype: pl.DataType) -> pl.Series:
    try:
        return _convert(value, dtype)
    except POLARS_ERRORS:
        return pl.Series(value.name, [None], dtype=dtype)


def _convert(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    if column.dtype == pl.String:
        if dtype == pl.Boolean:
            return _boolean(column)
        if isinstance(dtype, pl.Datetime):
            return _datetime(column, dtype)
        if dtype == pl.Date:
            return column.str.to_date("%Y-%m-%d", strict=False)
        if dtype == pl.Time:
            return column.str.to_time("%H:%M:%S%.f", strict=False)
        if isinstance(dtype, pl.Duration):
            return column.cast(pl.Int64, strict=False).cast(dtype)
    return column.cast(dtype, strict=False)


def _boolean(text: pl.Series) -> pl.Series:
    value = pl.col(text.name)
    chosen = pl.when(value == "true").then(statement=True).when(value == "false").then(statement=False)
    return text.to_frame().select(chosen.alias(text.name)).to_series()


def _datetime(text: pl.Series, dtype: pl.Datetime) -> pl.Series:
    """ISO 8601: a zone in the text gives an instant; text without one fits a column without one only."""
    value = pl.col(text.name).str
    zoned = value.to_datetime(_ZONED_FORMAT, time_unit=dtype.time_unit, time_zone="UTC", strict=False)
    if dtype.time_zone is not None:
        parsed = zoned.dt.convert_time_zone(dtype.time_zone)
    else:
        naive = [value.to_datetime(form, time_unit=dtype.time_unit, strict=False) for form in _NAIVE_FORMATS]
        parsed = pl.coalesce(zoned.dt.replace_time_zone(None), *naive)
    return text.to_frame().select(parsed.alias(text.name)).to_series()

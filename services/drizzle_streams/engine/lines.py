"""Short NDJSON payloads read as one JSON array, which takes half the time of Polars' line reader.

The line reader is built for files: it plans a query and runs it on threads of its own. Measured
on a busy machine in one run, records of 240 bytes, by lines and as an array: 20 take 670 and 35 µs,
500 take 1,020 and 620, 1,000 take 1,420 and 1,260; beyond that the array is slower.

Joining lines by commas is not innocent: a record broken in two lines may become whole, and one
line may hold two. So a mark, an object with a field that no producer can know, is put before each
line: where the rows are mark, record, mark, record, and so on, each line was one value. A value that
is no object shows as a row without any value, so some column has to have one in every row. Whatever
does not come out like that (also bad JSON and blank lines) is None, and left to the line reader,
whose judgement counts. For text columns only: the two readers agree on how a number becomes text, but
not on what to do with a value that does not fit a nested type.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.failures import POLARS_ERRORS

ARRAY_BYTES_MAX: Final = 192 * 1024
"""Payloads above this are better off with the line reader."""

_MARK: Final = f"__{secrets.token_hex(12)}"
_BEFORE: Final = f'{{"{_MARK}":1}},'.encode()
_BETWEEN: Final = b"," + _BEFORE
_EVERY_OTHER: Final = pl.int_range(0, ARRAY_BYTES_MAX, 2, dtype=pl.UInt32, eager=True)


def read_as_array(payload: bytes, types: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
    """The records of the lines, one row each; None where that cannot be told for certain.

    `types` are those of text columns, at least one.
    """
    lines = payload.removesuffix(b"\n").split(b"\n")
    marked = b"".join((b"[", _BEFORE, _BETWEEN.join(lines), b"]"))
    try:
        frame = pl.read_json(marked, schema={**types, _MARK: pl.Int8()})
    except POLARS_ERRORS:
        return None
    marks = frame.drop_in_place(_MARK)
    before = _EVERY_OTHER.slice(0, len(lines))
    if frame.height != 2 * len(lines) or marks.null_count() != len(lines) or marks[before].null_count():
        return None
    records = eager.rows_at(frame, before + 1)
    return records if any(not column.null_count() for column in records.get_columns()) else None

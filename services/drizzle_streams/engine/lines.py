"""Short NDJSON payloads read as one JSON array, which takes half the time of Polars' line reader.

The line reader is built for files: it plans a query and runs it on threads of its own. Measured
on a busy machine in one run, records of 240 bytes, by lines and as an array: 20 take 670 and 35 µs,
500 take 1,020 and 620, 1,000 take 1,420 and 1,260; beyond that the array is slower.

Joining lines by commas is not innocent: a record broken in two lines may become whole, and one
line may hold two. So a mark, a field that no producer can know, is put first into what each line
begins: where every row has it, and there are as many rows as lines, each line was one record.
Whatever does not come out like that (also bad JSON, blank lines, text before a brace) is None, and
left to the line reader, whose judgement counts. For text columns only: the two readers agree on how
a number becomes text, but not on what to do with a value that does not fit a nested type.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

import polars as pl

from drizzle_streams.engine.failures import POLARS_ERRORS

ARRAY_BYTES_MAX: Final = 192 * 1024
"""Payloads above this are better off with the line reader."""

_MARK: Final = f"__{secrets.token_hex(12)}"
_OPEN: Final = f'{{"{_MARK}":1,'.encode()
_NEXT: Final = b"," + _OPEN


def read_as_array(payload: bytes, types: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
    """The records of the lines, one row each; None where that cannot be told for certain.

    `types` are those of text columns.
    """
    lines = payload.removesuffix(b"\n")
    if not lines.startswith(b"{"):
        return None
    marked = b"".join((b"[", _OPEN, lines[1:].replace(b"\n{", _NEXT), b"]"))
    try:
        frame = pl.read_json(marked, schema={**types, _MARK: pl.Int8()})
    except POLARS_ERRORS:
        return None
    marks = frame.drop_in_place(_MARK)
    if frame.height != lines.count(b"\n") + 1 or marks.null_count():
        return None
    return frame

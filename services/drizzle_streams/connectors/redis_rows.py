"""Frames as arguments of the sink's script: columns, not records, and text, not numbers.

Text, because Lua knows only doubles, which would round large integers and shorten floats. A
column goes as one MessagePack array, so a token is a handful of arguments whatever its rows:
packing one argument per cell costs three times as much in the client and in Redis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import msgpack
import polars as pl

from drizzle_streams.connectors.base import data_columns
from drizzle_streams.engine import eager
from drizzle_streams.engine.columns import WINDOW_END, WINDOW_START

RESERVED_NAMES = frozenset({"windows", "window", "keys", "tokens"})
"""What lies beside the rows under the prefix."""

ROWS_PER_CHUNK = 5_000
"""What the script unpacks at a time, which bounds the memory of Redis's Lua."""


def field_names(frame: pl.DataFrame, keys: Sequence[str]) -> list[str]:
    """The columns that become fields of the hashes."""
    return [
        name for name in data_columns(frame) if name not in keys and name not in (WINDOW_START, WINDOW_END)
    ]


def packed(names: Sequence[str]) -> bytes:
    """A list of names as the script unpacks it."""
    return _packed(list(names))


def packed_rows(frames: Sequence[pl.DataFrame], keys: Sequence[str]) -> list[list[bytes]]:
    """For each frame its rows in order, up to `ROWS_PER_CHUNK` in one piece; the frames have one schema.

    A piece is keys, window starts (`false` where the rows have none), one array per field.
    """
    heights = [frame.height for frame in frames]
    if sum(heights) > ROWS_PER_CHUNK:
        return [list(_pieces(frame, keys)) for frame in frames]
    columns = _columns(eager.stacked(frames), keys)  # a few rows cost as much to make text of as many
    edges = pairwise(accumulate(heights, initial=0))
    return [[_packed([column and column[first:end] for column in columns])] for first, end in edges]


def _pieces(frame: pl.DataFrame, keys: Sequence[str]) -> Iterator[bytes]:
    for first in range(0, frame.height, ROWS_PER_CHUNK):
        yield _packed(_columns(frame.slice(first, ROWS_PER_CHUNK), keys))


def _columns(frame: pl.DataFrame, keys: Sequence[str]) -> list[Any]:
    windows = _text(frame[WINDOW_START]) if WINDOW_START in frame.columns else False
    return [_key_names(frame, keys), windows, *(_text(frame[name]) for name in field_names(frame, keys))]


def _packed(value: list) -> bytes:
    """MessagePack of the old form, in which bytes are strings: Redis's Lua knows no other."""
    return msgpack.packb(value, use_bin_type=False)


def _key_names(frame: pl.DataFrame, keys: Sequence[str]) -> list[str]:
    """What stands in the rows' Redis names between prefix and window."""
    parts = [_key_parts(frame[name], first=index == 0) for index, name in enumerate(keys)]
    return parts[0] if len(parts) == 1 else [":".join(part) for part in zip(*parts, strict=True)]


def _key_parts(column: pl.Series, *, first: bool) -> list[str]:
    """A key column's values, escaped so that different keys give different names."""
    values = _text(column)
    if column.dtype != pl.Binary and not column.null_count():
        every = "".join(values)  # one look at all of them: hardly any key needs escaping
        if ":" not in every and "%" not in every and not (first and RESERVED_NAMES.intersection(values)):
            return values
    return [_escaped(value, first=first) for value in values]


def _escaped(value: str | bytes | None, *, first: bool) -> str:
    if value is None:
        return "%null"
    if isinstance(value, bytes):
        value = value.hex()
    if ":" in value or "%" in value:
        value = value.replace("%", "%25").replace(":", "%3A")
    return "%" + value if first and value in RESERVED_NAMES else value


def _text(column: pl.Series) -> list:
    """Values as text that reads back exactly, bytes as they are, nulls as None."""
    if column.dtype == pl.Binary:
        return column.to_list()
    return (column if column.dtype == pl.String else column.cast(pl.String)).to_list()

"""Frames as arguments of the sink's script: columns, not records, and text, not numbers.

Text, because Lua knows only doubles, which would round large integers and shorten floats. A
column goes as one MessagePack array, so a token is a handful of arguments whatever its rows:
packing one argument per cell costs three times as much in the client and in Redis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgpack
import polars as pl

from drizzle_streams.connectors.base import data_columns
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


def chunks(frame: pl.DataFrame, keys: Sequence[str]) -> Iterator[bytes]:
    """The rows in order, up to `ROWS_PER_CHUNK` at a time: keys, window starts, one array per field.

    Window starts are `false` where the rows have none.
    """
    for first in range(0, frame.height, ROWS_PER_CHUNK):
        part = frame.slice(first, ROWS_PER_CHUNK) if frame.height > ROWS_PER_CHUNK else frame
        windows = _text(part[WINDOW_START]) if WINDOW_START in part.columns else False
        fields = [_text(part[name]) for name in field_names(part, keys)]
        yield _packed([_key_names(part, keys), windows, *fields])


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

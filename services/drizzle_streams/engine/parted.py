"""A static table in parts, for joins that go by key: a worker unpacks the rows of its own key groups only.

Rules:
- A part holds the rows of a range of key groups of the keys, Arrow, compressed. Rows are sorted by the
  stable hash of the keys, rows of one hash stand in the table's order; so parts behind each
  other are an index already, and nothing is sorted when they are unpacked.
- A row with a null key is in no part: it matches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Final

import polars as pl

from drizzle_streams.engine.columns import KEY_GROUP, KEY_HASH
from drizzle_streams.engine.keys import key_group, key_hash
from drizzle_streams.model.job import key_group_range

PARTS: Final = 64
"""Parts of a table: a worker with one of up to 64 partitions unpacks no more than it needs."""

_ROW: Final = "__row"


@dataclass(frozen=True, slots=True)
class PartedTable:
    """The rows of a table by key group. `bytes` is what the whole table takes in memory, about."""

    keys: tuple[str, ...]
    schema: Mapping[str, pl.DataType]
    rows: int
    bytes: int
    key_groups: int
    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, table: pl.DataFrame, keys: Sequence[str], key_groups: int) -> PartedTable:
        """The table in parts by its key columns."""
        known = table.drop_nulls(list(keys)).with_row_index(_ROW)
        hashed = known.with_columns(key_hash(keys, table.schema)).sort(KEY_HASH, _ROW)
        placed = hashed.with_columns(key_group(key_groups))
        count = min(PARTS, key_groups)
        parts = [_packed(placed, *key_group_range(part, count, key_groups)) for part in range(count)]
        size = int(table.estimated_size())
        return cls(tuple(keys), dict(table.schema), table.height, size, key_groups, tuple(parts))

    def clear(self) -> PartedTable:
        """The same table without rows."""
        return replace(self, rows=0, bytes=0, parts=())

    def unpacked(self, ranges: Sequence[tuple[int, int]] | None) -> pl.DataFrame:
        """The rows of these ranges of key groups (None: all), sorted by their hash in `KEY_HASH`."""
        frames: list[pl.DataFrame] = []
        for number, part in enumerate(self.parts):
            first, end = key_group_range(number, len(self.parts), self.key_groups)
            wanted = [(first, end)] if ranges is None else _within(ranges, first, end)
            if part and wanted:
                frames.append(self._rows(part, None if wanted == [(first, end)] else wanted))
        nothing = pl.DataFrame(schema={**self.schema, KEY_HASH: pl.UInt64()})
        return pl.concat([nothing, *frames], rechunk=True)

    def _rows(self, part: bytes, ranges: Sequence[tuple[int, int]] | None) -> pl.DataFrame:
        rows = pl.read_ipc_stream(part).with_columns(key_hash(self.keys, self.schema))
        if ranges is None:
            return rows
        group = pl.col(KEY_GROUP)
        owned = pl.any_horizontal([(group >= first) & (group < end) for first, end in ranges])
        return rows.with_columns(key_group(self.key_groups)).filter(owned).drop(KEY_GROUP)


def _packed(placed: pl.DataFrame, first: int, end: int) -> bytes:
    """A part as bytes, none where it has no rows. `placed` is sorted by key group."""
    edges = placed.get_column(KEY_GROUP).cast(pl.UInt32)
    start, stop = (edges.search_sorted(edge, "left") for edge in (first, end))
    rows = placed.slice(start, stop - start).drop(KEY_GROUP, KEY_HASH, _ROW)
    if not rows.height:
        return b""
    written = BytesIO()
    rows.rechunk().write_ipc_stream(written, compression="zstd")
    return written.getvalue()


def _within(ranges: Sequence[tuple[int, int]], first: int, end: int) -> list[tuple[int, int]]:
    """What of the ranges lies in [first, end)."""
    cut = [(max(start, first), min(stop, end)) for start, stop in ranges]
    return [(start, stop) for start, stop in cut if start < stop]

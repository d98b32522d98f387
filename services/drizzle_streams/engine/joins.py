"""Stream-static joins: the static side is indexed once, a batch pays for its own rows only.

Rules:
- The static side is sorted by the stable hash of its keys; a look-up is a binary search,
  then a comparison of the keys themselves, so that colliding hashes never join.
- A null key matches nothing, on either side.
- Rows come in the order of the stream; several matches of one row in the order of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.columns import KEY_HASH
from drizzle_streams.engine.index import HashIndex, equal_keys
from drizzle_streams.engine.keys import key_hash
from drizzle_streams.engine.program import JoinTable
from drizzle_streams.engine.series import row_numbers

_ROW = "__row"
_FIRST = "__first"
_SUFFIX = "_right"


class TableJoin:
    """One join with one static table. Thread-safe: nothing changes after construction.

    A table that comes sorted by the hash of its keys has that in a column `KEY_HASH`, and no null key.
    """

    def __init__(self, step: JoinTable, table: pl.DataFrame, left_schema: Mapping[str, pl.DataType]) -> None:
        self._left_on = list(step.left_on)
        self._keep_unmatched = step.how == "left"
        self._left_hash = key_hash(step.left_on, left_schema)
        ordered = table if KEY_HASH in table.columns else _sorted(table, step.right_on)
        self._index = HashIndex(ordered.get_column(KEY_HASH))
        ordered = ordered.drop(KEY_HASH)
        self._look_up = [self._left_hash, self._index.first_of(self._left_hash).alias(_FIRST)]
        self._keys = ordered.select(step.right_on).get_columns()
        payload = ordered.drop(list(step.right_on))
        taken = {name: name + _SUFFIX for name in payload.columns if name in left_schema}
        self._payload = payload.rename(taken).get_columns()

    def run(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with the table's columns added; unmatched rows go, or get nulls in a left join."""
        rows, positions = self._matches(frame)
        if self._keep_unmatched:
            rows, positions = _with_unmatched(rows, positions, frame.height)
        every = len(rows) == frame.height and self._index.longest <= 1
        left = frame if every else eager.rows_at(frame, rows)
        return left.hstack([column[positions] for column in self._payload])

    def _matches(self, frame: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
        """Pairs (row of the frame, row of the table) with equal keys, in order."""
        found: list[tuple[pl.Series, pl.Series]] = []
        left = [frame.get_column(name) for name in self._left_on]
        hashes, first = eager.select(frame, self._look_up).get_columns()
        for rows, positions in self._index.candidates(hashes, first):
            probes = left if len(rows) == frame.height else [column[rows] for column in left]
            same = equal_keys(probes, [column[positions] for column in self._keys], nulls_equal=False)
            if same.all():
                found.append((rows, positions))
            else:
                found.append((rows.filter(same), positions.filter(same)))
        return found[0] if len(found) == 1 else _in_order(found)


def _sorted(table: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The rows that can match, by hash; those of one hash in the table's order."""
    rows = table.drop_nulls(list(keys)).with_columns(key_hash(keys, table.schema))
    return rows.sort(KEY_HASH, maintain_order=True).rechunk()


def _in_order(found: list[tuple[pl.Series, pl.Series]]) -> tuple[pl.Series, pl.Series]:
    empty = row_numbers(0)
    rows = pl.concat([empty, *(rows for rows, _ in found)], rechunk=True)
    positions = pl.concat([empty, *(positions for _, positions in found)], rechunk=True)
    order = pl.DataFrame([rows.alias("r"), positions.alias("p")]).sort("r", "p")
    return order.get_column("r"), order.get_column("p")


def _with_unmatched(rows: pl.Series, positions: pl.Series, height: int) -> tuple[pl.Series, pl.Series]:
    """Add the rows that matched nothing, with a null position."""
    if len(rows) == height and (rows == row_numbers(height)).all():
        return rows, positions
    every = pl.DataFrame([row_numbers(height).alias(_ROW)])
    pairs = pl.DataFrame([rows.alias(_ROW), positions.alias("p")])
    joined = every.join(pairs, on=_ROW, how="left", maintain_order="left_right")
    return joined.get_column(_ROW), joined.get_column("p")

"""Which rows of a block a task takes: some upstream partitions, some key groups.

Blocks are kept and sent as whole frames; what is cut away is cut as late as possible, in the
thread that needs it, and not at all where the whole is wanted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.columns import KEY_GROUP, PARTITION
from drizzle_streams.engine.frames import Block
from drizzle_streams.engine.layout import Ranges, ranges_of
from drizzle_streams.engine.series import search_sorted
from drizzle_streams.model.ids import PartitionId
from drizzle_streams.model.job import JobSpec, StageSpec

RANGES_KEPT_MAX = 1_024
"""Sets of partitions whose ranges are remembered."""

PROBES_MAX = 16
"""Values looked up one by one, 5 µs each in a column of any length; more are one call of Polars, 90 µs."""


def wanted_ranges(spec: JobSpec, stage: StageSpec, partitions: Iterable[PartitionId]) -> Ranges | None:
    """The key groups of some partitions of a stage; None when they are all there are."""
    return _ranges(tuple(partitions), stage.partitions, spec.key_groups)


@lru_cache(RANGES_KEPT_MAX)
def _ranges(partitions: tuple[PartitionId, ...], count: int, key_groups: int) -> Ranges | None:
    joined = ranges_of(partitions, count, key_groups)
    return None if joined == ((0, key_groups),) else joined


def cut(block: Block, partitions: frozenset[PartitionId], ranges: Ranges | None) -> Block:
    """The rows from these upstream partitions, in these key groups (None: any), with their marks."""
    sliced = block
    if ranges is not None and block.frame is not None:
        sliced = replace(block, frame=_rows(block.frame, ranges))
    if all(partition in partitions for partition, _ in sliced.marks):
        return sliced
    marks = tuple(mark for mark in sliced.marks if mark[0] in partitions)
    if sliced.frame is None:
        return replace(sliced, marks=marks)
    kept = sliced.frame.filter(pl.col(PARTITION).is_in(sorted(partitions)))
    return replace(sliced, frame=kept if kept.height else None, marks=marks)


def positions(column: pl.Series, values: Sequence[int]) -> list[int]:
    """For each value the first position in a sorted column that is not before it."""
    if len(values) <= PROBES_MAX:
        return [bisect_left(column, value) for value in values]
    wide = column.cast(pl.UInt32)
    return search_sorted(wide, pl.Series(values, dtype=pl.UInt32)).to_list()


def _rows(frame: pl.DataFrame, ranges: Ranges) -> pl.DataFrame | None:
    """The rows of a frame, sorted by key group, that lie in the ranges; None if there are none."""
    edges = positions(frame.get_column(KEY_GROUP), [edge for pair in ranges for edge in pair])
    pieces = [(first, end - first) for first, end in zip(edges[::2], edges[1::2], strict=True) if end > first]
    if not pieces:
        return None
    if len(pieces) == 1:
        return frame.slice(*pieces[0])
    return pl.DataFrame(
        [
            eager.joined([column.slice(first, rows) for first, rows in pieces])
            for column in frame.get_columns()
        ]
    )

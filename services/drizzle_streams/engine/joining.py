"""A join that may be shuffled, between a stage that reads and a stage of its own.

    shuffled:   read -> steps ----(rows, by join key)----> join -> steps -> aggregate ----> merge
    broadcast:  read -> steps -> join -> steps -> aggregate ----(by join key)----> pass on ----> merge

Rules:
- Either way what goes to a partition of the join is what became, or will become, of the rows whose join
  key it owns. So tasks of one batch need not agree on the way, nor even two copies of one task: a
  partition takes what there is of its rows, and a block shows what that is (`BELOW`).
- Rows keep the partition and offset they were read at, and marks are passed on: behind the join
  stage everything is as if there were none. `PARTITION` of what it gives is its own, since it is that
  by which blocks are cut; `ORIGIN` is the one that the aggregation goes by.
- What it gives is the same, row for row, whatever partitions are computed together: nothing is aggregated
  over several partitions of the join (`JOINED`), and what must be added up in order is not before the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.accumulators import RECORDS
from drizzle_streams.engine.closing import Closed, JoinedClosing
from drizzle_streams.engine.columns import (
    BELOW,
    JOINED,
    KEY_GROUP,
    OFFSET,
    ORDER,
    ORIGIN,
    PARTITION,
)
from drizzle_streams.engine.frames import Block
from drizzle_streams.engine.indices import Indices
from drizzle_streams.engine.joins import TableJoin
from drizzle_streams.engine.keys import key_group, key_hash
from drizzle_streams.engine.layout import ranges_of
from drizzle_streams.engine.operators import Steps
from drizzle_streams.engine.parted import PartedTable
from drizzle_streams.engine.program import Aggregation, Explode, JoinTable, Program, Route, StageProgram
from drizzle_streams.engine.watermark import Marks
from drizzle_streams.errors import BuildError, explain
from drizzle_streams.model.ids import StageId
from drizzle_streams.model.replanning import FilterSeen


def owner(partitions: int, key_groups: int) -> pl.Expr:
    """The partition (uint16) that owns the key group of a row: the inverse of `key_group_range`."""
    above = (pl.col(KEY_GROUP).cast(pl.Int64) + 1) * partitions - 1
    return (above // key_groups).cast(pl.UInt16)


class Joining:
    """The join, what follows it, and the aggregation behind; `schema` is that of routed rows.

    Thread-safe: constant, and holds no rows of the joined table.
    """

    def __init__(self, program: Program, stage: StageId, schema: Mapping[str, pl.DataType]) -> None:
        own = program.stage(stage)
        self._route, shuffle = _opened(own)
        self._table = program.parted[self._route.join.table]
        self._left = {**schema, JOINED: pl.UInt16()}
        joined = TableJoin(self._route.join, self._table.clear().unpacked(None), self._left)
        after = joined.run(pl.DataFrame(schema=self._left)).schema
        self.steps = Steps(own.steps, program.tables, after)
        self.closing = JoinedClosing(
            shuffle, self.steps.schemas[-1], program.key_groups, unique=ORDER not in schema
        )
        self._owner = owner(self._route.partitions, program.key_groups).alias(JOINED)
        self._key_groups = program.key_groups

    def index(self, partitions: Sequence[int] | None) -> TableJoin:
        """The table's rows of some partitions of the join, or all, ready for look-ups."""
        ranges = None
        if partitions is not None:
            ranges = ranges_of(partitions, self._route.partitions, self._key_groups)
        return TableJoin(self._route.join, self._table.unpacked(ranges), self._left)

    def joined(
        self,
        rows: pl.DataFrame,
        index: TableJoin,
        order: Sequence[int] | None = None,
        seen: list[FilterSeen] | None = None,
    ) -> pl.DataFrame:
        """Routed rows through the join and the steps behind it; they know where they were joined."""
        where = eager.column(rows, self._owner)
        placed = eager.framed([*(one for one in rows.get_columns() if one.name in self._left), where])
        return self.steps.run(index.run(placed), 0, None, order, seen)


class Router:
    """The end of a stage that reads: rows to where they are joined, joined already or not.

    `rows` and `bytes` are those of the table, `pinned` whether only the stage behind may make the join.
    """

    def __init__(self, program: Program, stage: StageId, schema: Mapping[str, pl.DataType]) -> None:
        own = program.stage(stage)
        route = own.route
        if route is None:
            raise _without("a route to a join", own)
        again = any(isinstance(step, Explode | JoinTable) for step in own.steps)
        self._orders = [pl.int_range(pl.len(), dtype=pl.UInt64).over(PARTITION).alias(ORDER)] if again else []
        self._columns = [*route.columns, PARTITION, OFFSET]
        self.schema = {name: schema[name] for name in self._columns}
        if again:
            self.schema[ORDER] = pl.UInt64()
        self._hash = key_hash(route.join.left_on, schema)
        self._place = key_group(program.key_groups)
        self._partitions, self._key_groups = route.partitions, program.key_groups
        self.pinned = route.pinned
        self.table: PartedTable = program.parted[route.join.table]
        self._below = program, StageId(stage + 1)
        self._whole = Indices(self._made)

    def routed(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows as they go to the stage that joins, by key group."""
        if rows.height:
            self._whole.not_needed()
        return self._placed(rows).sort(KEY_GROUP, maintain_order=True)

    def joined(self, rows: pl.DataFrame, *, partial: bool) -> tuple[Closed, bool]:
        """What the stage that joins would make of the rows, by join key; and whether it may aggregate."""
        joining, index = self._whole.of((0,))
        closed = joining.closing.close(joining.joined(self._placed(rows), index), partial=partial)
        # Any key group of a partition will do; its first one exists, since a job has no more partitions.
        first = (pl.col(JOINED).cast(pl.Int64) * self._key_groups) // self._partitions
        placed = closed.frame.rename({KEY_GROUP: BELOW})
        placed = eager.with_columns(placed, [first.cast(pl.UInt16).alias(KEY_GROUP)])
        ordered = placed.sort(KEY_GROUP, maintain_order=True)
        return Closed(ordered, closed.rows, closed.late), joining.closing.aggregates

    def _made(self, _: tuple[int, ...]) -> tuple[Joining, TableJoin]:
        joining = Joining(*self._below, self.schema)
        return joining, joining.index(None)

    def _placed(self, rows: pl.DataFrame) -> pl.DataFrame:
        ordered = eager.with_columns(rows, self._orders) if self._orders else rows
        lean = eager.framed([ordered.get_column(name) for name in self.schema])
        hashed = eager.with_columns(lean, [self._hash])
        group = eager.column(hashed, self._place)
        return eager.framed([*lean.get_columns(), group])


class JoinStage:
    """A stage that joins: rows by join key in, rows by group out. Thread-safe: indices have a lock."""

    def __init__(self, program: Program, stage: StageId, schema: Mapping[str, pl.DataType]) -> None:
        self._joining = Joining(program, stage, schema)
        self.indices = Indices(self._joining.index)
        self.steps = self._joining.steps
        self.aggregates = self._joining.closing.aggregates

    def run(
        self,
        partitions: Sequence[int],
        blocks: Sequence[Block],
        order: Sequence[int] | None,
        seen: list[FilterSeen],
        *,
        partial: bool,
    ) -> tuple[Block, Closed | None]:
        """What blocks become, and of it what was joined here, if anything was."""
        frames = [block.frame for block in blocks if block.frame is not None]
        ready = [_passed_on(frame) for frame in frames if BELOW in frame.columns]
        routed = [frame for frame in frames if BELOW not in frame.columns]
        closed: Closed | None = None
        if routed:
            # A canonical order, and nearly the one that sums by runs want.
            rows = eager.stacked(routed).sort(PARTITION, maintain_order=True)
            joined = self._joining.joined(rows, self.indices.of(partitions), order, seen)
            closed = self._joining.closing.close(joined, partial=partial)
            ready.append(closed.frame)
        elif ready:
            self.indices.not_needed()
        marks: Marks = tuple((partition, None) for partition in sorted(partitions))
        passed = dict(mark for block in blocks for mark in block.marks)
        return Block(_together(ready), marks, tuple(sorted(passed.items()))), closed


def origins(frame: pl.DataFrame) -> pl.DataFrame:
    """What a stage that joins gave, as the stage before it would have given it."""
    if ORIGIN not in frame.columns:
        return frame
    return frame.drop(PARTITION).rename({ORIGIN: PARTITION})


def apart(
    frame: pl.DataFrame, accumulators: Sequence[str]
) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """Of a block's rows those that were aggregated, and those that were not; a join stage may give both."""
    if RECORDS not in frame.columns:
        return None, frame
    records = frame.get_column(RECORDS)
    if not records.null_count():
        return frame, None
    raw = frame.filter(records.is_null()).drop(accumulators)
    return frame.filter(records.is_not_null()), raw


def _passed_on(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop(KEY_GROUP).rename({BELOW: KEY_GROUP})


def _together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
    """Frames of rows, aggregated or not, as one in order of key group; None of no rows."""
    full = [frame for frame in frames if frame.height]
    if not full:
        return None
    whole = full[0] if len(full) == 1 else pl.concat(full, how="diagonal")
    ordered = whole.sort(KEY_GROUP, PARTITION, maintain_order=True)
    return ordered.rename({PARTITION: ORIGIN}).rename({JOINED: PARTITION})


def _opened(own: StageProgram) -> tuple[Route, Aggregation]:
    if own.join is None or own.shuffle is None:
        raise _without("a join and an aggregation behind it", own)
    return own.join, own.shuffle


def _without(wanted: str, own: StageProgram) -> BuildError:
    remedy = "Compile the job again."
    return BuildError(explain(f"stage {own.stage}", wanted=wanted, found="none", remedy=remedy))

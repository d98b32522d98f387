"""What a worker calls: one stage of one job, run batch by batch. Pure: frames in, frames out.

Rules:
- A call handles all partitions that a worker holds of a stage (a cohort), vectorised. What it
  gives out is the same, row for row, as if each partition had been handled alone.
- Nothing is remembered between calls but what is handed in as state, so calls for different
  cohorts may run in different threads.
- A bad record is a value (`DeadLetter`). An exception means that the user's program failed,
  whatever Polars raised: the job has to stop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Final

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.aggregation import AggregationPlan, needs_offsets
from drizzle_streams.engine.closing import Closing
from drizzle_streams.engine.columns import (
    KEY_GROUP,
    OFFSET,
    ORDER,
    PARTITION,
    WINDOW_END,
    WINDOW_START,
    is_reserved,
)
from drizzle_streams.engine.frames import Block, decode_block, encode_block, slice_block
from drizzle_streams.engine.joining import JoinStage, Router, apart, origins, owner
from drizzle_streams.engine.layout import Layout, Ranges, ranges_of
from drizzle_streams.engine.marks import marks_of
from drizzle_streams.engine.operators import Steps
from drizzle_streams.engine.outcome import Ran, StageOutput
from drizzle_streams.engine.parsing import Load, Parsed, Parser
from drizzle_streams.engine.program import Aggregation, JoinTable, Program, StageProgram, Step
from drizzle_streams.engine.records import END, DeadLetter, InputEntry
from drizzle_streams.engine.restoring import restore
from drizzle_streams.engine.runs import newest_groups
from drizzle_streams.engine.series import largest, smallest
from drizzle_streams.engine.state import StageState, empty_state
from drizzle_streams.engine.watermark import END_MARK, Marks
from drizzle_streams.errors import BuildError, explain
from drizzle_streams.model.ids import NO_BATCH, StageId
from drizzle_streams.model.replanning import StageChoice, StageSeen

__all__ = [
    "Block",
    "DeadLetter",
    "InputEntry",
    "StageExecutor",
    "StageOutput",
    "StageState",
    "decode_block",
    "encode_block",
    "output_schema",
    "slice_block",
]

_ROW_BITS: Final = 28
"""Offset of a row of a merge stage: batch (35 bits), then its number in the batch (28 bits)."""


class StageExecutor:
    """Runs one stage of a program. Thread-safe: nothing changes after construction but indices of tables.

    `partitions` is the number of partitions of the stage (`StageSpec.partitions`); stages that
    take blocks need it to know which key groups a partition owns. Raises `BuildError` where the
    program does not fit the types of its columns.
    """

    def __init__(self, program: Program, stage: StageId, partitions: int = 1) -> None:
        self._stage = program.stage(stage)
        self._partitions = partitions
        self._key_groups = program.key_groups
        self._router: Router | None = None
        self._joins: JoinStage | None = None
        self._closing: Closing | None = None
        self._side = _side(self._stage.steps, program)
        if self._stage.join is not None:
            self._joins = JoinStage(program, stage, _schema_before(program, stage))
            self._steps = self._joins.steps
            self.schema = self._steps.schemas[-1]
            return
        self._steps = Steps(self._stage.steps, program.tables, self._opened(program, partitions))
        self.schema = self._steps.schemas[-1]
        shuffle = _aggregation(program, self._stage)
        self._time = shuffle.event_time if shuffle else None
        self._settled = 0 if self._time is None else self._steps.settled(self._time)
        if self._stage.route is not None:
            self._router = Router(program, stage, self.schema)
            self.schema = self._router.schema
        elif shuffle is not None:
            self._closing = Closing(shuffle, self.schema, program.key_groups)

    def _opened(self, program: Program, partitions: int) -> Mapping[str, pl.DataType]:
        """Make ready what the stage reads or merges; the schema of its rows."""
        stage, shuffle = self._stage, self._stage.shuffle
        if stage.read is not None:
            ordered = stage.route is not None or (shuffle is not None and needs_offsets(shuffle))
            self._parser = Parser(stage.read, with_offsets=ordered)
            return self._parser.parse(()).frame.schema
        if stage.merge is not None:
            plan = AggregationPlan(stage.merge, _schema_before(program, stage.stage), program.key_groups)
            self.layout = Layout(plan, partitions, program.key_groups)
            return self._emitted(self.layout.plan.no_groups, 0).schema
        wanted, remedy = "a stream to read, or blocks to join or merge", "Compile the job again."
        raise BuildError(explain(f"stage {stage.stage}", wanted=wanted, found="none", remedy=remedy))

    def resized(self, partitions: int) -> StageExecutor:
        """The same stage with another number of partitions; stages that merge only."""
        other = copy(self)
        other._partitions = partitions
        other.layout = replace(self.layout, partitions=partitions)
        return other

    # ------------------------------------------------------------------ stages that read a stream

    def run_input(
        self,
        partitions: Sequence[int],
        entries: Sequence[InputEntry],
        choice: StageChoice | None = None,
        load: Load | None = None,
    ) -> StageOutput:
        """A batch of a stage that reads: the entries of these stream partitions, all of them.

        `choice`: how; every one gives the same rows, see `model.replanning`. `load` reads chunks of files.
        """
        ran = self._runs_by(choice)
        parsed = self._parser.parse(entries, load)
        timed = self._steps.run(parsed.frame, 0, self._settled, ran.order, ran.filters)
        marks = marks_of(timed, self._time, parsed.lengths if self._settled == 0 else None, partitions)
        ended = {entry.partition for entry in entries if entry.format == END}
        marks = tuple((p, END_MARK if p in ended else mark) for p, mark in marks) if ended else marks
        rows = self._steps.run(timed, self._settled, None, ran.order, ran.filters)
        if self._router is not None:
            return self._routed(self._router, rows, marks, parsed, ran)
        return self._output(rows, marks, parsed.records, parsed.dead, ran)

    def _routed(
        self, router: Router, rows: pl.DataFrame, marks: Marks, parsed: Parsed, ran: Ran
    ) -> StageOutput:
        """The rows as the stage that joins wants them, or joined here where that is chosen."""
        broadcast = ran.choice is not None and ran.choice.broadcast is True and not router.pinned
        late: pl.DataFrame | None = None
        if broadcast:
            closed, aggregates = router.joined(rows, partial=ran.partial)
            frame, late = closed.frame, closed.late
            ran.closed = closed if aggregates else None
        else:
            frame = router.routed(rows)
        block = Block(frame if frame.height else None, marks)
        seen = self._seen(ran)
        if not router.pinned:
            table = router.table
            seen = replace(seen, join_rows=table.rows, join_bytes=table.bytes, broadcast=broadcast)
        output = StageOutput(block, None, None, 0, parsed.dead, parsed.records, block.rows, seen)
        return output if late is None else output.with_late(late)

    # ------------------------------------------------------------------ stages that join

    def run_join(
        self, partitions: Sequence[int], blocks: Sequence[Block], choice: StageChoice | None = None
    ) -> StageOutput:
        """A batch of a stage that joins: what every task that read gave for these partitions.

        Each block shows whether its rows were joined where they were read.
        """
        if self._joins is None:
            raise BuildError(_cannot(self._stage, "join"))
        ran = self._runs_by(choice)
        block, closed = self._joins.run(partitions, blocks, ran.order, ran.filters, partial=ran.partial)
        ran.closed = closed if self._joins.aggregates else None
        records = sum(one.rows for one in blocks)
        output = StageOutput(block, None, None, 0, (), records, block.rows, self._seen(ran))
        return output if closed is None or closed.late is None else output.with_late(closed.late)

    def gave_up(self) -> None:
        """Partitions of a stage that joins are no longer held here: nor need their rows of the table."""
        if self._joins is not None:
            self._joins.indices.drop()

    def ranges(self, partitions: Sequence[int]) -> Ranges:
        """The key groups that some partitions of a stage that takes blocks own."""
        return ranges_of(partitions, self._partitions, self._key_groups)

    # ------------------------------------------------------------------ stages that merge blocks

    def empty_state(self, partitions: Sequence[int]) -> StageState:
        """The state of these partitions before the first batch."""
        return empty_state(self.layout, partitions, NO_BATCH)

    def restore(self, partitions: Sequence[int], batch: int, parts: Sequence[bytes]) -> StageState:
        """The state of these partitions at a batch from the parts of a snapshot; raises `CorruptError`."""
        return restore(self.layout, partitions, batch, parts)

    def run_blocks(
        self,
        state: StageState,
        batch: int,
        blocks: Sequence[Block],
        choice: StageChoice | None = None,
    ) -> tuple[StageState, StageOutput]:
        """A batch of a stage that merges: what every upstream task gave for these partitions.

        Each block shows whether it was aggregated before the shuffle: stages need not agree on that.
        """
        ran = self._runs_by(choice)
        plan = self.layout.plan
        frames = [block.frame for block in blocks if block.frame is not None]
        partials = self._partials(frames, ran) if frames else None
        late: pl.DataFrame | None = None
        if partials is not None:
            partials, late = _split_late(partials, self.layout.late_bound(state.clock))
        if late is not None and not plan.rounds:
            late = plan.by_partition(late)  # a stage that joins gives several of them
        new = plan.merge(partials) if partials is not None else plan.no_groups
        clock = state.clock.advance(mark for block in blocks for mark in block.shown)
        updated, changed = state.updated(batch, new)
        after, closed = updated.closed(clock)
        if plan.spec.emit == "update":
            emitted = changed
        else:
            emitted = newest_groups(closed, plan.groups) if closed else plan.no_groups
        rows = self._steps.run(self._emitted(emitted, batch), 0, None, ran.order, ran.filters)
        records = sum(frame.height for frame in frames)
        output = self._output(rows, self._merge_marks(after, rows), records, (), ran)
        return after, output if late is None else output.with_late(plan.finish_late(late))

    def _partials(self, frames: Sequence[pl.DataFrame], ran: Ran) -> pl.DataFrame:
        """One row per group and upstream partition; aggregated here where nobody did before the shuffle."""
        plan = self.layout.plan
        both = [apart(origins(frame), plan.accumulators) for frame in frames]
        ready = [plan.only(frame) for frame, _ in both if frame is not None]
        raw = [frame for _, frame in both if frame is not None]
        if raw:
            rows = eager.stacked(raw)
            if ORDER in rows.columns:  # not in the order in which one stage alone would have given them
                rows = rows.sort(PARTITION, OFFSET, ORDER)
            ready.append(plan.only(plan.place(plan.partial(rows))))
            ran.merged_rows, ran.merged_groups = rows.height, ready[-1].height
        return eager.stacked(ready)

    def _emitted(self, groups: pl.DataFrame, batch: int) -> pl.DataFrame:
        """Merged groups as rows for the steps: results in order of key group, and where each row stands."""
        plan = self.layout.plan
        if plan.spec.window is not None and _differ(groups.get_column(WINDOW_START)):
            groups = groups.sort(KEY_GROUP, maintain_order=True)  # sorted by slot: window first
        rows = plan.finish(groups, KEY_GROUP)
        if self._stage.shuffle is None:
            return rows
        own = owner(self._partitions, self._key_groups).alias(PARTITION)
        rows = eager.with_columns(rows, [own])
        number = pl.int_range(pl.len(), dtype=pl.Int64).over(PARTITION)
        return rows.with_columns((number + (batch << _ROW_BITS)).alias(OFFSET))

    def _merge_marks(self, state: StageState, rows: pl.DataFrame) -> Marks:
        """Marks for the next stage: the first window that can still come, or else what was seen."""
        if state.clock.ended:
            return tuple((partition, END_MARK) for partition in state.partitions)
        window = self.layout.plan.spec.window
        if window is None or self._time not in {WINDOW_START, WINDOW_END} or self._settled:
            return marks_of(rows, self._time, None, state.partitions)
        bound = self.layout.late_bound(state.clock)
        if bound is None:
            return tuple((partition, None) for partition in state.partitions)
        first_open = -(-bound // window.size_ms) * window.size_ms
        mark = first_open if self._time == WINDOW_START else first_open + window.size_ms
        return tuple((partition, mark) for partition in state.partitions)

    # ------------------------------------------------------------------ both

    def _output(
        self, rows: pl.DataFrame, marks: Marks, records: int, dead: tuple[DeadLetter, ...], ran: Ran
    ) -> StageOutput:
        given = None
        if self._stage.sink is not None or self._closing is None:
            own = PARTITION if self._stage.read is not None else KEY_GROUP
            given = pl.DataFrame(
                [one for one in rows.get_columns() if one.name == own or not is_reserved(one.name)]
            )
        if self._closing is None:
            return StageOutput(None, given, None, 0, dead, records, rows.height, self._seen(ran))
        closed = ran.closed = self._closing.close(rows, partial=ran.partial)
        block = Block(closed.frame if closed.frame.height else None, marks)
        rows_out = block.rows if given is None else given.height
        output = StageOutput(block, given, None, 0, dead, records, rows_out, self._seen(ran))
        return output if closed.late is None else output.with_late(closed.late)

    def _runs_by(self, choice: StageChoice | None) -> Ran:
        return Ran(choice, None if choice is None else self._steps.ordered(choice.filters))

    def _seen(self, ran: Ran) -> StageSeen:
        return ran.seen(self._stage.stage, self._side)


def output_schema(program: Program, stage: StageId) -> dict[str, pl.DataType]:
    """The user's columns of the rows that a stage gives; raises `BuildError` where types do not fit."""
    schema = StageExecutor(program.light(), stage).schema
    return {name: dtype for name, dtype in schema.items() if not is_reserved(name)}


def _side(steps: Sequence[Step], program: Program) -> tuple[int, int]:
    """Rows and bytes of the static tables that the steps join with; each worker holds them whole."""
    tables = [program.tables[step.table] for step in steps if isinstance(step, JoinTable)]
    return sum(table.height for table in tables), sum(int(table.estimated_size()) for table in tables)


def _schema_before(program: Program, stage: StageId) -> Mapping[str, pl.DataType]:
    """The schema that the stage before this one ends with."""
    return StageExecutor(program.light(), StageId(stage - 1)).schema


def _aggregation(program: Program, stage: StageProgram) -> Aggregation | None:
    """The aggregation that a stage's rows come to next, in the stage that joins where there is one."""
    return stage.shuffle if stage.route is None else program.stage(StageId(stage.stage + 1)).shuffle


def _cannot(stage: StageProgram, what: str) -> str:
    remedy = "Compile the job again."
    return explain(f"stage {stage.stage}", wanted=f"one that can {what}", found="another", remedy=remedy)


def _split_late(partials: pl.DataFrame, bound: int | None) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """Partials in time and those of closed windows, which start before the bound."""
    if bound is None:
        return partials, None
    first = smallest(partials.get_column(WINDOW_START))
    if first is None or first >= bound:
        return partials, None
    late = partials.filter(pl.col(WINDOW_START) < bound)
    in_time = partials.filter(pl.col(WINDOW_START) >= bound)
    return (in_time if in_time.height else None), late


def _differ(series: pl.Series) -> bool:
    return smallest(series) != largest(series)

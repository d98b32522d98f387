"""The world of the engine tests with a join that may be shuffled: three stages, and the same job in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from drizzle_streams.engine.execute import (
    Block,
    InputEntry,
    StageExecutor,
    StageOutput,
    StageState,
)
from drizzle_streams.engine.parted import PartedTable
from drizzle_streams.engine.program import Aggregation, JoinTable, Program, Read, Route, StageProgram, Step
from drizzle_streams.engine.records import END
from drizzle_streams.model.ids import JobId, PartitionId, StageId
from drizzle_streams.model.replanning import StageChoice
from drizzle_streams.worker.cutting import cut
from tests.engine.world import MAP, SCHEMA, STREAM, Batch, Log, Player

JOIN, MERGE = StageId(1), StageId(2)
KEY_GROUPS = 16


@dataclass(frozen=True)
class Made:
    """A job: what is before its join and behind it."""

    spec: Aggregation
    table: pl.DataFrame
    join: JoinTable
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()

    def whole(self) -> Program:
        """The join is a step of the stage that reads."""
        steps = (*self.before, self.join, *self.after)
        read = StageProgram(MAP, read=Read(STREAM, SCHEMA, "t"), steps=steps, shuffle=self.spec)
        merge = StageProgram(StageId(1), merge=self.spec, sink=object())
        return Program(JobId("job"), (read, merge), {self.join.table: self.table}, KEY_GROUPS)

    def cut(self, partitions: int, *, pinned: bool = False) -> Program:
        """The join is a stage of its own."""
        columns = tuple(dict.fromkeys((*SCHEMA, *self.join.left_on)))
        route = Route(self.join, columns, partitions, pinned)
        stages = (
            StageProgram(MAP, read=Read(STREAM, SCHEMA, "t"), steps=self.before, route=route),
            StageProgram(JOIN, join=route, steps=self.after, shuffle=self.spec),
            StageProgram(MERGE, merge=self.spec, sink=object()),
        )
        parted = PartedTable.of(self.table, self.join.right_on, KEY_GROUPS)
        return Program(JobId("job"), stages, {}, KEY_GROUPS, {self.join.table: parted})


class Whole(Player):
    """Runs the job in two stages."""

    def texts(self, number: int) -> list[str]:
        return rows_as_text([output.rows for output in self.outputs[number]])

    def __init__(self, made: Made, streams: int, reducers: int) -> None:
        self.made = made
        super().__init__(made.spec, streams=streams, reducers=reducers)

    def __post_init__(self) -> None:
        program = self.made.whole()
        self.mapper = StageExecutor(program, MAP)
        self.reducer = StageExecutor(program, StageId(1), self.reducers)
        self.states = [self.reducer.empty_state(range(self.reducers))]
        self.log, self.batch, self.outputs = Log(), 0, []


@dataclass
class Chosen:
    """How the tasks that read run, one after the other, again and again; copies of them run, too."""

    choices: Sequence[StageChoice | None]
    number: int = 0

    def next(self) -> StageChoice | None:
        self.number += 1
        return self.choices[self.number % len(self.choices)]


@dataclass
class Shuffled:
    """Runs the job in three stages; each join partition takes one of two copies of what was read."""

    made: Made
    maps: Sequence[Sequence[int]]
    joins: Sequence[Sequence[int]]
    merges: Sequence[Sequence[int]]
    mapped: Chosen
    joined: Chosen
    copies: Sequence[int] = (0,)
    log: Log = field(default_factory=Log)
    batch: int = 0
    outputs: list[list[StageOutput]] = field(default_factory=list[list[StageOutput]])

    def __post_init__(self) -> None:
        self.partitions = sum(len(cohort) for cohort in self.joins)
        program = self.made.cut(self.partitions)
        self.reader = StageExecutor(program, MAP)
        self.joiner = StageExecutor(program, JOIN, self.partitions)
        reducers = sum(len(cohort) for cohort in self.merges)
        self.merger = StageExecutor(program, MERGE, reducers)
        self.states: list[StageState] = [self.merger.empty_state(cohort) for cohort in self.merges]

    def read(self, batch: Batch, *, ends: bool) -> list[list[Block]]:
        """For each copy the blocks of all tasks that read."""
        entries = self.log.entries(batch)
        if ends:
            entries += [InputEntry(p, 1 << 20, 0, END, b"") for cohort in self.maps for p in cohort]
        found: list[list[Block]] = []
        for _ in range(2):
            blocks: list[Block] = []
            for cohort in self.maps:
                mine = [entry for entry in entries if entry.partition in cohort]
                output = self.reader.run_input(cohort, mine, self.mapped.next())
                assert output.blocks is not None
                blocks.append(output.blocks)
            found.append(blocks)
        return found

    def join(self, copies: list[list[Block]]) -> list[Block]:
        blocks: list[Block] = []
        for cohort in self.joins:
            given: list[Block] = []
            for number in range(len(self.maps)):
                # What a task gave is taken as a whole by each partition, and partitions need not agree.
                by_copy: dict[int, list[int]] = {}
                for partition in cohort:
                    by_copy.setdefault(self.copies[partition % len(self.copies)], []).append(partition)
                for copy, partitions in by_copy.items():
                    block, ranges = copies[copy][number], self.joiner.ranges(partitions)
                    every = frozenset(PartitionId(p) for p, _ in block.marks)
                    given.append(Player.through_the_wire(cut(block, every, ranges)))
            output = self.joiner.run_join(cohort, given, self.joined.next())
            assert output.blocks is not None
            blocks.append(output.blocks)
        return blocks

    def play(self, batch: Batch, *, ends: bool = False) -> None:
        blocks = self.join(self.read(batch, ends=ends))
        outputs: list[StageOutput] = []
        for number, state in enumerate(self.states):
            # One partition of the join at a time, as a worker takes them that has lost the others.
            mine = [
                Player.through_the_wire(cut(block, frozenset([PartitionId(p)]), state.ranges))
                for block in blocks
                for p, _ in block.marks
            ]
            self.states[number], output = self.merger.run_blocks(state, self.batch, mine)
            outputs.append(output)
        self.batch += 1
        self.outputs.append(outputs)

    def texts(self, number: int) -> list[str]:
        """The rows that a batch gave, as `rows_as_text`."""
        return rows_as_text([output.rows for output in self.outputs[number]])

    def late(self) -> list[str]:
        return rows_as_text([output.late for outputs in self.outputs for output in outputs])


def state_as_text(merger: StageExecutor, states: Sequence[StageState]) -> list[str]:
    """All groups in state, finished."""
    return rows_as_text([merger.layout.plan.finish(state.groups()) for state in states])


def rows_as_text(frames: Sequence[pl.DataFrame | None]) -> list[str]:
    """Rows without the engine's columns, sorted; as text, so that the sign of a zero counts."""
    users = [frame.select(pl.exclude("^__[^r].*$")) for frame in frames if frame is not None]
    return sorted(str(row) for frame in users for row in frame.to_dicts())

"""From the graph to what runs: stages cut at shuffles, filters first, only the columns that are needed.

A stage ends where rows must change partition, which is at every aggregation: its partial half closes one
stage, its merging half opens the next. The last stage writes to the sink. A join with a large table may be
a stage of its own (`api.routing`): rows go to it by the key of the join.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from drizzle_streams.api.files import found_files
from drizzle_streams.api.functions import marked
from drizzle_streams.api.plan import Plan, Source
from drizzle_streams.api.pushdown import Line, filters_first, movable, needed_by, pruned
from drizzle_streams.api.routing import Reading, join_to_cut
from drizzle_streams.api.schemas import Schema
from drizzle_streams.api.settings import Settings
from drizzle_streams.engine.parted import PartedTable
from drizzle_streams.engine.program import (
    Aggregation,
    Filter,
    JoinTable,
    Program,
    Read,
    Route,
    StageProgram,
    Step,
)
from drizzle_streams.model.ids import JobId, StageId, StreamId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.tuning import INTERVAL_AUTO_MS_MIN

KEY_GROUPS: Final = 1024
"""Key groups of every job: the most partitions a stage can ever have; fixed, so that keys never hash anew."""


@dataclass(frozen=True, slots=True)
class CompiledJob:
    """A job as the cluster takes it: what the coordinator plans, and what the workers run."""

    spec: JobSpec
    program: Program


@dataclass(frozen=True, slots=True)
class _Cut:
    """A stage to be: what opens it, its steps, what closes it."""

    merge: Aggregation | None
    line: Line
    shuffle: Aggregation | None


def compiled(plan: Plan, sink: object, settings: Settings) -> CompiledJob:
    """Compile a plan; reads the rows of its tables. Raises `BuildError` when these cannot be read."""
    tables: dict[str, pl.DataFrame] = {}
    stages: list[StageProgram] = []
    for cut in _cuts(plan, settings):
        stages += map(marked, _stages(len(stages), cut, plan, sink, settings.partitions, tables))
    whole = {step.table for stage in stages for step in stage.steps if isinstance(step, JoinTable)}
    program = Program(
        JobId(settings.name),
        tuple(stages),
        {name: table for name, table in tables.items() if name in whole},
        KEY_GROUPS,
        {
            route.join.table: PartedTable.of(tables[route.join.table], route.join.right_on, KEY_GROUPS)
            for route in (stage.route for stage in stages)
            if route is not None
        },
    )
    spec = JobSpec(
        job=JobId(settings.name),
        stages=tuple(_spec(stage, settings) for stage in stages),
        batch_interval_ms=settings.batch_interval_ms,
        interval_auto=settings.interval_auto,
        scheduling=settings.scheduling,
        group_size=settings.group_size,
        tuning=settings.tuning,
        checkpoint_interval_ms=settings.checkpoint_interval_ms,
        checkpoint_auto=settings.checkpoint_auto,
        key_groups=KEY_GROUPS,
        start_from=settings.start_from,
        speculation=settings.speculation,
        replanning=settings.replanning,
        pipelined=settings.pipelining,
    )
    return CompiledJob(spec, program)


def _cuts(plan: Plan, settings: Settings) -> list[_Cut]:
    cuts: list[_Cut] = []
    merge: Aggregation | None = None
    line: list[tuple[Step, Schema]] = []
    before = plan.source.schema
    for operation, after in zip(plan.operations, plan.schemas, strict=True):
        if isinstance(operation, Aggregation):
            shuffle = _with_idle(operation, plan, settings)
            cuts.append(_Cut(merge, tuple(line), shuffle))
            merge, line = shuffle, []
        else:
            line.append((operation, before))
        before = after
    return [*cuts, _Cut(merge, tuple(line), None)]


def _with_idle(aggregation: Aggregation, plan: Plan, settings: Settings) -> Aggregation:
    """Idleness is counted in batches, so that a replay finds the same partitions idle."""
    if aggregation.window is None:
        return aggregation
    interval_ms = INTERVAL_AUTO_MS_MIN if settings.interval_auto else settings.batch_interval_ms
    return replace(aggregation, idle_batches=math.ceil(plan.idle_after_ms / interval_ms))


def _stages(
    index: int, cut: _Cut, plan: Plan, sink: object, partitions: int, tables: dict[str, pl.DataFrame]
) -> list[StageProgram]:
    """The stage of a cut; two where a join in it is a stage of its own."""
    needed = tuple(plan.schema) if cut.shuffle is None else needed_by(cut.shuffle)
    event_time = None if cut.shuffle is None else cut.shuffle.event_time
    line = filters_first(cut.line, event_time)
    lean = pruned(line, needed)
    joined = iter(lean.joined)
    whole = StageProgram(
        stage=StageId(index),
        read=_read(plan.source, lean.columns, cut.shuffle) if cut.merge is None else None,
        merge=cut.merge,
        steps=tuple(_ready(step, joined, plan, tables) for step in lean.steps),
        shuffle=cut.shuffle,
        sink=sink if cut.shuffle is None else None,
    )
    chosen = join_to_cut(Reading(plan, whole.read, whole.steps, tables, cut.shuffle))
    if chosen is None:
        return [whole]
    place, join = chosen
    before = sum(isinstance(step, JoinTable) for step in whole.steps[:place])
    columns = pruned(_from_join(line, before), needed).columns
    route = Route(join, columns, partitions, pinned=join.strategy == "shuffled")
    return [
        replace(whole, steps=whole.steps[:place], shuffle=None, route=route),
        StageProgram(
            stage=StageId(index + 1), steps=whole.steps[place + 1 :], shuffle=cut.shuffle, join=route
        ),
    ]


def _from_join(line: Line, before: int) -> Line:
    """What of a line comes after so many joins, from the next one on: unlike that, other steps may go."""
    joins = [place for place, (step, _) in enumerate(line) if isinstance(step, JoinTable)]
    return line[joins[before] :]


def _ready(
    step: Step, joined: Iterator[tuple[str, ...]], plan: Plan, tables: dict[str, pl.DataFrame]
) -> Step:
    """The step as the engine takes it."""
    match step:
        case JoinTable():
            return _with_table(step, next(joined), plan, tables)
        case Filter():
            return movable(step)
        case _:
            return step


def _read(source: Source, needed: Sequence[str], shuffle: Aggregation | None) -> Read:
    """What to parse: the needed columns in the declared order, at least one, for rows to be counted."""
    columns = [name for name in source.schema if name in needed] or list(source.schema)[:1]
    event_time = None if shuffle is None or shuffle.event_time not in columns else shuffle.event_time
    files = None if source.files is None else found_files(source.files)
    return Read(StreamId(source.name), {name: source.schema[name] for name in columns}, event_time, files)


def _with_table(
    step: JoinTable, columns: Sequence[str], plan: Plan, tables: dict[str, pl.DataFrame]
) -> JoinTable:
    """The join with its table among the program's, under the name of what it takes from it."""
    table = plan.tables[int(step.table)]
    name = f"{step.table}:{','.join(columns)}"
    if name not in tables:
        tables[name] = table.rows(tuple(name for name in table.schema if name in columns))
    return replace(step, table=name)


def _spec(stage: StageProgram, settings: Settings) -> StageSpec:
    """A stage as the machines see it; one that reads gets its partitions from the stream's layout.

    Only the last one may be split and merged: what stages in between give goes by partition, in the order
    in which values are added and in their watermarks.
    """
    reads = stage.read is not None
    resizable = settings.partitions_auto and settings.replanning and not reads and stage.shuffle is None
    files = None if stage.read is None else stage.read.files
    return StageSpec(
        stage=stage.stage,
        partitions=0 if reads else settings.partitions,
        inputs=() if reads else (StageId(stage.stage - 1),),
        stream=stage.read.stream if stage.read is not None else None,
        stateful=stage.merge is not None,
        writes_output=stage.sink is not None,
        chunks=None if files is None else files.chunks,
        partitions_least=settings.partitions if resizable else 0,
    )

"""From the graph to what runs: stages cut at shuffles, filters first, only the columns that are needed.

A stage ends where rows must change partition, which is at every aggregation: its partial half closes one
stage, its merging half opens the next. The last stage writes to the sink.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from drizzle_streams.api.files import found_files
from drizzle_streams.api.plan import Plan, Source
from drizzle_streams.api.pushdown import Line, filters_first, movable, needed_by, pruned
from drizzle_streams.api.schemas import Schema
from drizzle_streams.api.settings import Settings
from drizzle_streams.engine.program import (
    Aggregation,
    Filter,
    JoinTable,
    Program,
    Read,
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
    stages = [_stage(index, cut, plan, sink, tables) for index, cut in enumerate(_cuts(plan, settings))]
    program = Program(JobId(settings.name), tuple(stages), tables, KEY_GROUPS)
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


def _stage(index: int, cut: _Cut, plan: Plan, sink: object, tables: dict[str, pl.DataFrame]) -> StageProgram:
    needed = tuple(plan.schema) if cut.shuffle is None else needed_by(cut.shuffle)
    event_time = None if cut.shuffle is None else cut.shuffle.event_time
    lean = pruned(filters_first(cut.line, event_time), needed)
    joined = iter(lean.joined)
    return StageProgram(
        stage=StageId(index),
        read=_read(plan.source, lean.columns, cut.shuffle) if cut.merge is None else None,
        merge=cut.merge,
        steps=tuple(_ready(step, joined, plan, tables) for step in lean.steps),
        shuffle=cut.shuffle,
        sink=sink if cut.shuffle is None else None,
    )


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

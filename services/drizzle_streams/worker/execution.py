"""One task: cut the inputs, run the stage, prepare everything that leaves.

A task is one call for all partitions of its cohort. Whatever takes time per batch is done here:
decoding what came, encoding what goes to other workers, splitting rows by the sink's partitions.
The event loop only files the result, or computes it as well where it is short (`brevity`). What the user's
code raises comes back as a value.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from drizzle_streams.engine.compaction import Compacted, Compaction
from drizzle_streams.engine.execute import Block, StageOutput, StageState, decode_block, encode_block
from drizzle_streams.engine.failures import USERS_ERRORS
from drizzle_streams.engine.records import DeadLetter, InputEntry
from drizzle_streams.model.ids import BatchId, PartitionId
from drizzle_streams.model.replanning import StageChoice
from drizzle_streams.model.task import TaskError
from drizzle_streams.worker.blocks import ShareKey
from drizzle_streams.worker.bundles import pack_share
from drizzle_streams.worker.chunks import Chunks
from drizzle_streams.worker.cutting import Ranges, cut, wanted_ranges
from drizzle_streams.worker.outputs import PartitionRows, split_rows
from drizzle_streams.worker.programs import LoadedStage, failure

LATE_REASON = "late: its window was closed, or it has no event time"
LATE_ROWS_KEPT_MAX = 20
"""Late groups per task that are kept with the dead letters; all of them are counted. They are written
as JSON one by one: Polars' own writer starts a streaming engine, which takes longer than the task."""


@dataclass(frozen=True, slots=True)
class BlockInput:
    """A block as a task takes it: encoded or not, and what is taken of it (`cutting.cut`)."""

    block: Block | bytes
    partitions: frozenset[PartitionId]
    ranges: Ranges | None


@dataclass(frozen=True, slots=True)
class Work:
    """What a task reads, but the state: `entries` for a stage that reads, `blocks` for one behind a shuffle.

    `shares` names who is to be told of the result; `choice` is how the stage runs this batch.
    """

    stage: LoadedStage
    batch: BatchId
    partitions: tuple[PartitionId, ...]
    entries: Sequence[InputEntry] = ()
    blocks: Sequence[BlockInput] = ()
    shares: Sequence[ShareKey] = ()
    choice: StageChoice | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a task gives: the next version of the state, blocks and shares, rows by sink partition."""

    state: StageState | None
    output: StageOutput
    shares: tuple[tuple[ShareKey, bytes], ...]
    rows: tuple[PartitionRows, ...]
    letters: tuple[DeadLetter, ...]
    compaction: Compaction | None
    seconds: float


def execute(
    work: Work,
    state: StageState | None,
    merged: tuple[Compaction, Compacted] | None = None,
    *,
    compact: bool = False,
) -> Result | TaskError:
    """Run a task on the cohort's state; what anything in it raises is the value of its failure.

    `merged` is a background merge of state that has ended; `compact`: another one may begin.
    """
    started = time.perf_counter()
    try:
        if state is not None and merged is not None:
            state = state.compacted(*merged)
        after, output = _run(work, state)
        shares = tuple((key, _share(work.stage, output.blocks, key)) for key in work.shares)
        return Result(
            state=after,
            output=output,
            shares=shares,
            rows=_rows(work.stage, output),
            letters=output.dead_letters + _late_letters(output.late),
            compaction=after.compaction() if after is not None and compact else None,
            seconds=time.perf_counter() - started,
        )
    except USERS_ERRORS as error:
        return failure(error, work.stage.stage.stage, work.batch, work.partitions)


def encode_share(
    stage: LoadedStage, parts: Sequence[tuple[Block, frozenset[PartitionId]]], key: ShareKey
) -> bytes:
    """The share of `key` from held blocks and the partitions to take from each."""
    ranges = wanted_ranges(stage.spec, stage.spec.stage(key.downstream), key.wanted)
    return pack_share([encode_block(cut(block, partitions, ranges)) for block, partitions in parts])


def _run(work: Work, state: StageState | None) -> tuple[StageState | None, StageOutput]:
    executor = work.stage.executor
    if work.stage.program.read is not None:
        return None, _run_input(work)
    blocks = [cut(_decoded(one.block), one.partitions, one.ranges) for one in work.blocks]
    if state is None:
        return None, executor.run_join(work.partitions, blocks, work.choice)
    return executor.run_blocks(state, work.batch, blocks, work.choice)


def _run_input(work: Work) -> StageOutput:
    """A stage that reads; it asks for chunks of files when it comes to them."""
    read, run = work.stage.program.read, work.stage.executor.run_input
    if read is None or read.files is None:
        return run(work.partitions, work.entries, work.choice)
    chunks = Chunks(read.files, work.stage.stage.partitions)
    return run(work.partitions, chunks.placed(work.entries), work.choice, chunks.read)


def _decoded(block: Block | bytes) -> Block:
    return decode_block(block) if isinstance(block, bytes) else block


def _share(stage: LoadedStage, block: Block | None, key: ShareKey) -> bytes:
    return b"" if block is None else encode_share(stage, [(block, frozenset(key.partitions))], key)


def _rows(stage: LoadedStage, output: StageOutput) -> tuple[PartitionRows, ...]:
    if output.rows is None or stage.sink is None:
        return ()
    return split_rows(output.rows, stage.token_column, stage.stage.partitions, stage.spec.key_groups)


def _late_letters(late: pl.DataFrame | None) -> tuple[DeadLetter, ...]:
    """Late groups as dead letters: what came too late, as JSON; they have no one place in the stream."""
    if late is None:
        return ()
    rows = late.head(LATE_ROWS_KEPT_MAX).to_dicts()
    lines = (json.dumps(row, default=str, ensure_ascii=False).encode() for row in rows)
    return tuple(DeadLetter(-1, -1, LATE_REASON, line) for line in lines)

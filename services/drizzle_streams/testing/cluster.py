"""A cluster as values in one process: workers that hold partitions, blocks between them, snapshots.

It does with the engine what a real one does, in the order of batches: every worker computes all its
partitions of a stage in one call; blocks are cut by the key groups of the worker they go to and travel as
bytes; rows are written under tokens. A lost worker starts again from the last snapshot, takes the blocks
that the others still hold, and computes what it had computed. What it computes must be what it was.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from drizzle_streams.api.compile import CompiledJob
from drizzle_streams.connectors.base import SinkToken
from drizzle_streams.connectors.memory import MemoryResults
from drizzle_streams.engine.columns import KEY_GROUP, PARTITION
from drizzle_streams.engine.execute import (
    Block,
    StageExecutor,
    StageOutput,
    StageState,
    decode_block,
    encode_block,
    slice_block,
)
from drizzle_streams.errors import BuildError, DrizzleError, explain
from drizzle_streams.model.job import StageSpec, key_group_range
from drizzle_streams.testing.inputs import Log

Member = tuple[int, int]
"""(stage, worker): what a worker holds of a stage."""


class Cluster:
    """`workers` share the partitions of every stage: partition p is with worker p modulo `workers`."""

    def __init__(
        self, job: CompiledJob, log: Log, results: MemoryResults, *, stream_partitions: int, workers: int
    ) -> None:
        self.spec = job.spec
        self.written_again = 0
        self._log = log
        self._results = results
        self._workers = workers
        self._sealed = 0
        self._snapshot = -1
        sizes = [stage.partitions or stream_partitions for stage in job.spec.stages]
        self._executors = [
            StageExecutor(job.program, stage.stage, size)
            for stage, size in zip(job.spec.stages, sizes, strict=True)
        ]
        self._partitions: dict[Member, tuple[int, ...]] = {
            (stage, worker): tuple(range(worker, size, workers))
            for stage, size in enumerate(sizes)
            for worker in range(min(workers, size))
        }
        self._states: dict[Member, StageState] = {}
        self._parts: dict[Member, list[bytes]] = {}
        self._blocks: dict[tuple[int, int, int], Block] = {}
        self._outputs: dict[tuple[int, int, int], StageOutput] = {}
        for member in self._merging(range(workers)):
            self._states[member] = self._executors[member[0]].empty_state(self._partitions[member])

    def run_batch(self, batch: int) -> None:
        """Run a batch through all stages."""
        for member in self._partitions:
            self._compute(member, batch)
        self._sealed = batch + 1

    def snapshot(self) -> None:
        """Keep all state as of the last batch; what is older is forgotten."""
        for member, state in self._states.items():
            before = self._snapshot if self._snapshot >= 0 else None
            is_full, parts = state.snapshot_since(before)
            self._parts[member] = [*parts] if is_full else [*self._parts[member], *parts]
            work = state.compaction()
            if work is not None:
                self._states[member] = state.compacted(work, work.run())
        self._snapshot = self._sealed - 1
        self._log.trim(self._snapshot)
        self._blocks = {key: block for key, block in self._blocks.items() if key[1] > self._snapshot}

    def crash(self, partition: int | None) -> None:
        """Lose the worker that holds this partition, or all; then recover, stage by stage."""
        lost = range(self._workers) if partition is None else [self._worker_of(partition)]
        for worker in lost:
            self._blocks = {key: block for key, block in self._blocks.items() if key[2] != worker}
        for member in self._merging(lost):
            self._states[member] = self._restored(member)
        for member in self._partitions:
            if member[1] in lost:
                for batch in range(self._snapshot + 1, self._sealed):
                    self._compute(member, batch)

    def outputs(self, batch: int) -> list[StageOutput]:
        """What every worker's part of every stage gave in a batch."""
        return [
            output for (_, number, _), output in sorted(self._outputs.items(), key=_key) if number == batch
        ]

    def _compute(self, member: Member, batch: int) -> None:
        stage, worker = member
        executor, partitions = self._executors[stage], self._partitions[member]
        blocks = [self._received(member, one) for one in self._upstream(stage, batch)]
        if member in self._states:
            self._states[member], output = executor.run_blocks(self._states[member], batch, blocks)
        elif self.spec.stages[stage].inputs:
            output = executor.run_join(partitions, blocks)
        else:
            output = executor.run_input(partitions, self._log.entries(batch, partitions))
        again = self._outputs.get((stage, batch, worker))
        if again is not None:
            _check_same(again, output, stage, batch)
        self._outputs[stage, batch, worker] = output
        if output.blocks is not None:
            self._blocks[stage, batch, worker] = output.blocks
        if output.rows is not None:
            self.written_again += output.rows.height if again is not None else 0
            self._write(self.spec.stages[stage], partitions, batch, output.rows)

    def _upstream(self, stage: int, batch: int) -> list[Block]:
        """The blocks a stage awaits, by upstream worker."""
        inputs = self.spec.stages[stage].inputs
        return [
            block
            for key, block in sorted(self._blocks.items(), key=_key)
            if key[0] in inputs and key[1] == batch
        ]

    def _received(self, member: Member, block: Block) -> Block:
        """A member's share of a block, as it arrives over the wire."""
        ranges = self._executors[member[0]].ranges(self._partitions[member])
        return decode_block(encode_block(slice_block(block, ranges)))

    def _write(self, stage: StageSpec, partitions: Iterable[int], batch: int, rows: pl.DataFrame) -> None:
        for partition in partitions:
            if stage.stateful:
                first, end = key_group_range(partition, stage.partitions, self.spec.key_groups)
                own = rows.filter(pl.col(KEY_GROUP).is_between(first, end, closed="left"))
            else:
                own = rows.filter(pl.col(PARTITION) == partition)
            self._results.add(SinkToken(self.spec.run, stage.stage, batch, partition), own)

    def _restored(self, member: Member) -> StageState:
        executor, partitions = self._executors[member[0]], self._partitions[member]
        if member not in self._parts:
            return executor.empty_state(partitions)
        return executor.restore(partitions, self._snapshot, self._parts[member])

    def _merging(self, workers: Iterable[int]) -> list[Member]:
        """The members with state among these workers."""
        chosen = set(workers)
        return [
            (stage, worker)
            for stage, worker in self._partitions
            if worker in chosen and self.spec.stages[stage].stateful
        ]

    def _worker_of(self, partition: int) -> int:
        known = [held for partitions in self._partitions.values() for held in partitions]
        if partition not in known:
            raise BuildError(
                explain(
                    "crash",
                    wanted=f"a partition from 0 to {max(known)}",
                    found=repr(partition),
                    remedy="Leave it out to lose all workers.",
                )
            )
        return partition % self._workers


def _key(item: tuple[tuple[int, int, int], object]) -> tuple[int, int, int]:
    return item[0]


def _check_same(before: StageOutput, after: StageOutput, stage: int, batch: int) -> None:
    """A replay that differs would be written over what others have built on: the job is not deterministic."""
    pairs = [(before.rows, after.rows)]
    if before.blocks is not None and after.blocks is not None:
        pairs.append((before.blocks.frame, after.blocks.frame))
    for first, second in pairs:
        if (first is None) != (second is None) or (
            first is not None and second is not None and not first.equals(second)
        ):
            raise DrizzleError(
                explain(
                    f"stage {stage}, batch {batch}",
                    wanted="the same rows when it was computed again after a crash",
                    found="other rows",
                    remedy="A function in the job depends on more than its row: on time, chance or what it "
                    "remembers. Take that out, or send it with the records.",
                )
            )

"""How far a job has come: done batches per partition, the frontier, what the owners hold.

`done` never goes back: output that is written stays written. `held` is what the present owner
stands at; it falls back when a partition moves and replays (section 3.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from drizzle_streams.core.late_sources import FirstBatches
from drizzle_streams.core.latencies import Latencies
from drizzle_streams.model.ids import NO_BATCH, BatchId, PartitionId, StageId
from drizzle_streams.model.job import JobSpec, relaid
from drizzle_streams.protocol.parts import BatchLatencies


@dataclass(slots=True)
class Progress:
    """Per stage and partition, the last batch with all before it done (reports come by ranges)."""

    spec: JobSpec
    done: list[list[BatchId]] = field(default_factory=list[list[BatchId]])
    held: list[list[BatchId]] = field(default_factory=list[list[BatchId]])
    latencies: Latencies = field(default_factory=Latencies)
    firsts: FirstBatches = field(default_factory=dict[tuple[StageId, PartitionId], BatchId])
    _frontier: BatchId = NO_BATCH

    def __post_init__(self) -> None:
        self.done = [[NO_BATCH] * stage.partitions for stage in self.spec.stages]
        self.held = [[NO_BATCH] * stage.partitions for stage in self.spec.stages]

    @property
    def frontier(self) -> BatchId:
        """The highest batch with all of it and all before it done (law 5: commit by prefix)."""
        return self._frontier

    @property
    def held_by_all(self) -> BatchId:
        """The last batch that every present owner has done itself."""
        return min(min(row) for row in self.held)

    def restore(self, batch: BatchId) -> None:
        """Everything up to a committed checkpoint is done."""
        for stage in self.done:
            for partition, done in enumerate(stage):
                stage[partition] = max(done, batch)
        self._advance()

    def begin_at(self, firsts: FirstBatches) -> None:
        """Partitions that joined while the job ran: nothing of them is to do before their first batch."""
        self.firsts = firsts
        for stage, stage_spec in enumerate(self.spec.stages):
            for rows in (self.done, self.held):
                rows[stage] += [NO_BATCH] * (stage_spec.partitions - len(rows[stage]))
        for (stage, partition), first in firsts.items():
            for rows in (self.done, self.held):
                rows[stage][partition] = max(rows[stage][partition], BatchId(first - 1))
        self._advance()

    def begun(
        self, stage: StageId, partitions: tuple[PartitionId, ...], batch: BatchId
    ) -> tuple[PartitionId, ...]:
        """Those of the partitions that are part of that batch."""
        return tuple(p for p in partitions if self.firsts.get((stage, p), NO_BATCH) <= batch)

    def furthest(self, rows: Sequence[Sequence[BatchId]]) -> BatchId:
        """The last batch in `done` or `held` that somebody has computed; who has yet to begin is left out."""
        return max(
            batch
            for stage, row in enumerate(rows)
            for p, batch in enumerate(row)
            if batch >= self.firsts.get((StageId(stage), PartitionId(p)), NO_BATCH)
        )

    def lay_out(self, spec: JobSpec, batch: BatchId) -> None:
        """Stages have other numbers of partitions; everybody has done `batch` and nothing beyond it."""
        for stage in relaid(spec, self.spec):
            self.done[stage] = [batch] * spec.stage(stage).partitions
            self.held[stage] = [batch] * spec.stage(stage).partitions
        self.spec = spec

    def finish(self, stage: StageId, partitions: tuple[PartitionId, ...], last: BatchId) -> None:
        """Output of those partitions is durable up to `last`."""
        row = self.done[stage]
        for partition in partitions:
            row[partition] = max(row[partition], last)
        self._advance()

    def hold(self, stage: StageId, partitions: tuple[PartitionId, ...], last: BatchId) -> None:
        """Their present owner stands at `last`."""
        for partition in partitions:
            self.held[stage][partition] = last

    def observe(self, latencies: tuple[BatchLatencies, ...]) -> None:
        """How late parts of batches were."""
        for run in latencies:
            self.latencies.observe(run)

    def stage_done(self, stage: StageId) -> BatchId:
        """The last batch that all partitions of a stage have done."""
        return min(self.done[stage])

    def _advance(self) -> None:
        self._frontier = max(self._frontier, min(min(row) for row in self.done))

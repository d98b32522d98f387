"""Splits and merges of one job's partitions, carried out at a boundary; `resizing` has the rules.

The fourth layer of `coordinator_job`: what is known of the job is brought to the new numbers in one
step, so that the plan that follows persists all of it together.
"""

from __future__ import annotations

from dataclasses import replace

from drizzle_streams.core.boundary import Boundary, furthest
from drizzle_streams.core.coordinator_commits import JobCommits
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.resizing import Before
from drizzle_streams.model.ids import BatchId, Generation, StageId


class JobResizes(JobCommits):
    """One job at the coordinator, as far as its shuffles change their number of partitions."""

    def _resize_at_start(self, generation: Generation, workers: int, now: float) -> None:
        """Nothing is computed yet: begin with as many partitions as the workers there are want."""
        self.resizing.look(workers, now)
        self._respec(replace(self.resizing.take(generation), born=generation))

    def _resize(
        self, generation: Generation, boundary: Boundary | None, now: float, out: Effects
    ) -> dict[StageId, Before]:
        """Split and merge as is wanted, if this is a boundary at which that is safe; what was before."""
        at = self.checkpoints.committed.batch
        if boundary is None or boundary.batch != at or not self.resizing.wanted or not self._halted(boundary):
            return {}
        text = f"{self.resizing.reason}, from batch {at + 1} on"
        self.story.tell(now, "PartitionsResized", text, self.spec.job)
        before = {stage: self._before(stage) for stage in self.resizing.wanted}
        self.holders = {key: worker for key, worker in self.holders.items() if key[0] not in before}
        self.resizing.resized += len(before)
        spec = self.resizing.take(generation)
        self.progress.lay_out(spec, at)
        self.checkpoints.lay_out(spec)
        self._know(spec)
        self._put_checkpoint(out)
        return before

    def _before(self, stage: StageId) -> Before:
        held = {p: worker for (of_stage, p), worker in self.holders.items() if of_stage == stage}
        return Before(self.spec.stage(stage).partitions, held)

    def _halted(self, boundary: Boundary) -> bool:
        """Whether no source seals anything beyond the boundary."""
        return self.group is not None and self.resizing.stands(
            boundary.batch, self.generation, self.group.group, self.sources()
        )

    def _ahead(self) -> BatchId:
        """The last batch that is computed or sealed anywhere, as far as that matters to the boundary."""
        assert self.group is not None
        return max(furthest(self.progress), self.resizing.sealed(self.generation, self.group.group))

"""Checkpoints: a batch whose every snapshot is stored and whose output is done (section 3.3).

Asynchronous and aligned to any batch: workers store snapshots when they pass the batch, this
machine counts them in and says when the set is whole. What a checkpoint replaces is named, so
that stores and logs stay flat (law 5).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from drizzle_streams.model.ids import NO_BATCH, BatchId, PartitionId, StageId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.snapshot import Checkpoint, SnapshotRef

PENDING_CHECKPOINTS_MAX = 64
"""Batches with some snapshots stored and not all; at the bound the oldest is given up."""


@dataclass(slots=True)
class Checkpoints:
    """What is stored and what is committed, for one job."""

    spec: JobSpec
    committed: Checkpoint = field(default_factory=lambda: Checkpoint(NO_BATCH))
    pending: dict[BatchId, dict[tuple[StageId, PartitionId], SnapshotRef]] = field(
        default_factory=dict[BatchId, dict[tuple[StageId, PartitionId], SnapshotRef]]
    )
    newest: dict[tuple[StageId, PartitionId], SnapshotRef] = field(
        default_factory=dict[tuple[StageId, PartitionId], SnapshotRef]
    )
    _known: set[str] = field(default_factory=set[str])

    def every(self, interval_ms: float) -> int:
        """Batches from one checkpoint to the next."""
        return max(1, round(self.spec.checkpoint_interval_ms / interval_ms))

    def restore(self, checkpoint: Checkpoint) -> None:
        """What the ledger remembers as committed."""
        self.committed = checkpoint
        self._known = _keys(checkpoint)
        for ref in checkpoint.snapshots:
            self._note(ref)

    def stored(self, ref: SnapshotRef) -> None:
        """A worker stored a snapshot."""
        self._known |= {part.key for part in ref.parts}
        self._note(ref)
        if ref.batch <= self.committed.batch:
            return
        waiting = self.pending.setdefault(ref.batch, {})
        for partition in ref.partitions:
            waiting[(ref.stage, partition)] = ref
        while len(self.pending) > PENDING_CHECKPOINTS_MAX:
            del self.pending[min(self.pending)]

    def complete(self, through: BatchId, every: int, boundary: BatchId | None = None) -> Checkpoint | None:
        """The newest batch up to `through` that can be committed now, if it is news.

        `boundary`: a batch at which state is stored beside the regular ones, or None.
        """
        stateful = [stage for stage in self.spec.stages if stage.stateful]
        if not stateful:
            last = BatchId((through + 1) // every * every - 1)
            if boundary is not None and boundary <= through:
                last = max(last, boundary)
            return Checkpoint(last) if last > self.committed.batch else None
        wanted = sum(stage.partitions for stage in stateful)
        for batch in sorted(self.pending, reverse=True):
            refs = self.pending[batch]
            if batch <= through and len(refs) == wanted:
                return Checkpoint(batch, tuple(dict.fromkeys(refs.values())))
        return None

    def commit(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Take it as committed; returns the keys that nothing needs any more."""
        self.committed = checkpoint
        for batch in [b for b in self.pending if b <= checkpoint.batch]:
            del self.pending[batch]
        needed = _keys(checkpoint)
        # The newest of each partition too: its owner's next snapshot may be a delta on top of it.
        for refs in (*self.pending.values(), self.newest):
            for ref in refs.values():
                needed |= {part.key for part in ref.parts}
        obsolete = self._known - needed
        self._known = needed
        return tuple(sorted(obsolete))

    def forget(self) -> set[str]:
        """The job has ended: every key that is still stored."""
        known, self._known = self._known, set()
        self.pending, self.newest = {}, {}
        return known

    def _note(self, ref: SnapshotRef) -> None:
        for partition in ref.partitions:
            self.newest[(ref.stage, partition)] = ref


def _keys(checkpoint: Checkpoint) -> set[str]:
    return {part.key for ref in checkpoint.snapshots for part in ref.parts}

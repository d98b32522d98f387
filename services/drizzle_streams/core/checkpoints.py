"""Checkpoints: a batch whose every snapshot is stored and whose output is done (section 3.3).

Asynchronous and aligned to any batch: workers store snapshots when they pass the batch, this
machine counts them in and says when the set is whole. What a checkpoint replaces is named, so
that stores and logs stay flat (law 5).

Two are kept: the newest, and the one to fall back to where a part of the newest turns out to be
damaged. Only what lies behind the older one, the floor, may be dropped anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from drizzle_streams.model.ids import NO_BATCH, BatchId, PartitionId, StageId
from drizzle_streams.model.job import JobSpec, relaid
from drizzle_streams.model.snapshot import Checkpoint, SnapshotRef

CHAINS = 2
"""Chains of snapshots that a worker builds in turn, so that neighbours share no part."""

PENDING_CHECKPOINTS_MAX = 64
"""Batches with some snapshots stored and not all; at the bound the oldest is given up."""


@dataclass(slots=True)
class Checkpoints:
    """What is stored and what is committed, for one job."""

    spec: JobSpec
    committed: Checkpoint = field(default_factory=lambda: Checkpoint(NO_BATCH))
    previous: Checkpoint = field(default_factory=lambda: Checkpoint(NO_BATCH))
    damaged: int = 0
    pending: dict[BatchId, dict[tuple[StageId, PartitionId], SnapshotRef]] = field(
        default_factory=dict[BatchId, dict[tuple[StageId, PartitionId], SnapshotRef]]
    )
    newest: dict[tuple[StageId, PartitionId], tuple[SnapshotRef, ...]] = field(
        default_factory=dict[tuple[StageId, PartitionId], tuple[SnapshotRef, ...]]
    )
    _known: set[str] = field(default_factory=set[str])

    @property
    def floor(self) -> BatchId:
        """The batch behind which nothing is needed any more, not even to fall back."""
        return self.previous.batch

    def restore(self, checkpoint: Checkpoint, previous: Checkpoint) -> None:
        """What the ledger remembers as committed, and what there is to fall back to."""
        self.committed, self.previous = checkpoint, previous
        self._known = _keys(checkpoint) | _keys(previous)
        for ref in (*previous.snapshots, *checkpoint.snapshots):
            if self._fits(ref):
                self._note(ref)

    def lay_out(self, spec: JobSpec) -> None:
        """Stages have other numbers of partitions, beginning at the committed one: none lies behind it."""
        changed = relaid(spec, self.spec)
        self.spec, self.previous = spec, self.committed
        self.pending.clear()
        self.newest = {key: refs for key, refs in self.newest.items() if key[0] not in changed}

    def stored(self, ref: SnapshotRef) -> None:
        """A worker stored a snapshot; one of other ranges of key groups than there are now is of no use."""
        self._known |= {part.key for part in ref.parts}
        if not self._fits(ref):
            return
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
        return next((one for one in self._whole() if one.batch <= through), None)

    def commit(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Take it as committed; returns the keys that nothing needs any more."""
        self.previous = self._fallback_of(checkpoint)
        self.committed = checkpoint
        for batch in [b for b in self.pending if b <= checkpoint.batch]:
            del self.pending[batch]
        needed = _keys(checkpoint) | _keys(self.previous)
        # The newest of each partition too: its owner's next snapshot may be a delta on top of one.
        refs = [ref for waiting in self.pending.values() for ref in waiting.values()]
        refs += [ref for kept in self.newest.values() for ref in kept]
        needed |= {part.key for ref in refs for part in ref.parts}
        obsolete = self._known - needed
        self._known = needed
        return tuple(sorted(obsolete))

    def fall_back(self) -> bool:
        """A part of the committed one is damaged: the one before it counts. False if there is none.

        What was stored of the damaged one goes with the next commit.
        """
        self.damaged += 1
        if self.previous.batch >= self.committed.batch:
            return False
        self.committed = self.previous
        return True

    def forget(self) -> set[str]:
        """The job has ended: every key that is still stored."""
        known, self._known = self._known, set()
        self.pending, self.newest = {}, {}
        return known

    def _whole(self) -> Iterator[Checkpoint]:
        """What could be committed, newest first."""
        wanted = sum(stage.partitions for stage in self.spec.stages if stage.stateful)
        for batch in sorted(self.pending, reverse=True):
            refs = self.pending[batch]
            if len(refs) == wanted:
                yield Checkpoint(batch, tuple(dict.fromkeys(refs.values())))

    def _fallback_of(self, checkpoint: Checkpoint) -> Checkpoint:
        """The newest one before it that shares no part with it; else the newest one before it.

        Without state there is nothing that could be damaged: it is its own. Workers build snapshots
        on the one before the last, so a damaged part spoils one of the two.
        """
        if not checkpoint.snapshots:
            return checkpoint
        before = [one for one in self._whole() if one.batch < checkpoint.batch] + [self.committed]
        parts = _keys(checkpoint)
        return next((one for one in before if parts.isdisjoint(_keys(one))), before[0])

    def _fits(self, ref: SnapshotRef) -> bool:
        """Whether it is of as many partitions as its stage has now."""
        return ref.of in (0, self.spec.stage(ref.stage).partitions)

    def _note(self, ref: SnapshotRef) -> None:
        for partition in ref.partitions:
            key = (ref.stage, partition)
            self.newest[key] = (*self.newest.get(key, ()), ref)[-CHAINS:]


def _keys(checkpoint: Checkpoint) -> set[str]:
    return {part.key for ref in checkpoint.snapshots for part in ref.parts}

"""Where a piece of state at a batch lies, and how to know that it is whole."""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.model.ids import BatchId, PartitionId, StageId
from drizzle_streams.model.job import overlapping


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """One stored object: a base or a delta of state, as bytes under a key of the store."""

    key: str
    bytes: int
    checksum: int


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """State of some partitions of a stage at a batch: parts applied in order give the state.

    Parts may hold more key groups than `partitions` own; a restore takes what it needs. `of`: how many
    partitions the stage had then; 0 means as many as it has.
    """

    stage: StageId
    partitions: tuple[PartitionId, ...]
    batch: BatchId
    parts: tuple[SnapshotPart, ...]
    of: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All snapshots of one batch, committed: the place recovery starts from (section 3.3)."""

    batch: BatchId
    snapshots: tuple[SnapshotRef, ...] = ()

    def refs(self, stage: StageId, partition: PartitionId, of: int, key_groups: int) -> list[SnapshotRef]:
        """The snapshots that hold what is a partition where there are `of`; none where there was no state."""
        return [
            ref
            for ref in self.snapshots
            if ref.stage == stage
            and not set(overlapping(partition, of, ref.of or of, key_groups)).isdisjoint(ref.partitions)
        ]

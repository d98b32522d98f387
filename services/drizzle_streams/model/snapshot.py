"""Where a piece of state at a batch lies, and how to know that it is whole."""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.model.ids import BatchId, PartitionId, StageId


@dataclass(frozen=True, slots=True)
class SnapshotPart:
    """One stored object: a base or a delta of state, as bytes under a key of the store."""

    key: str
    bytes: int
    checksum: int


@dataclass(frozen=True, slots=True)
class SnapshotRef:
    """State of some partitions of a stage at a batch: parts applied in order give the state.

    Parts may hold more key groups than `partitions` own; a restore takes what it needs.
    """

    stage: StageId
    partitions: tuple[PartitionId, ...]
    batch: BatchId
    parts: tuple[SnapshotPart, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All snapshots of one batch, committed: the place recovery starts from (section 3.3)."""

    batch: BatchId
    snapshots: tuple[SnapshotRef, ...] = ()

    def ref(self, stage: StageId, partition: PartitionId) -> SnapshotRef | None:
        """The snapshot that holds a partition, or None where it had no state yet."""
        for ref in self.snapshots:
            if ref.stage == stage and partition in ref.partitions:
                return ref
        return None

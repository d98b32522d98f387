"""Placement: which worker owns which partition of which stage; and where streams lie on sources."""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.model.ids import BatchId, PartitionId, SourceId, StageId, StreamId, WorkerId


@dataclass(frozen=True, slots=True)
class Placement:
    """`owners[stage][partition]` is the worker that computes it; one table per generation."""

    owners: tuple[tuple[WorkerId, ...], ...] = ()

    def owner(self, stage: StageId, partition: PartitionId) -> WorkerId:
        """The worker that computes this partition."""
        return self.owners[stage][partition]

    def held_by(self, worker: WorkerId, stage: StageId) -> tuple[PartitionId, ...]:
        """The partitions of a stage that a worker owns, ascending."""
        return tuple(PartitionId(p) for p, owner in enumerate(self.owners[stage]) if owner == worker)

    def by_owner(self, stage: StageId) -> dict[WorkerId, tuple[PartitionId, ...]]:
        """Partitions of a stage by the worker that owns them, workers in order of first partition."""
        found: dict[WorkerId, list[PartitionId]] = {}
        for partition, owner in enumerate(self.owners[stage]):
            found.setdefault(owner, []).append(PartitionId(partition))
        return {owner: tuple(partitions) for owner, partitions in found.items()}

    def workers(self) -> frozenset[WorkerId]:
        """Every worker that owns anything."""
        return frozenset(owner for stage in self.owners for owner in stage)


@dataclass(frozen=True, slots=True)
class StreamLayout:
    """Which source holds each partition of a stream; fixed for the life of the log.

    A stream partition's log lies on one source's disk, under the partition's own number. `since`: the
    first batch that each partition is part of, where sources joined while the job ran; never falling.
    """

    stream: StreamId
    owners: tuple[SourceId, ...]
    since: tuple[BatchId, ...] = ()

    def first_batch(self, partition: PartitionId) -> BatchId:
        """The first batch that the partition is part of."""
        return self.since[partition] if self.since else BatchId(0)

    def held_by(self, source: SourceId) -> tuple[PartitionId, ...]:
        """The partitions whose logs lie on `source`, ascending."""
        return tuple(PartitionId(p) for p, owner in enumerate(self.owners) if owner == source)

    def local(self, partition: PartitionId) -> PartitionId:
        """The number of that partition within its source's own log."""
        owner = self.owners[partition]
        return PartitionId(sum(1 for other in self.owners[:partition] if other == owner))

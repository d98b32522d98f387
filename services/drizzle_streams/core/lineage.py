"""From which batch on the owner of a partition has its blocks: how far back a replay can fall.

An owner that was given a partition at a checkpoint has computed its blocks from the batch after
it. Where recovery falls back to the checkpoint before that, readers need older blocks, and such
an owner must compute them again like one that is lost (section 3.3, lineage).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from drizzle_streams.model.ids import BatchId, PartitionId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec


@dataclass(slots=True)
class Lineage:
    """The first batch whose blocks each owner has. A new coordinator knows no better than its checkpoint."""

    _firsts: dict[tuple[int, int], BatchId] = field(default_factory=dict[tuple[int, int], BatchId])
    _unknown: BatchId = BatchId(0)

    def restore(self, checkpoint: BatchId) -> None:
        """Nothing is known of who came when: nobody came later than the checkpoint."""
        self._firsts, self._unknown = {}, BatchId(checkpoint + 1)

    def begin(self, stage: StageId, partition: PartitionId, first: BatchId) -> None:
        """A partition has a new owner, who computes from `first` on."""
        self._firsts[(stage, partition)] = first

    def short_of(
        self, first: BatchId, spec: JobSpec, holders: Mapping[tuple[int, int], WorkerId]
    ) -> set[tuple[int, int]]:
        """The held partitions with readers whose owners may lack blocks from `first` on."""
        read = {upstream for stage in spec.stages for upstream in stage.inputs}
        return {key for key in holders if key[0] in read and self._firsts.get(key, self._unknown) > first}

"""How far back owners have blocks: who came later than the checkpoint that is fallen back to."""

from __future__ import annotations

from drizzle_streams.core.lineage import Lineage
from drizzle_streams.model.ids import BatchId, JobId, PartitionId, StageId, StreamId, WorkerId
from drizzle_streams.model.job import JobSpec, StageSpec

SPEC = JobSpec(
    JobId("j"),
    (StageSpec(StageId(0), 2, stream=StreamId("s")), StageSpec(StageId(1), 1, (StageId(0),), None, True)),
)
HOLDERS = {(0, 0): WorkerId("a"), (0, 1): WorkerId("b"), (1, 0): WorkerId("a")}


def test_only_owners_that_came_later_are_short_and_only_where_somebody_reads() -> None:
    lineage = Lineage()
    lineage.begin(StageId(0), PartitionId(1), BatchId(20))
    lineage.begin(StageId(1), PartitionId(0), BatchId(20))
    assert lineage.short_of(BatchId(10), SPEC, HOLDERS) == {(0, 1)}
    assert lineage.short_of(BatchId(20), SPEC, HOLDERS) == set()


def test_a_lost_partition_is_not_short_but_lost() -> None:
    lineage = Lineage()
    lineage.begin(StageId(0), PartitionId(1), BatchId(20))
    assert lineage.short_of(BatchId(10), SPEC, {(0, 0): WorkerId("a")}) == set()


def test_a_new_coordinator_trusts_nobody_behind_its_checkpoint() -> None:
    lineage = Lineage()
    lineage.begin(StageId(0), PartitionId(1), BatchId(20))
    lineage.restore(BatchId(29))
    assert lineage.short_of(BatchId(10), SPEC, HOLDERS) == {(0, 0), (0, 1)}
    assert lineage.short_of(BatchId(30), SPEC, HOLDERS) == set()

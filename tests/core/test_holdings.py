"""What a new coordinator believes of those who say what they hold."""

from __future__ import annotations

from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.story import Story
from drizzle_streams.model.ids import BatchId, Generation, JobId, PartitionId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement
from drizzle_streams.model.snapshot import Checkpoint
from drizzle_streams.protocol.parts import Done, JobHolding
from drizzle_streams.protocol.records import AssignRecord, CheckpointRecord, JobPhase, JobRecord

MAP, REDUCE = StageId(0), StageId(1)
A, B = WorkerId("a"), WorkerId("b")
LAID = Generation(4)


def restored() -> CoordinatorJob:
    """Two stages of two partitions; the second was split in generation 4. Checkpoints 15 and 20."""
    stages = (StageSpec(MAP, 2), StageSpec(REDUCE, 2, inputs=(MAP,), stateful=True, laid=LAID))
    spec = JobSpec(JobId("job"), stages, born=Generation(1))
    job = CoordinatorJob(spec, Story())
    checkpoint = CheckpointRecord(Checkpoint(BatchId(20)), Checkpoint(BatchId(15)))
    assign = AssignRecord(Generation(5), Placement(((A, B), (A, B))))
    job.restore(JobRecord(spec, JobPhase.RUNNING, ()), assign, None, checkpoint, until=10.0)
    return job


def holding(generation: int, *held: tuple[StageId, int, int]) -> JobHolding:
    done = (Done(stage, (PartitionId(p),), BatchId(at + 1), BatchId(at)) for stage, p, at in held)
    return JobHolding(JobId("job"), Generation(generation), tuple(done))


def test_everyone_is_back_when_the_remembered_owners_have_said_what_they_hold() -> None:
    job = restored()
    job.hear_holding(A, holding(5, (MAP, 0, 22), (REDUCE, 0, 21)))
    assert not job.everyone_back()
    job.hear_holding(B, holding(5, (MAP, 1, 22), (REDUCE, 1, 20)))
    assert job.everyone_back()
    assert job.holders == {(0, 0): A, (1, 0): A, (0, 1): B, (1, 1): B}


def test_what_is_held_in_another_layout_is_not_believed_but_its_owner_is_back() -> None:
    job = restored()
    job.hear_holding(A, holding(3, (MAP, 0, 22), (REDUCE, 0, 22)))
    job.hear_holding(B, holding(3, (REDUCE, 1, 22)))
    assert job.holders == {(0, 0): A}
    assert job.everyone_back()
    assert job.progress.done[REDUCE] == [20, 20], "nor does it count as done"
    job.lose(B, 1.0)
    assert not job.everyone_back()


def test_what_lies_behind_the_checkpoint_is_of_no_use() -> None:
    """Who has taken over since began with the checkpoint, and has no blocks from before it."""
    job = restored()
    job.hear_holding(A, holding(5, (MAP, 0, 22), (REDUCE, 0, 19)))
    assert job.holders == {(0, 0): A}

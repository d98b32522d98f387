"""When a source says that it obeys a cut, and what it says is sealed."""

from __future__ import annotations

import pytest

from drizzle_streams.core.events import BatchesSealed
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.source_job import SourceJob
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    NO_BATCH,
    BatchId,
    Generation,
    GroupId,
    JobId,
    Offset,
    PartitionId,
    SourceId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.protocol import messages as msg

JOB, STREAM, READS = JobId("j"), StreamId("posted"), StageId(0)
FIRST, SECOND, ME = SourceId("first"), SourceId("second"), WorkerId("w")
JOINS_AT = BatchId(20)


def reader(source: SourceId, least: int = 4) -> SourceJob:
    """One of two sources, of which the second joins with batch 20; 0..9 are launched, 4 is the floor."""
    counts = StageSpec(StageId(1), 4, inputs=(READS,), stateful=True, partitions_least=least)
    spec = JobSpec(JOB, (StageSpec(READS, 2, stream=STREAM), counts), born=Generation(1))
    layout = StreamLayout(STREAM, (FIRST, SECOND), (BatchId(0), JOINS_AT))
    needed = ((BatchId(5), JOINS_AT), (BatchId(5),) * 4)
    job, out = SourceJob(source, JOB), Effects()
    job.assign(
        msg.Assign(spec, Generation(3), (layout,), Placement(((ME, ME), (ME,) * 4)), needed, BatchId(4), ()),
        out,
    )
    job.launch(msg.Launch(JOB, Generation(3), GroupId(7), BatchId(0), BatchId(9), 0.0, 50.0, 10))
    return job


def cut(last: int) -> msg.Cut:
    return msg.Cut(JOB, Generation(3), GroupId(7), BatchId(last))


def seal(job: SourceJob, batch: int) -> None:
    bounds = Bounds(BatchId(batch), PartitionId(0), Offset(0), Offset(0))
    sealed = BatchesSealed(JOB, READS, BatchId(batch), BatchId(batch), (bounds,), 0)
    job.sealed_batches(sealed, 1.0, Effects())


def test_a_cut_is_obeyed_once_nothing_beyond_it_is_being_sealed_and_said_once() -> None:
    job = reader(FIRST)
    for batch in (5, 6):
        seal(job, batch)
    job.seal(job.readings[READS], 0.0, Effects())
    job.cut(cut(6))
    assert job.halted() is None, "batch 7 is being sealed"
    seal(job, 7)
    halted = job.halted()
    assert halted == msg.Halted(JOB, Generation(3), FIRST, GroupId(7), BatchId(6), BatchId(7))
    assert job.halted() is None


def test_a_range_that_ends_beyond_the_cut_is_waited_for() -> None:
    job = reader(FIRST)
    job.seal(job.readings[READS], 0.42, Effects())
    assert job.readings[READS].sealing == 7, "5, 6 and 7 are due"
    job.cut(cut(6))
    assert job.halted() is None
    bounds = tuple(Bounds(BatchId(b), PartitionId(0), Offset(0), Offset(0)) for b in (5, 6, 7))
    job.sealed_batches(BatchesSealed(JOB, READS, BatchId(5), BatchId(7), bounds, 0), 1.0, Effects())
    halted = job.halted()
    assert halted is not None
    assert halted.sealed == 7


def test_where_partitions_stay_as_many_as_they_are_nobody_has_to_know() -> None:
    job = reader(FIRST, least=0)
    job.cut(cut(6))
    assert job.halted() is None


def test_what_is_launched_after_a_cut_takes_it_back() -> None:
    job = reader(FIRST)
    job.cut(cut(6))
    job.launch(msg.Launch(JOB, Generation(3), GroupId(8), BatchId(7), BatchId(16), 0.0, 50.0, 10))
    assert job.halted() is None


@pytest.mark.parametrize(("source", "sealed"), [(FIRST, 6), (SECOND, NO_BATCH)])
def test_a_source_that_begins_later_has_sealed_nothing(source: SourceId, sealed: int) -> None:
    """Else the boundary would have to go to where it begins, which may not even be launched."""
    job = reader(source)
    if source == FIRST:
        seal(job, 5)
        seal(job, 6)
    job.cut(cut(6))
    halted = job.halted()
    assert halted is not None
    assert halted.sealed == sealed

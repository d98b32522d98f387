"""What is computed again is as late as it was: a replay adds nothing to what is known of latencies."""

from __future__ import annotations

from drizzle_streams.core import actions as act
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.worker_job import WorkerJob
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
from drizzle_streams.protocol import parts

ME, SOURCE, ONE = WorkerId("worker-1"), SourceId("source-1"), Generation(1)
READS, STREAM = StageId(0), StreamId("s")
P0, P1 = PartitionId(0), PartitionId(1)
SPEC = JobSpec(JobId("j"), (StageSpec(READS, 2, stream=STREAM, writes_output=True),), 50.0)
LAST = 7
SEALED_MS, NOW_S = 1_000.0, 3.0


def adopting(*adoptions: tuple[tuple[PartitionId, ...], int, int]) -> WorkerJob:
    """A job that begins with these: partitions, their first batch, and the last that somebody has done."""
    job, out = WorkerJob(ME, SPEC), Effects()
    job.loaded = True
    adopted = tuple(
        parts.Adoption(READS, partitions, BatchId(first), (), (), (), BatchId(done))
        for partitions, first, done in adoptions
    )
    layout, placed = StreamLayout(STREAM, (SOURCE, SOURCE)), Placement(((ME, ME),))
    first_of = {p: BatchId(first) for partitions, first, _ in adoptions for p in partitions}
    needed = ((first_of[P0], first_of[P1]),)
    job.assign(msg.Assign(SPEC, ONE, (layout,), placed, needed, NO_BATCH, adopted), NOW_S, out)
    job.launch(msg.Launch(SPEC.job, ONE, GroupId(0), BatchId(0), BatchId(LAST), 0.0, 50.0, 100), NOW_S)
    for batch in range(LAST + 1):
        bounds = tuple(Bounds(BatchId(batch), p, Offset(0), Offset(1)) for p in (P0, P1))
        offer = msg.Offer(SPEC.job, ONE, SOURCE, READS, BatchId(batch), (SEALED_MS,), bounds)
        job.offered(offer, carried=True, out=out)
    return job


def computed(job: WorkerJob) -> list[tuple[int, tuple[PartitionId, ...], bool]]:
    """All there is is computed and written at once: the batch, its partitions, whether that is a replay."""
    tasks: list[tuple[int, tuple[PartitionId, ...], bool]] = []
    while ready := job.ready():
        out = Effects()
        job.run(ready[0], out)
        (task,) = (start for start in out.starts if isinstance(start, act.RunTask))
        job.finished(task.key, NOW_S, out)
        job.output_written(task.key.cohort, task.key.batch, NOW_S, out)
        tasks.append((task.key.batch, task.partitions, task.replayed))
    return tasks


def timed(job: WorkerJob) -> list[int]:
    """The batches whose latency is reported."""
    runs = job.report().latencies
    assert all(set(run.milliseconds) == {1_000.0 * NOW_S - SEALED_MS} for run in runs)
    return [run.first + i for run in runs for i in range(len(run.milliseconds))]


def test_what_others_have_done_of_it_is_replayed_and_counts_for_no_latency() -> None:
    job = adopting(((P0, P1), 3, 5))
    assert [(batch, replayed) for batch, _, replayed in computed(job)] == [
        (3, True),
        (4, True),
        (5, True),
        (6, False),
        (7, False),
    ]
    assert timed(job) == [6, 7]


def test_a_batch_is_as_late_as_the_part_of_it_that_nobody_has_done() -> None:
    job = adopting(((P0,), 3, 9), ((P1,), 5, 4))
    assert computed(job) == [
        (3, (P0,), True),
        (4, (P0,), True),
        (5, (P0, P1), False),
        (6, (P0, P1), False),
        (7, (P0, P1), False),
    ], "they are one cohort from there on, and of the other half it is the first time"
    assert timed(job) == [5, 6, 7]


def test_a_first_placement_replays_nothing() -> None:
    job = adopting(((P0, P1), 0, NO_BATCH))
    assert not any(replayed for _, _, replayed in computed(job))
    assert timed(job) == list(range(LAST + 1))

"""Credit that waits: when it is said, what it says, and that what is concluded from it stays right."""

from __future__ import annotations

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core.events import BatchesSealed, Received, TaskFinished
from drizzle_streams.core.later import LATER_MS_MAX, LATER_SHARE, Later, said_at
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.source_job import SourceJob
from drizzle_streams.core.speculation import TASKS_KNOWN_MIN
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    COORDINATOR,
    NO_BATCH,
    BatchId,
    Generation,
    GroupId,
    JobId,
    NodeId,
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

ME, OTHER, SOURCE = WorkerId("worker-1"), WorkerId("worker-2"), SourceId("source-1")
ONE, P0, FIRST = Generation(1), PartitionId(0), BatchId(0)
READS, LAST, STREAM = StageId(0), StageId(1), StreamId("s")
SPEC = JobSpec(
    JobId("j"),
    (StageSpec(READS, 1, stream=STREAM), StageSpec(LAST, 1, inputs=(READS,))),
    50.0,
    speculation=True,
)
LAYOUT, PLACED = StreamLayout(STREAM, (SOURCE,)), Placement(((ME,), (OTHER,)))
NEEDED = ((FIRST,), (FIRST,))
SEALED_S = 10.0
SAID_S = SEALED_S + LATER_MS_MAX / 1000.0
LAUNCH = msg.Launch(SPEC.job, ONE, GroupId(0), FIRST, BatchId(9), 0.0, 50.0, 10)


def credit(batch: int, held_ms: float = 0.0, stage: StageId = READS) -> msg.Taken:
    return msg.Taken(SPEC.job, ONE, ME, stage, (P0,), BatchId(batch), held_ms)


def assigned(generation: Generation) -> msg.Assign:
    adopted = (parts.Adoption(READS, (P0,), FIRST, (), (), ()),)
    return msg.Assign(SPEC, generation, (LAYOUT,), PLACED, NEEDED, NO_BATCH, adopted)


class Running:
    """A worker with a reading task under way; sealed at `SEALED_S`."""

    def __init__(self) -> None:
        self.worker, self.out = Worker(WorkerSettings(ME, "")), Effects()
        for message in (msg.Welcome(ONE, 60_000), assigned(ONE), LAUNCH):
            self.hear(COORDINATOR, message)
        bounds = (Bounds(FIRST, P0, Offset(0), Offset(1)),)
        offer = msg.Offer(SPEC.job, ONE, SOURCE, READS, FIRST, (1000.0 * SEALED_S,), bounds)
        self.hear(NodeId(SOURCE), offer)
        self.worker.jobs[SPEC.job].loaded = True
        self.worker.settle(SEALED_S, self.out)

    def hear(self, sender: NodeId, message: msg.Message) -> None:
        self.worker.handle(Received(sender, message, carried=True), SEALED_S, self.out)

    def finish(self, at: float) -> None:
        (task,) = (start for start in self.out.starts if isinstance(start, act.RunTask))
        self.worker.handle(TaskFinished(task.key), at, self.out)

    @property
    def said(self) -> list[msg.Taken]:
        return [message for _, message, _ in self.out.messages if isinstance(message, msg.Taken)]


def test_later_credit_of_the_same_partitions_stands_for_earlier_one() -> None:
    later, source = Later(), NodeId(SOURCE)
    later.hold(source, credit(0), 0.5, 1.0)
    later.hold(source, credit(0, stage=LAST), 1.0, 1.5)
    later.hold(source, credit(1), 1.25, 2.0)
    assert later.next_deadline() == 1.5
    assert later.due(1.4) == []
    assert later.due(1.5) == [(source, credit(0, 500.0, stage=LAST))]
    assert later.due(2.25) == [(source, credit(1, 1_000.0))]
    assert later.next_deadline() is None


def test_it_waits_a_share_of_the_interval_but_never_long() -> None:
    assert said_at(1000.0 * SEALED_S, 10.0, SEALED_S) == pytest.approx(SEALED_S + LATER_SHARE * 10.0 / 1000.0)
    for interval_ms in (50.0, 5_000.0):
        assert said_at(1000.0 * SEALED_S, interval_ms, SEALED_S) == pytest.approx(SAID_S)


def test_a_clock_behind_the_source_s_holds_nothing_for_longer() -> None:
    now = SEALED_S - 3_600.0
    assert said_at(1000.0 * SEALED_S, 50.0, now) == pytest.approx(now + LATER_MS_MAX / 1000.0)


def test_a_task_that_is_early_is_credited_when_the_batch_is_likely_to_be_through() -> None:
    running = Running()
    running.finish(SEALED_S + 0.004)
    assert any(isinstance(message, msg.BlocksReady) for _, message, _ in running.out.messages)
    assert running.said == []
    due = running.worker.next_deadline()
    assert due == pytest.approx(SAID_S)
    assert due is not None
    running.worker.on_deadline(due, running.out)
    (said,) = running.said
    assert said.held_ms == pytest.approx(LATER_MS_MAX - 4.0)
    assert said == credit(0, said.held_ms)


def test_a_task_that_is_late_already_is_credited_at_once() -> None:
    running = Running()
    running.finish(SAID_S + 0.001)
    assert running.said == [credit(0)]


def test_a_new_generation_says_anew_how_far_it_is_and_nothing_of_the_old_one() -> None:
    running = Running()
    running.finish(SEALED_S + 0.004)
    running.hear(COORDINATOR, assigned(Generation(2)))
    assert [(said.generation, said.batch) for said in running.said] == [(2, 0)]
    running.worker.on_deadline(SAID_S, running.out)
    assert len(running.said) == 1


def test_a_source_takes_a_task_for_as_late_as_it_was() -> None:
    """Not for as late as it heard of it: a straggler would be noticed later for that."""
    job, out = SourceJob(SOURCE, SPEC.job), Effects()
    job.assign(assigned(ONE), out)
    job.launch(LAUNCH)
    for batch in range(TASKS_KNOWN_MIN):
        bounds = (Bounds(BatchId(batch), P0, Offset(batch), Offset(batch + 1)),)
        job.sealed_batches(
            BatchesSealed(SPEC.job, READS, BatchId(batch), BatchId(batch), bounds, 0), SEALED_S, out
        )
        job.taken(credit(batch, LATER_MS_MAX - 4.0), SAID_S)
    copies = job.readings[READS].copies
    assert copies is not None
    assert copies.late_after_ms == pytest.approx(4.0 + 50.0)

"""What a worker makes of words of a generation, and so of a layout, that it has not heard of."""

from __future__ import annotations

from dataclasses import replace

from drizzle_streams.core import actions as act
from drizzle_streams.core.events import Received
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.ids import (
    COORDINATOR,
    BatchId,
    Generation,
    JobId,
    NodeId,
    PartitionId,
    StageId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts

ME, PEER = WorkerId("worker-1"), WorkerId("worker-2")
MAP, REDUCE = StageId(0), StageId(1)
JOB = JobId("j")
SPEC = JobSpec(
    JOB,
    (StageSpec(MAP, 1), StageSpec(REDUCE, 1, inputs=(MAP,), stateful=True, partitions_least=1)),
    50.0,
    born=Generation(1),
)
SPLIT = replace(SPEC, stages=(SPEC.stages[0], replace(SPEC.stages[1], partitions=2, laid=Generation(2))))


def assign(spec: JobSpec, generation: int, first: int) -> msg.Assign:
    count = spec.stages[REDUCE].partitions
    adoption = parts.Adoption(REDUCE, tuple(range(count)), BatchId(first), (), (), ())  # type: ignore[arg-type]
    placement = Placement(((PEER,), (ME,) * count))
    needed = ((BatchId(first),), (BatchId(first),) * count)
    return msg.Assign(spec, Generation(generation), (), placement, needed, BatchId(-1), (adoption,))


def ready(generation: int, *wanted: int) -> msg.BlocksReady:
    place = (JOB, Generation(generation), PEER, MAP, (0,), REDUCE)
    return msg.BlocksReady(*place, wanted, BatchId(5), BatchId(5), (0.0,))  # type: ignore[arg-type]


def hears(worker: Worker, message: msg.Message, *, carried: bool = False) -> Effects:
    out = Effects()
    sender = NodeId(PEER) if isinstance(message, msg.BlocksReady) else COORDINATOR
    worker.handle(Received(sender, message, carried=carried), 1.0, out)
    return out


def fetches(out: Effects) -> list[act.FetchBlocks]:
    return [action for action in out.starts if isinstance(action, act.FetchBlocks)]


def at_work() -> Worker:
    worker = Worker(WorkerSettings(ME, ""))
    hears(worker, msg.Welcome(Generation(1), 60_000))
    hears(worker, assign(SPEC, 1, 0))
    return worker


def test_what_came_early_is_not_taken_in_before_its_assignment_and_pulled_then() -> None:
    worker = at_work()
    assert fetches(hears(worker, ready(2, 0, 1))) == []
    hears(worker, ready(2, 0), carried=True)
    job = worker.jobs[JOB]
    assert not job.arrivals[REDUCE].covers(BatchId(5), MAP, (PartitionId(0),), 1), (
        "partition 0 is another range here"
    )
    pulled = fetches(hears(worker, assign(SPLIT, 2, 5)))
    assert [fetch.wanted for fetch in pulled] == [(0, 1), (0,)]


def test_what_does_not_fit_the_layout_that_is_assigned_is_let_go() -> None:
    worker = at_work()
    hears(worker, ready(2, 2))
    assert fetches(hears(worker, assign(SPLIT, 2, 5))) == []


def test_who_has_a_share_speaks_of_the_layout_that_it_knows_though_it_is_told_of_a_newer_one() -> None:
    """A new coordinator prepares everybody. What is held here is still of the old layout, and must say so."""
    worker = at_work()
    out = hears(worker, msg.Prepare(SPLIT, Generation(2)))
    assert worker.jobs[JOB].holding().generation == 1
    assert worker.jobs[JOB].report().generation == 1
    assert not [1 for _, message, _ in out.messages if isinstance(message, msg.Prepared)], "it is loading"


def test_who_has_no_share_takes_the_generation_that_it_is_prepared_in() -> None:
    worker = Worker(WorkerSettings(ME, ""))
    hears(worker, msg.Welcome(Generation(2), 60_000))
    hears(worker, msg.Prepare(SPLIT, Generation(2)))
    assert worker.jobs[JOB].generation == 2
    assert fetches(hears(worker, ready(3, 0))) == []
    assert [fetch.wanted for fetch in fetches(hears(worker, assign(SPLIT, 3, 5)))] == [(0,)]

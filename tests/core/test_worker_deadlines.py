"""A deadline that was met is behind: the worker's next one lies in the future, whatever floats do."""

from __future__ import annotations

from drizzle_streams.core.events import Received
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.worker import (
    REPORT_INTERVAL_S,
    REPORT_INTERVAL_S_MAX,
    Worker,
    WorkerSettings,
    report_interval_s,
)
from drizzle_streams.model.ids import COORDINATOR, BatchId, Generation, GroupId, JobId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement
from drizzle_streams.protocol import messages as msg

TIMEOUT_S = 1.0
ME = WorkerId("worker-1")


def awaiting_since(now: float) -> Worker:
    """A worker of which one task awaits a block since `now`."""
    spec = JobSpec(
        JobId("j"), (StageSpec(StageId(0), 1), StageSpec(StageId(1), 1, inputs=(StageId(0),))), 50.0
    )
    worker, out = Worker(WorkerSettings(ME, "", awaited_timeout_s=TIMEOUT_S)), Effects()
    adoption = msg.Adoption(StageId(1), (0,), BatchId(0), (), (), ())  # type: ignore[arg-type]
    placement = Placement(((WorkerId("worker-2"),), (ME,)))
    assign = msg.Assign(
        spec, Generation(1), (), placement, ((BatchId(0),), (BatchId(0),)), BatchId(-1), (adoption,)
    )
    for message in (
        msg.Welcome(Generation(1), 60_000),
        assign,
        msg.Launch(spec.job, Generation(1), GroupId(0), BatchId(0), BatchId(9), 0.0, 50.0, 10),
    ):
        worker.handle(Received(COORDINATOR, message, carried=False), now, out)
    return worker


def test_a_task_that_waits_too_long_asks_once_and_the_deadline_moves_on() -> None:
    """Where (since + timeout) - since rounds to less than the timeout, a difference never came true."""
    rounding = [
        s for s in (1_000.0 + i * 0.1234567891 for i in range(1_000)) if (s + TIMEOUT_S) - s < TIMEOUT_S
    ]
    assert rounding, "the case under test exists"
    for since in rounding[:20]:
        worker, out = awaiting_since(since), Effects()
        worker.on_deadline(since + TIMEOUT_S, out)
        assert [type(message) for _, message, _ in out.messages if isinstance(message, msg.Overdue)] == [
            msg.Overdue
        ]
        due = worker.next_deadline()
        assert due is not None
        assert due > since + TIMEOUT_S


def test_many_workers_report_more_rarely_so_that_the_coordinator_hears_as_much_of_100_as_of_40() -> None:
    assert report_interval_s(1) == report_interval_s(33) == REPORT_INTERVAL_S
    heard = [workers / report_interval_s(workers) for workers in (40, 100)]
    assert abs(heard[0] - heard[1]) < 1.0, "reports a second"
    assert report_interval_s(1_000) == REPORT_INTERVAL_S_MAX

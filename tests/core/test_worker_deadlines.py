"""A deadline that was met is behind: the worker's next one lies in the future, whatever floats do."""

from __future__ import annotations

from itertools import pairwise

import pytest

from drizzle_streams.core.cohorts import Cohort
from drizzle_streams.core.events import Received
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.worker import AWAITED_TIMEOUT_S_MAX, Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.ids import (
    COORDINATOR,
    BatchId,
    CohortId,
    Generation,
    GroupId,
    JobId,
    StageId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts

TIMEOUT_S = 1.0
ME = WorkerId("worker-1")


def awaiting_since(now: float, above: int = 1) -> Worker:
    """A worker of which one task awaits a block since `now`, of each of so many workers."""
    spec = JobSpec(
        JobId("j"), (StageSpec(StageId(0), above), StageSpec(StageId(1), 1, inputs=(StageId(0),))), 50.0
    )
    worker, out = Worker(WorkerSettings(ME, "", awaited_timeout_s=TIMEOUT_S)), Effects()
    adoption = parts.Adoption(StageId(1), (0,), BatchId(0), (), (), ())  # type: ignore[arg-type]
    placement = Placement((tuple(WorkerId(f"worker-{2 + number}") for number in range(above)), (ME,)))
    needed = ((BatchId(0),) * above, (BatchId(0),))
    assign = msg.Assign(spec, Generation(1), (), placement, needed, BatchId(-1), (adoption,))
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


def test_a_task_that_goes_on_waiting_asks_more_rarely_down_to_a_bound() -> None:
    """Every question makes others say it again: where all is slow, that must not become more."""
    worker = awaiting_since(0.0)
    asked: list[float] = []
    while not asked or asked[-1] < 60.0:
        now = worker.next_deadline()
        assert now is not None
        out = Effects()
        worker.on_deadline(now, out)
        if any(isinstance(message, msg.Overdue) for _, message, _ in out.messages):
            asked.append(now)
    gaps = [later - earlier for earlier, later in zip([0.0, *asked], asked, strict=False)]
    assert gaps[0] == TIMEOUT_S
    assert gaps == sorted(gaps)
    assert gaps[-1] == AWAITED_TIMEOUT_S_MAX


def test_patience_shrinks_as_waits_do() -> None:
    cohort = Cohort(CohortId(1), StageId(0), (), *[BatchId(-1)] * 3, open=True, waiting_since=0.0)
    cohort.asks(1.0, TIMEOUT_S, AWAITED_TIMEOUT_S_MAX)
    assert cohort.overdue_at(TIMEOUT_S) == 1.0 + 2 * TIMEOUT_S
    cohort.came(2.9)
    assert cohort.overdue_at(TIMEOUT_S) == 2.9 + 2 * TIMEOUT_S, "it was worth waiting for"
    cohort.came(3.0)
    assert cohort.overdue_at(TIMEOUT_S) == 3.0 + TIMEOUT_S


def beats(worker: Worker, until: float) -> list[tuple[float, bool]]:
    """When it beats, and whether with a report; a batch of its task is done all the time."""
    (job,) = worker.jobs.values()
    (cohort,) = job.cohorts.values()
    found: list[tuple[float, bool]] = []
    while (now := worker.next_deadline() or 0.0) < until:
        out = Effects()
        cohort.done, job.report_due = BatchId(cohort.done + 1), True
        worker.on_deadline(now, out)
        said = {type(message) for _, message, _ in out.messages}
        if msg.Heartbeat in said:
            found.append((now, msg.DoneReport in said))
    return found


@pytest.mark.parametrize(("above", "along"), [(1, False), (99, True)])
def test_in_a_crowd_who_reports_beats_along_with_reports(above: int, along: bool) -> None:
    worker, lease_s = awaiting_since(0.0, above), 5.0
    welcome = msg.Welcome(Generation(1), round(lease_s * 1_000))
    worker.handle(Received(COORDINATOR, welcome, carried=False), 0.0, Effects())
    found = beats(worker, 30.0)
    assert all(with_report for _, with_report in found[1:]) is along
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(found)]
    assert max(gaps) <= lease_s / 5 + 1e-9
    assert min(gaps) >= lease_s / 10 - 1e-9, "and not with each report"

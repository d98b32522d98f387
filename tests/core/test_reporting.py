"""Workers report as rarely as the coordinator can do with."""

from __future__ import annotations

import pytest

from drizzle_streams.core import reporting
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.reporting import ReportTimer, report_interval_s, report_pause_s
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.model.ids import BatchId, Generation, GroupId, JobId, PartitionId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts

ME = WorkerId("worker-1")


def assigned() -> WorkerJob:
    """A job of one partition, which is ours."""
    spec, first = JobSpec(JobId("j"), (StageSpec(StageId(0), 1),), 50.0), BatchId(0)
    mine = parts.Adoption(StageId(0), (PartitionId(0),), first, (), (), ())
    assign = msg.Assign(spec, Generation(1), (), Placement(((ME,),)), ((first,),), BatchId(-1), (mine,))
    job = WorkerJob(ME, spec)
    job.assign(assign, 0.0, Effects())
    return job


def test_the_coordinator_hears_as_much_of_100_as_of_40() -> None:
    assert report_interval_s(1) == report_interval_s(33) == reporting.REPORT_INTERVAL_S
    heard = [workers / report_interval_s(workers) for workers in (40, 100)]
    assert abs(heard[0] - heard[1]) < 1.0, "reports a second"
    assert report_interval_s(1_000) == reporting.REPORT_INTERVAL_S_MAX


def test_few_workers_report_often_whatever_is_launched() -> None:
    assert report_pause_s(2) == report_interval_s(2) == reporting.REPORT_INTERVAL_S
    assert report_pause_s(128) > 4 * report_interval_s(128)
    assert report_pause_s(1_000) == reporting.REPORT_PAUSE_S_MAX


@pytest.mark.parametrize("short_after_s", [0.01, 0.1, 0.5])
def test_a_report_waits_while_enough_is_launched(short_after_s: float) -> None:
    timer = ReportTimer()
    timer.due(10.0, 100, awaited=False, short=False)
    assert timer.at == 10.0 + report_pause_s(100)
    now = 10.0 + short_after_s
    timer.due(now, 100, awaited=False, short=True)
    assert timer.at == 10.0 + report_interval_s(100), "counted from when there was something to say"
    timer.due(now, 100, awaited=True, short=False)
    assert timer.at == now
    timer.said()
    assert timer.at is None


def test_the_job_that_waits_least_is_waited_for() -> None:
    timer = ReportTimer()
    for workers in (100, 2, 100):
        timer.due(10.0, workers, awaited=False, short=False)
    assert timer.at == 10.0 + report_pause_s(2)


def launch(job: WorkerJob, group: int, first: int, last: int, interval_ms: float) -> None:
    said = msg.Launch(
        job.spec.job, Generation(1), GroupId(group), BatchId(first), BatchId(last), 0.0, interval_ms, 10
    )
    job.launch(said, 0.0)


def ran_out(job: WorkerJob, through: int) -> list[bool]:
    """Whether it runs out when it has done so much, one batch after the other, without a report."""
    (cohort,) = job.cohorts.values()
    short: list[bool] = []
    for done in range(cohort.done + 1, through + 1):
        cohort.done = BatchId(done)
        short.append(job.runs_out)
    return short


def test_what_is_launched_runs_out_where_the_next_group_is_launched() -> None:
    job = assigned()
    assert job.runs_out, "a new generation is reported soon"
    job.report()
    launch(job, 0, 0, 99, 50.0)
    assert ran_out(job, 99) == [False] * 93 + [True] * 7, "300 ms before its end"


def test_once_the_coordinator_knows_it_nothing_runs_out_until_more_is_launched() -> None:
    job = assigned()
    job.report()
    launch(job, 0, 0, 99, 50.0)
    ran_out(job, 93)
    job.report()
    assert not any(ran_out(job, 99))
    launch(job, 1, 100, 199, 50.0)
    assert ran_out(job, 199) == [False] * 93 + [True] * 7


def test_small_groups_run_out_at_half_of_what_is_launched() -> None:
    """They are launched several at once, so the first of them is no reason to hurry."""
    job = assigned()
    job.report()
    for group in range(16):
        launch(job, group, 10 * group, 10 * group + 9, 2.0)
    assert ran_out(job, 159) == [False] * 79 + [True] * 81

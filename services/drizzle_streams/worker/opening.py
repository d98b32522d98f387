"""Cohorts come, give up partitions and become one: each in the order of the cohort's own work."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.engine.state import StageState, united
from drizzle_streams.errors import CorruptError, DrizzleError
from drizzle_streams.worker.cohorts import Cohort
from drizzle_streams.worker.handing import taken_over
from drizzle_streams.worker.jobs import JobRun
from drizzle_streams.worker.patience import patiently
from drizzle_streams.worker.programs import LoadedStage, failure
from drizzle_streams.worker.snapshots import restored

log = logging.getLogger("drizzle.worker")


def open_cohort(job: JobRun, action: act.OpenCohort) -> None:
    """Restore state; ends in CohortOpened, CohortFailed or CohortDamaged."""
    cohort = job.new_cohort(action.stage, action.cohort)
    cohort.chain.add(lambda: _open(job, cohort, action))


def keep_partitions(job: JobRun, action: act.KeepPartitions) -> None:
    """Give up partitions; none left closes the cohort. What runs already runs with the old ones."""
    cohort = job.cohorts.get(action.cohort)
    if cohort is None:
        return  # a stage that reads or joins has no state, and may not have run a task here yet
    cohort.chain.add(lambda: _keep(job, cohort, action))
    if not action.partitions:
        job.closes(cohort.chain.ended())
        del job.cohorts[action.cohort]


def lay_out(job: JobRun, action: act.LayOut) -> None:
    """Compute with other numbers of partitions; what was begun before ends as it was begun."""
    job.lay_out(action.spec)


def merge_cohorts(job: JobRun, action: act.MergeCohorts) -> None:
    """Make one cohort of two that stand at the same batch."""
    other = job.cohorts.pop(action.other, None)
    cohort = job.cohorts.get(action.cohort)
    if cohort is not None and other is not None:
        other_ended = other.chain.ended()
        cohort.chain.add(lambda: _merge(job, cohort, other, other_ended))


async def _open(job: JobRun, cohort: Cohort, action: act.OpenCohort) -> None:
    await job.load_ended.wait()
    if job.forgotten:
        return
    error = job.load_error
    if error is None:
        stage = job.stages[action.stage]
        try:
            cohort.state = await _state(job, stage, action)
        except CorruptError as damage:
            _damaged(job, action, damage)
            return
        except DrizzleError as reason:
            error = failure(reason, action.stage, action.batch, action.partitions)
    if error is None:
        job.post(ev.CohortOpened(action.job, action.stage, action.cohort))
        return
    job.cohorts.pop(action.cohort, None)
    job.post(ev.CohortFailed(action.job, action.stage, action.cohort, error))


def _damaged(job: JobRun, action: act.OpenCohort, damage: CorruptError) -> None:
    """Not the end of the job: there is a checkpoint before this one."""
    job.cohorts.pop(action.cohort, None)
    job.bench.counters.snapshots_damaged += 1
    log.error(
        "a snapshot is damaged",
        extra={"job": action.job, "stage": action.stage, "batch": action.batch, "reason": str(damage)},
    )
    job.post(ev.CohortDamaged(action.job, action.stage, action.cohort, action.batch, str(damage)))


async def _state(job: JobRun, stage: LoadedStage, action: act.OpenCohort) -> StageState:
    """From former owners where they have it, the rest from the snapshot store."""
    states, left = await taken_over(job, stage, action)
    if left:
        rest, started = replace(action, partitions=left), job.bench.clock.now()
        states.append(await patiently(job, "restoring state", partial(_restored, job, stage, rest)))
        if rest.snapshots:
            seconds = max(0.0, job.bench.clock.now() - started)
            job.bench.metrics.restore_seconds.of(action.job).observe(seconds)
    return await job.bench.threads.background(united, states)


async def _restored(job: JobRun, stage: LoadedStage, action: act.OpenCohort) -> StageState:
    return await restored(action, stage, job.bench.snapshots, job.bench.threads)


async def _keep(job: JobRun, cohort: Cohort, action: act.KeepPartitions) -> None:
    if job.stages:
        job.stages[cohort.stage].executor.gave_up()
    if cohort.state is not None and not job.forgotten:
        job.part(cohort.stage, cohort.state)
        if action.partitions:
            cohort.state = await job.bench.threads.task(cohort.state.keep, action.partitions)


async def _merge(job: JobRun, cohort: Cohort, other: Cohort, other_ended: asyncio.Event) -> None:
    await other_ended.wait()
    cohort.outputs.update(other.outputs)
    if cohort.state is not None and other.state is not None:
        cohort.state = await job.bench.threads.task(cohort.state.merge, other.state)
        cohort.line.restart()

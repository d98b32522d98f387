"""Tasks: a cohort's next batch, computed in a thread (short ones here), filed on the event loop."""

from __future__ import annotations

import asyncio
import logging

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.engine.compaction import Compacted, Compaction
from drizzle_streams.engine.state import StageState
from drizzle_streams.model.task import TaskError, TaskKey
from drizzle_streams.worker.blocks import ShareKey
from drizzle_streams.worker.cohorts import Cohort, Output
from drizzle_streams.worker.deadletters import Origin
from drizzle_streams.worker.execution import Result, Work, execute
from drizzle_streams.worker.inputs import LostInputError, collect
from drizzle_streams.worker.jobs import JobRun
from drizzle_streams.worker.programs import failure

log = logging.getLogger("drizzle.worker")


def run_task(job: JobRun, action: act.RunTask) -> None:
    """Compute a batch; ends in TaskFinished or TaskCrashed."""
    key = action.key
    cohort = job.cohorts.get(key.cohort) or job.new_cohort(key.stage, key.cohort)
    try:
        entries, blocks = collect(job, action)
    except LostInputError as error:
        _crashed(job, key, failure(error, key.stage, key.batch, action.partitions))
        return
    work = Work(
        stage=job.stages[key.stage],
        batch=key.batch,
        partitions=action.partitions,
        entries=entries,
        blocks=blocks,
        shares=_shares(job, action),
        choice=action.choice,
    )
    # Where nothing is before it, a thread begins now, and not when this turn of the event loop is over.
    begun = _begun(job, cohort, work) if not cohort.chain.length else None
    cohort.chain.add(lambda: _run(job, cohort, action, work, begun))


def _begun(job: JobRun, cohort: Cohort, work: Work) -> asyncio.Future[Result | TaskError]:
    merged, cohort.merged = cohort.merged, None
    compact = not cohort.merging
    if job.bench.threads.idle and job.brevities[work.stage.stage.stage].holds_for(work):
        return asyncio.create_task(_here(work, cohort.state, merged, compact=compact), name="short task")
    return job.bench.threads.task(execute, work, cohort.state, merged, compact=compact)


async def _here(
    work: Work, state: StageState | None, merged: tuple[Compaction, Compacted] | None, *, compact: bool
) -> Result | TaskError:
    """Compute it on the event loop, as its next turn: what this one has to say to others is said first."""
    return execute(work, state, merged, compact=compact)


async def _run(
    job: JobRun,
    cohort: Cohort,
    action: act.RunTask,
    work: Work,
    begun: asyncio.Future[Result | TaskError] | None,
) -> None:
    if job.forgotten and begun is None:
        job.post_forgotten(action.key)
        return
    result = await (begun or _begun(job, cohort, work))
    if job.forgotten:
        job.post_forgotten(action.key)
    elif isinstance(result, TaskError):
        _crashed(job, action.key, result)
    else:
        _file(job, cohort, action, result)


def _file(job: JobRun, cohort: Cohort, action: act.RunTask, result: Result) -> None:
    """Keep what a task gave where those who want it look for it."""
    key, bench, blocks = action.key, job.bench, result.output.blocks
    if blocks is not None:
        bench.blocks.add(key.job, key.stage, key.batch, blocks, action.sealed_at_ms, result.shares)
        bench.weigh()
    job.brevities[key.stage].took(result.seconds)
    cohort.state = result.state
    if job.spec.stage(key.stage).writes_output:
        cohort.outputs[key.batch] = Output(result.rows, 0.0 if action.replayed else action.sealed_at_ms)
    if result.letters:
        bench.letters.add(Origin(key.job, job.spec.run, key.stage, key.batch), result.letters)
    if result.compaction is not None:
        cohort.merging = True
        bench.tasks.start(_compact(job, cohort, result.compaction), f"merging state of {job.spec.run}")
    _count(job, action, result)
    job.post(ev.TaskFinished(key, result.output.seen if job.spec.replanning else None))


async def _compact(job: JobRun, cohort: Cohort, work: Compaction) -> None:
    """Merge runs of state beside the batches; the next task takes the result in."""
    cohort.merged = (work, await job.bench.threads.upkeep(work.run))
    cohort.merging = False


def _count(job: JobRun, action: act.RunTask, result: Result) -> None:
    metrics, name, stage, output = job.bench.metrics, job.spec.job, action.key.stage, result.output
    metrics.task_seconds.of(name, stage).observe(result.seconds)
    metrics.records_in.of(name, stage).inc(output.records_in)
    metrics.rows_out.of(name, stage).inc(output.rows_out)
    if result.shares:
        metrics.shuffle_bytes.of(name, stage).inc(sum(len(share) for _, share in result.shares))
    if output.late_records:
        metrics.late_records.of(name).inc(output.late_records)
    if output.dead_letters:
        metrics.dead_letters.of(name).inc(len(output.dead_letters))
    if not job.spec.stage(stage).writes_output and not action.replayed:
        job.observe_latency(stage, action.sealed_at_ms)


def _shares(job: JobRun, action: act.RunTask) -> list[ShareKey]:
    """Who will be told of a task's blocks, as the machine will say it when the task has ended."""
    known = job.bench.role.jobs.get(action.key.job)
    if known is None:
        return []
    me = job.bench.role.settings.worker
    return [
        ShareKey(below.stage, action.partitions, wanted)
        for below in job.stages[action.key.stage].below
        for owner, wanted in known.placement.by_owner(below.stage).items()
        if owner != me
    ]


def _crashed(job: JobRun, key: TaskKey, error: TaskError) -> None:
    job.bench.counters.tasks_failed += 1
    job.bench.tell("TaskCrashed", f"stage {key.stage}, batch {key.batch}: {error.message}", key.job)
    log.error(
        "task failed",
        extra={"job": key.job, "stage": key.stage, "batch": key.batch, "error": error.message},
    )
    job.post(ev.TaskCrashed(key, error))

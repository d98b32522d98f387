"""What leaves a worker for good: rows to the sink, state to the snapshot store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.engine.failures import USERS_ERRORS
from drizzle_streams.engine.state import StageState
from drizzle_streams.errors import BackPressureError, StoreError
from drizzle_streams.model.ids import BatchId, Generation
from drizzle_streams.worker.cohorts import Cohort, Output
from drizzle_streams.worker.jobs import JobRun
from drizzle_streams.worker.outputs import StageSink
from drizzle_streams.worker.patience import patiently
from drizzle_streams.worker.programs import failure

log = logging.getLogger("drizzle.worker")

ROWS_FIRST_S_MAX = 0.1
"""Storing begins when the rows before it are written, since somebody waits for those; or after so long."""


def write_output(job: JobRun, action: act.WriteOutput) -> None:
    """Write the rows of computed batches; ends in OutputWritten or OutputFailed.

    The machine asks for one write of a cohort at a time, so they need no chain; computing goes on.
    """
    cohort = job.cohorts.get(action.cohort)
    outputs = [] if cohort is None else cohort.take_outputs(action.first, action.last)
    sink = job.sinks.get(action.stage)
    if cohort is not None and sink is not None and any(output.rows for _, output in outputs):
        writing = _write(job, action, sink, outputs)
        cohort.writing = job.bench.tasks.start(writing, f"output of {job.spec.run}")
    else:
        _written(job, action, outputs)


def take_snapshot(job: JobRun, action: act.TakeSnapshot) -> None:
    """Store the state at a batch; ends in SnapshotTaken or SnapshotFailed."""
    cohort = job.cohorts.get(action.cohort)
    if cohort is None:
        _snapshot_failed(job, action, "the cohort is closed")
        return
    generation = job.bench.generation(action.job)
    cohort.chain.add(lambda: _capture(job, cohort, action, generation))


async def _write(
    job: JobRun, action: act.WriteOutput, sink: StageSink, outputs: Sequence[tuple[BatchId, Output]]
) -> None:
    started = job.bench.clock.now()
    try:
        rows = [(batch, output.rows) for batch, output in outputs]
        await patiently(job, f"output of stage {action.stage}", lambda: sink.write(rows))
    except USERS_ERRORS as error:  # a sink may be the user's own and raise anything
        log.exception("sink failed", extra={"job": action.job, "batch": action.last})
        job.bench.tell("OutputFailed", f"stage {action.stage}, batch {action.last}: {error}", action.job)
        reason = failure(error, action.stage, action.last, ())
        job.post(ev.OutputFailed(action.job, action.stage, action.cohort, reason))
        return
    if not job.forgotten:
        seconds = (job.bench.clock.now() - started) / len(outputs)
        job.bench.metrics.sink_seconds.of(action.job).observe(seconds)
        _written(job, action, outputs)


def _written(job: JobRun, action: act.WriteOutput, outputs: Sequence[tuple[BatchId, Output]]) -> None:
    for _, output in outputs:
        job.observe_latency(action.stage, output.sealed_at_ms)
    job.post(ev.OutputWritten(action.job, action.stage, action.cohort, action.last))


async def _capture(job: JobRun, cohort: Cohort, action: act.TakeSnapshot, generation: Generation) -> None:
    """In the cohort's order: take hold of the state. Storing it is another chain's."""
    state = cohort.state
    if state is None or state.version != action.batch:
        found = "no state" if state is None else f"the state at batch {state.version}"
        _snapshot_failed(job, action, f"wanted the state at batch {action.batch}, found {found}")
        return
    try:
        cohort.line.admit()
    except BackPressureError as error:
        _snapshot_failed(job, action, str(error))
        return
    cohort.snapshots.add(lambda: _store(job, cohort, state, action, generation))


async def _store(
    job: JobRun, cohort: Cohort, state: StageState, action: act.TakeSnapshot, generation: Generation
) -> None:
    if cohort.writing is not None:
        await asyncio.wait({cohort.writing}, timeout=ROWS_FIRST_S_MAX)
    started = job.bench.clock.now()
    try:
        ref, written = await cohort.line.take(state, generation)
    except StoreError as error:
        _snapshot_failed(job, action, str(error))
        return
    if job.forgotten:
        return
    seconds = max(0.0, job.bench.clock.now() - started)
    job.bench.metrics.snapshot_seconds.of(action.job).observe(seconds)
    job.bench.metrics.snapshot_bytes.of(action.job).inc(written)
    cohort.chain.add(lambda: _forget_changes(cohort))
    job.post(ev.SnapshotTaken(action.job, action.stage, action.cohort, ref, seconds))


async def _forget_changes(cohort: Cohort) -> None:
    """In the cohort's order: let go of what only a snapshot on top of an older one would need."""
    batch = cohort.line.unasked
    if cohort.state is not None and batch is not None:
        cohort.state = cohort.state.forget_changes(batch)


def _snapshot_failed(job: JobRun, action: act.TakeSnapshot, reason: str) -> None:
    job.bench.counters.snapshots_failed += 1
    log.warning(
        "snapshot failed",
        extra={"job": action.job, "stage": action.stage, "batch": action.batch, "reason": reason},
    )
    job.post(ev.SnapshotFailed(action.job, action.stage, action.cohort, action.batch, reason))

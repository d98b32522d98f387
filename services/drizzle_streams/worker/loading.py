"""Getting a job's program: from the coordinator, through its outages, to something that runs."""

from __future__ import annotations

import asyncio
import logging

from drizzle_streams.connectors.base import Sink
from drizzle_streams.engine.failures import USERS_ERRORS
from drizzle_streams.errors import BackPressureError, DrizzleError, ProtocolError, UnreachableError
from drizzle_streams.model.ids import COORDINATOR, NO_BATCH, StageId
from drizzle_streams.model.task import TaskError
from drizzle_streams.protocol.jobfile import JOB_BYTES_MAX
from drizzle_streams.protocol.tokens import SEAL_BYTES
from drizzle_streams.worker.jobs import JobRun
from drizzle_streams.worker.outputs import StageSink
from drizzle_streams.worker.programs import LoadedStage, failure, load_stages, program_path

log = logging.getLogger("drizzle.worker")

FETCH_S = 10.0
OUTAGE_S_MAX = 60.0
"""How long a coordinator may be away while its program is wanted; then the job fails here."""
BACKOFF_S_FIRST = 0.1
BACKOFF_S_MAX = 2.0

Loaded = tuple[tuple[LoadedStage, ...], dict[StageId, Sink]]


async def load_program(job: JobRun) -> None:
    """Fetch and load the program; ends in ProgramLoaded or ProgramFailed."""
    try:
        data = await _fetched(job)
    except DrizzleError as error:
        job.load_failed(failure(error, StageId(0), NO_BATCH, ()))
        return
    if data is None:
        return
    found = await job.bench.threads.background(_load, job, data)
    if isinstance(found, TaskError):
        log.error("program does not load", extra={"job": job.spec.job, "error": found.message})
        job.load_failed(found)
        return
    stages, sinks = found
    live = {stage: StageSink(sink, job.spec, job.spec.stage(stage)) for stage, sink in sinks.items()}
    job.loaded(stages, live)


async def _fetched(job: JobRun) -> bytes | None:
    """The program's bytes; None when the job was forgotten meanwhile."""
    bench, path = job.bench, program_path(job.spec.job)
    deadline = bench.clock.now() + OUTAGE_S_MAX
    pause_s = BACKOFF_S_FIRST
    while not job.forgotten:
        try:
            leader = bench.addresses[COORDINATOR]
            bytes_max = JOB_BYTES_MAX + SEAL_BYTES
            return await bench.transport.fetch(leader, path, {}, FETCH_S, bytes_max)
        except (UnreachableError, BackPressureError) as error:
            if bench.clock.now() >= deadline:
                raise
            log.warning("program is asked for again", extra={"job": job.spec.job, "error": str(error)})
        await _pause(job, pause_s)
        pause_s = min(pause_s * 2, BACKOFF_S_MAX)
    return None


async def _pause(job: JobRun, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await job.ended.wait()
    except TimeoutError:
        return


def _load(job: JobRun, data: bytes) -> Loaded | TaskError:
    """In a thread: check the seal, and only then unpickle, build the executors, create the sinks."""
    try:
        file = job.bench.ring.unseal(job.spec.job, data)
    except ProtocolError as error:
        return failure(error, StageId(0), NO_BATCH, ())
    stages = load_stages(job.spec, file)
    if isinstance(stages, TaskError):
        return stages
    try:
        return stages, {
            stage.stage.stage: stage.sink.create(stage.sink_settings(job.bench.redis_url))
            for stage in stages
            if stage.sink is not None and stage.stage.writes_output
        }
    except USERS_ERRORS as error:  # a sink may be the user's own and raise anything
        return failure(error, StageId(0), NO_BATCH, ())

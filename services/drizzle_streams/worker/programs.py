"""Programs: the user's part of a job, fetched from the coordinator and made ready to run.

A program that cannot be had (`loading.OUTAGE_S_MAX`) or does not load is a failure of the job,
with the reason for its user, never one of the worker (law 10).
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast
from urllib.parse import quote

from drizzle_streams.connectors.base import SinkSettings, SinkSpec
from drizzle_streams.engine.columns import KEY_GROUP, PARTITION, WINDOW_START
from drizzle_streams.engine.execute import StageExecutor
from drizzle_streams.engine.failures import USERS_ERRORS
from drizzle_streams.engine.program import Program, StageProgram
from drizzle_streams.engine.shipping import load_program
from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.model.ids import NO_BATCH, BatchId, JobId, PartitionId, StageId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.task import TaskError
from drizzle_streams.protocol.jobfile import JOB_BYTES_MAX, unpack_job

__all__ = ["JOB_BYTES_MAX", "LoadedStage", "failure", "load_stages", "program_path"]

TRACEBACK_CHARACTERS_MAX = 16_384
"""How much of a traceback travels: its end, where the user's code is."""
MESSAGE_CHARACTERS_MAX = 2_000


@dataclass(frozen=True)
class LoadedStage:
    """One stage, ready to run; constant, so that any thread may use it."""

    spec: JobSpec
    stage: StageSpec
    program: StageProgram
    executor: StageExecutor = field(repr=False)

    @cached_property
    def below(self) -> tuple[StageSpec, ...]:
        """The stages that await this one's blocks."""
        return self.spec.downstream(self.stage.stage)

    def laid_out(self, spec: JobSpec) -> LoadedStage:
        """The same stage of the job as a new generation has it, maybe with other partitions."""
        stage = spec.stage(self.stage.stage)
        executor = self.executor
        if self.program.merge is not None and stage.partitions != self.stage.partitions:
            executor = executor.resized(stage.partitions)
        return LoadedStage(spec, stage, self.program, executor)

    @property
    def sink(self) -> SinkSpec | None:
        """What the user wrote in `.to(...)`; only on a stage that writes."""
        return cast("SinkSpec | None", self.program.sink)

    @property
    def token_column(self) -> str:
        """The column of output rows that says which partition's token a row belongs to."""
        return PARTITION if self.program.read is not None else KEY_GROUP

    def sink_settings(self, redis_url: str) -> SinkSettings:
        """What the live sink is told: the columns that tell the job's rows apart, if it groups."""
        merge = self.program.merge
        if merge is None:
            return SinkSettings((), redis_url)
        identity = (*merge.keys, WINDOW_START) if merge.window is not None else merge.keys
        whole = all(name in self.executor.schema for name in identity)
        return SinkSettings(merge.keys if whole else (), redis_url)


def program_path(job: JobId) -> str:
    """Where the coordinator keeps a job's bytes."""
    return f"/jobs/{quote(job, safe='')}/program"


def load_stages(spec: JobSpec, data: bytes) -> tuple[LoadedStage, ...] | TaskError:
    """The stages of a job from the bytes that were submitted, or why they do not load.

    Runs code of the user: for a background thread, and for bytes that came with the cluster's token.
    """
    try:
        file = unpack_job(data)
        if file.spec.job != spec.job or len(file.spec.stages) != len(spec.stages):
            raise ProtocolError(_another_job(spec, file.spec))
        program = load_program(file.program)
        return tuple(_load(spec, stage, program) for stage in spec.stages)
    except USERS_ERRORS as error:
        return failure(error, StageId(0), NO_BATCH, ())


def failure(
    error: BaseException, stage: StageId, batch: BatchId, partitions: tuple[PartitionId, ...]
) -> TaskError:
    """What was raised, as the value that ends a job; with its traceback, bounded."""
    lines = "".join(traceback.format_exception(error))
    return TaskError(
        kind=type(error).__name__,
        message=str(error)[:MESSAGE_CHARACTERS_MAX],
        traceback=lines[-TRACEBACK_CHARACTERS_MAX:],
        stage=stage,
        batch=batch,
        partitions=partitions,
    )


def _load(spec: JobSpec, stage: StageSpec, program: Program) -> LoadedStage:
    executor = StageExecutor(program, stage.stage, stage.partitions)
    return LoadedStage(spec, stage, program.stage(stage.stage), executor)


def _another_job(wanted: JobSpec, found: JobSpec) -> str:
    return explain(
        f"the program of job {wanted.job!r}",
        wanted=f"{len(wanted.stages)} stages of that job",
        found=f"{len(found.stages)} stages of {found.job!r}",
        remedy="It was submitted anew meanwhile; the next assignment brings the right one.",
    )

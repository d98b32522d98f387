"""Jobs as benchmarks post them: compiled as usual, then changed in one point that is being compared."""

from __future__ import annotations

from dataclasses import replace

from drizzle_streams.api.job import Job
from drizzle_streams.engine.program import Program, StageProgram
from drizzle_streams.engine.shipping import ship_program
from drizzle_streams.model.job import JobSpec
from drizzle_streams.protocol.jobfile import JobFile, pack_job


def pipelined(job: Job) -> bytes:
    """Each group is launched while the one before it runs; nothing else changes by itself."""
    made = job.compile()
    return _packed(_steady(made.spec), made.program)


def not_pipelined(job: Job) -> bytes:
    """Each group is launched when the one before it is done."""
    made = job.compile()
    return _packed(replace(_steady(made.spec), pipelined=False), made.program)


def combined(job: Job) -> bytes:
    """Rows are aggregated before the shuffle, whatever is measured."""
    return pipelined(job)


def not_combined(job: Job) -> bytes:
    """Every row goes through the shuffle; the stage behind it aggregates."""
    made = job.compile()
    stages = tuple(_not_combined(stage) for stage in made.program.stages)
    return _packed(_steady(made.spec), replace(made.program, stages=stages))


def _not_combined(stage: StageProgram) -> StageProgram:
    if stage.shuffle is None:
        return stage
    return replace(stage, shuffle=replace(stage.shuffle, partial=False))


def _steady(spec: JobSpec) -> JobSpec:
    """Neither plans nor the places of tasks change in the middle of what is measured.

    Checkpoints are a batch further apart: after a second, which is whole groups, it is always the first
    batch of one that is computed beside storing, and what that costs would be taken for the boundary's.
    """
    apart_ms = spec.checkpoint_interval_ms + spec.batch_interval_ms
    return replace(spec, replanning=False, speculation=False, checkpoint_interval_ms=apart_ms)


def _packed(spec: JobSpec, program: Program) -> bytes:
    return pack_job(JobFile(spec, ship_program(program)))

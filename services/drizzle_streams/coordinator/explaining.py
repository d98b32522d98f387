"""How a job's stages run, what was seen of them, and why each choice was made, as plain JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drizzle_streams.coordinator.status import chosen_interval
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.model.job import StageSpec


def explained(job: CoordinatorJob) -> dict[str, Any]:
    """The plan of the newest group, stage by stage; `seen` is null until something was."""
    replanning = job.replanning
    return {
        "job": job.spec.job,
        "phase": job.phase.value,
        "replanning": job.spec.replanning,
        "replans": replanning.replans,
        "resized": job.resizing.resized,
        "since_batch": replanning.chosen[-1].first if replanning.chosen else 0,
        "batch_interval_ms": job.interval_ms,
        "interval": chosen_interval(job),
        "stages": [_stage(job, stage) for stage in job.spec.stages],
    }


def _stage(job: CoordinatorJob, stage: StageSpec) -> dict[str, Any]:
    seen = job.replanning.seen.get(stage.stage)
    choice = job.replanning.choice(stage.stage)
    return {
        "stage": stage.stage,
        "reads": stage.stream,
        "inputs": list(stage.inputs),
        "partitions": stage.partitions,
        "stateful": stage.stateful,
        "writes_output": stage.writes_output,
        "choice": asdict(choice),
        "reasons": [asdict(reason) for reason in job.replanning.reasons(choice)],
        "seen": None if seen is None else asdict(seen),
    }

"""How a job's group size is chosen: who chooses, towards what, within which promises.

Part of a job's specification. The formula behind it and how to read its metrics:
docs/design/group-size.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

GROUP_SIZE_MAX = 10_000
"""Batches per group that any job may ask for."""
TUNED_SIZE_MAX = 1_000
"""Batches per group that a tuner goes to unless the job says otherwise."""
INTERVAL_AUTO_MS_MIN = 10.0
"""No chosen batch interval is shorter: fixed costs of batches would be most of what is done."""
INTERVAL_AUTO_MS_MAX = 500.0
"""None is longer: a batch holds no more than half a second of work (`core.capacity`)."""


class TuningMode(StrEnum):
    """Who chooses: the job itself, the paper's controller (section 3.4), or the model of its costs."""

    FIXED = "fixed"
    AIMD = "aimd"
    MODEL = "model"


class Objective(StrEnum):
    """What the model makes least: capacity lost, or the mean time by which records are late."""

    UTILISATION = "utilisation"
    LATENCY = "latency"


@dataclass(frozen=True, slots=True)
class Tuning:
    """Mode, objective and promises of one job. Units are in the names.

    `overhead_lower`, `overhead_upper`: coordination over total time, 0..1. `recovery_objective_ms`: a
    failure is to be over within it. `adaptation_objective_ms`: a wish to adapt waits no longer
    for its boundary. `tail_quantile`: the share of records that no boundary may touch; None
    asks 0.99 under the latency objective and nothing under the other. `wait_cost`: what a second of
    waiting to adapt costs, 0..1; None measures the load beyond `utilisation_target` when it
    is asked for. `memory_bytes`: for blocks of one group; 0 sets no bound.
    """

    mode: TuningMode = TuningMode.FIXED
    objective: Objective = Objective.UTILISATION
    group_size_min: int = 1
    group_size_max: int = TUNED_SIZE_MAX
    overhead_lower: float = 0.05
    overhead_upper: float = 0.10
    recovery_objective_ms: float = 10_000.0
    adaptation_objective_ms: float = 5_000.0
    tail_quantile: float | None = None
    wait_cost: float | None = None
    utilisation_target: float = 0.7
    memory_bytes: int = 0


AS_STATED = Tuning()
"""No tuning: every group has the size that the job states."""

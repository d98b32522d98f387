"""What a tuner is told and what it answers: measurements, circumstances, a decision; values only.

Where a coordinator takes each of them from stands beside it. Times are seconds unless a name
says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from drizzle_streams.core.tuning.band import Alarm, Constraint
from drizzle_streams.model.ids import GroupId
from drizzle_streams.model.tuning import TuningMode

DETECTION_S = 2.0
"""How long a loss goes unnoticed, unless recoveries show something else: a worker's lease."""


@dataclass(frozen=True, slots=True)
class GroupMeasured:
    """What a group of `batches` cost, in seconds; told once all of its batches are done.

    `plan_s`: the machine's turn that launched it. `carry_out_s`: the rest of that turn: ledger
    written, messages encoded and sent (both from the coordinator's stopwatch). `barrier_s`: how much
    later its first batch was done than its others were (sealed to done, from the workers' reports):
    what tasks felt of the boundary; signed, for noise has both signs; None if it cannot be told.
    """

    group: GroupId
    batches: int
    plan_s: float
    carry_out_s: float
    barrier_s: float | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """A recovery that ended. `catch_up_s` for `since_boundary_s` of lost work; `rewire_s` for `tasks`.

    Zero `since_boundary_s` or `tasks`: nothing can be learned of that.
    """

    detection_s: float
    restart_s: float
    catch_up_s: float
    since_boundary_s: float
    rewire_s: float = 0.0
    tasks: int = 0


@dataclass(frozen=True, slots=True)
class Environment:
    """What is known without measuring when a group is due.

    `workers` that are alive; `tasks_per_batch` over all stages. `pipelined`: groups are launched
    while the one before runs, by `look_ahead_s` seconds or `look_ahead_groups` groups; otherwise plan
    and launch stall every boundary. `cut_round_trip_s`: a round trip to the workers where groups
    can be cut, else None; `stops_wait`: a job that is stopped waits for the end of its group all the
    same, so that its length is still promised. `replays_group`: failures replay from the last
    group boundary, as in the paper, and not from checkpoints of their own. `detection_s`: how long
    a loss goes unnoticed. `batch_bytes`: kept per batch until its group ends. `retention_s`: how
    long sources keep input.
    """

    batch_interval_ms: float
    workers: int
    tasks_per_batch: int
    pipelined: bool = True
    look_ahead_s: float = 0.0
    look_ahead_groups: float = 0.0
    cut_round_trip_s: float | None = None
    stops_wait: bool = False
    replays_group: bool = True
    detection_s: float = DETECTION_S
    batch_bytes: float = 0.0
    retention_s: float = math.inf

    @property
    def interval_s(self) -> float:
        """The batch interval in seconds."""
        return self.batch_interval_ms / 1000.0


@dataclass(frozen=True, slots=True)
class Decision:
    """The size of the next group and why: everything that a person needs to check it.

    `optimum`: batches with the least loss, before any bound; `target` after them; `group_size` after
    hysteresis and step. `lower`, `upper`: the band in batches, either may be infinite, with what
    binds them. `binding`: what decided the target. `mode`: who chose, which is `aimd` for a model
    that knows too little. `inputs`: what it reckoned with, each named with its unit at the end.
    """

    group_size: int
    target: float
    optimum: float
    lower: float
    upper: float
    binds_lower: Constraint
    binds_upper: Constraint
    binding: Constraint
    mode: TuningMode
    alarm: Alarm | None
    inputs: Mapping[str, float]

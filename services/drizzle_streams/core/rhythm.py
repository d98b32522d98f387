"""How often checkpoints are taken: as the job says, or by Young and Daly's formula from what was measured.

A checkpoint costs C seconds of the cluster; none taken costs replay after a failure. The interval with
the least of both is sqrt(2·C / (λf·κ)) (`tuning.model.checkpoint_interval_s`). Around it:

- It is at least `COST_MULTIPLE` times C, so that the store has rest, and `AUTO_S_MIN`.
- It is at most what replays within the job's promise for recoveries, from the older of the two
  checkpoints that are kept, and at most `AUTO_S_MAX`, since logs and workers keep what lies behind.
- It is a power of two of batches: whoever still follows the former rhythm stores at batches that the
  new one has, or has twice as many. And the optimum is flat: a factor of 1.4 costs 6 % of the loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from drizzle_streams.core.interval import Interval
from drizzle_streams.core.tuning.estimates import FailureRate, Smoothed
from drizzle_streams.core.tuning.model import catch_up_in_parallel, checkpoint_interval_s
from drizzle_streams.model.ids import BatchId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.snapshot import SnapshotRef

AUTO_S_MIN = 0.25
"""No checkpoint more often than that, however cheap."""

AUTO_S_MAX = 10.0
"""None more seldom: two intervals of input and blocks are kept in logs and memory."""

COST_MULTIPLE = 10.0
"""An interval is so many times what a checkpoint takes: a tenth of the time at most."""

STAY = 0.3
"""Doublings by which the wanted interval must pass the middle between two rhythms to change it."""

UTILISATION_UNKNOWN = 0.5
"""How busy workers are taken to be before the first heartbeat says so."""


class Because(StrEnum):
    """What set the interval."""

    STATED = "stated"
    UNMEASURED = "unmeasured"
    OPTIMUM = "optimum"
    COST = "cost"
    MINIMUM = "minimum"
    RECOVERY = "recovery"
    MAXIMUM = "maximum"


@dataclass(slots=True)
class Rhythm:
    """Of one job. `every` is in batches of `interval`; what it is reckoned from is as of the last look."""

    spec: JobSpec
    interval: Interval
    every: int = field(init=False)
    because: Because = field(init=False)
    optimum_s: float | None = None
    failures_per_s: float = 0.0
    catch_up: float = 0.0
    _cost_s: Smoothed = field(default_factory=Smoothed)
    _failures: FailureRate = field(default_factory=FailureRate)
    _longest_s: dict[BatchId, float] = field(default_factory=dict[BatchId, float])

    def __post_init__(self) -> None:
        stated = max(1, round(self.spec.checkpoint_interval_ms / self.interval.ms))
        self.every = _power_near(stated) if self._moves else stated
        self.because = Because.UNMEASURED if self.spec.checkpoint_auto else Because.STATED

    @property
    def cost_s(self) -> float | None:
        """What a checkpoint takes: the slowest of its snapshots, encoded and stored. None: not known."""
        return self._cost_s.value

    def stored(self, ref: SnapshotRef, seconds: float) -> None:
        """A snapshot was stored, which took so long."""
        self._longest_s[ref.batch] = max(self._longest_s.get(ref.batch, 0.0), seconds)

    def committed(self, batch: BatchId) -> None:
        """A checkpoint is whole: its cost is known."""
        if batch in self._longest_s:
            self._cost_s.observe(self._longest_s[batch])
        self._longest_s = {b: seconds for b, seconds in self._longest_s.items() if b > batch}

    def failed(self) -> None:
        """A worker of the job was lost."""
        self._failures.failed()

    def decide(self, now: float, workers: int, utilisation: float | None) -> None:
        """Look again, when a group is launched. `utilisation` of the busiest worker, 0..1."""
        self._failures.pass_to(now, workers)
        busy = UTILISATION_UNKNOWN if utilisation is None else min(0.99, utilisation)
        self.catch_up = catch_up_in_parallel(busy, workers)
        self.failures_per_s = self._failures.per_worker_second * workers
        wanted_s = self.spec.checkpoint_interval_ms / 1000.0
        if self.cost_s is not None:
            self.optimum_s = checkpoint_interval_s(self.cost_s, self.failures_per_s, self.catch_up)
            if self.spec.checkpoint_auto:
                wanted_s, self.because = self._bounded(self.optimum_s, self.cost_s)
        if self._moves:
            wanted = max(1.0, wanted_s * 1000.0 / self.interval.ms)
            if abs(math.log2(wanted / self.every)) > 0.5 + STAY:
                self.every = _power_near(wanted)

    @property
    def _moves(self) -> bool:
        """Whether the number of batches may change: where an interval is not the job's to state."""
        return self.spec.checkpoint_auto or self.spec.interval_auto

    def _bounded(self, optimum_s: float, cost_s: float) -> tuple[float, Because]:
        """The optimum within its bounds; a promise on recoveries outweighs what checkpoints cost."""
        recovery_s = self.spec.tuning.recovery_objective_ms / 1000.0
        replayed_s = recovery_s / (2.0 * self.catch_up) if self.catch_up > 0.0 else math.inf
        found = (optimum_s, Because.OPTIMUM)
        found = max(found, (AUTO_S_MIN, Because.MINIMUM), (COST_MULTIPLE * cost_s, Because.COST))
        return min(found, (replayed_s, Because.RECOVERY), (AUTO_S_MAX, Because.MAXIMUM))


def _power_near(batches: float) -> int:
    return 1 << max(0, round(math.log2(batches)))

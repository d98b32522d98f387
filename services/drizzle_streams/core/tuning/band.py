"""Between which sizes a group is feasible, what binds, and what happens when nothing is feasible.

Every bound is a promise with a name. Those from below say how short groups may be before
coordination costs more than was allowed; those from above how long before something that
waits for a boundary, or is kept until one, breaks its own promise. When they contradict each
other nothing is chosen silently: the pair is named, and promises are kept in the order of
`PRECEDENCE`, each as far as those before it leave room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

BACKGROUND_SHARE_MAX = 0.5
"""Of a group's duration, the coordinator may be busy so long with preparing the next one."""

ROUNDING = 1e-9
"""Batches: a bound of 600 that a float division makes 599.9999999999 is one of 600."""


class Constraint(StrEnum):
    """What can decide a group size."""

    FIXED = "fixed"
    OPTIMUM = "optimum"
    AIMD = "aimd"
    UNMEASURED = "unmeasured"
    MINIMUM = "minimum"
    STABILITY = "stability"
    COORDINATOR = "coordinator"
    OVERHEAD = "overhead"
    TAIL = "tail"
    MAXIMUM = "maximum"
    MEMORY = "memory"
    RETENTION = "retention"
    RECOVERY = "recovery"
    ADAPTATION = "adaptation"


PRECEDENCE = (
    Constraint.MAXIMUM,
    Constraint.MEMORY,
    Constraint.RETENTION,
    Constraint.STABILITY,
    Constraint.COORDINATOR,
    Constraint.RECOVERY,
    Constraint.ADAPTATION,
    Constraint.OVERHEAD,
    Constraint.TAIL,
    Constraint.MINIMUM,
)
"""Whose promise is kept first: what would lose the cluster, what would never catch up, what a
user would wait for, what only costs."""


@dataclass(frozen=True, slots=True)
class Promises:
    """All that a band follows from. Times are seconds; `inf` or 0 (`batch_bytes`) sets no bound.

    `critical_s`: coordination on the critical path of a group; `background_s`: beside it;
    `rewire_s`: re-wiring per second of group; `ahead_s`, `ahead_groups`: what is launched already
    when an adaptation asks for its boundary; `cuts`: a group can be cut, so adaptations do not wait.
    """

    interval_s: float
    critical_s: float
    background_s: float
    utilisation: float
    overhead_max: float
    tail_quantile: float
    failure_s: float
    catch_up: float
    rewire_s: float
    recovery_s: float
    adaptation_s: float
    ahead_s: float
    ahead_groups: float
    cuts: bool
    batch_bytes: float
    memory_bytes: float
    retention_s: float
    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """No size is feasible: this lower bound lies above this upper one (the tightest of each side)."""

    lower: Constraint
    upper: Constraint

    def __str__(self) -> str:
        return f"{self.lower.value} asks for more batches than {self.upper.value} allows"


@dataclass(frozen=True, slots=True)
class Band:
    """Whole batches, `lower` to `upper` (perhaps infinite), and the tightest promise of each side.

    `least` to `most` is what precedence leaves to choose from, never empty, and what set them.
    """

    lower: float
    upper: float
    binds_lower: Constraint
    binds_upper: Constraint
    least: int
    most: int
    binds_least: Constraint
    binds_most: Constraint

    @property
    def alarm(self) -> Alarm | None:
        """The contradiction, if there is one."""
        return Alarm(self.binds_lower, self.binds_upper) if self.lower > self.upper else None

    def clamp(self, batches: float) -> float:
        """The size nearest to `batches` that keeps what can be kept."""
        return min(max(batches, float(self.least)), float(self.most))

    def binds(self, batches: float) -> Constraint:
        """What decides when `batches` would be best."""
        if batches < self.least:
            return self.binds_least
        return self.binds_most if batches > self.most else Constraint.OPTIMUM


def band_of(promises: Promises) -> Band:
    """All bounds, the tightest of each side, and the range that precedence leaves."""
    lowers, uppers = _lowers(promises), _uppers(promises)
    binds_lower = max(lowers, key=lambda name: lowers[name])
    binds_upper = min(uppers, key=lambda name: uppers[name])
    least, most = 1.0, float(promises.maximum)
    binds_least, binds_most = Constraint.MINIMUM, Constraint.MAXIMUM
    for name in PRECEDENCE:
        if name in uppers and uppers[name] < most:
            most, binds_most = max(least, uppers[name]), name
        # What no group size can keep shall not make groups endless: an infinite bound is only reported.
        if name in lowers and least < lowers[name] < math.inf:
            least, binds_least = min(most, lowers[name]), name
    return Band(
        lowers[binds_lower],
        uppers[binds_upper],
        binds_lower,
        binds_upper,
        int(least),
        int(most),
        binds_least,
        binds_most,
    )


def _lowers(of: Promises) -> dict[Constraint, float]:
    critical = of.critical_s / of.interval_s
    total = (of.critical_s + of.background_s) / of.interval_s
    idle = 1.0 - of.utilisation
    touched = idle * (1.0 - of.tail_quantile)
    return {
        Constraint.MINIMUM: float(of.minimum),
        Constraint.STABILITY: _up(critical, idle),
        Constraint.COORDINATOR: _up(of.background_s / of.interval_s, BACKGROUND_SHARE_MAX),
        Constraint.OVERHEAD: _up(total * (1.0 - of.overhead_max), of.overhead_max),
        Constraint.TAIL: _up(critical, touched) if of.tail_quantile > 0.0 else 1.0,
    }


def _uppers(of: Promises) -> dict[Constraint, float]:
    waiting_s = max(0.0, of.adaptation_s - of.ahead_s)
    return {
        Constraint.MAXIMUM: float(of.maximum),
        Constraint.RECOVERY: _down(
            max(0.0, of.recovery_s - of.failure_s), (of.catch_up + of.rewire_s) * of.interval_s
        ),
        Constraint.ADAPTATION: math.inf
        if of.cuts
        else _down(waiting_s, (1.0 + of.ahead_groups) * of.interval_s),
        Constraint.MEMORY: _down(of.memory_bytes, of.batch_bytes),
        Constraint.RETENTION: _down(of.retention_s, of.interval_s),
    }


def _up(cost: float, per_batch: float) -> float:
    """Whole batches that carry the cost, at least one; infinite when no number does."""
    if cost <= 0.0:
        return 1.0
    batches = cost / per_batch if per_batch > 0.0 else math.inf
    return max(1.0, float(math.ceil(batches - ROUNDING))) if math.isfinite(batches) else math.inf


def _down(budget: float, per_batch: float) -> float:
    """Whole batches that the budget carries, perhaps none; infinite when they cost nothing."""
    batches = budget / per_batch if per_batch > 0.0 else math.inf
    return float(math.floor(batches + ROUNDING)) if math.isfinite(batches) else math.inf

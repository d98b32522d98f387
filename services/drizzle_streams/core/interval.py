"""The batch interval as a fixed point: batches as short as workers can stand (Das et al., SoCC 2014).

A batch that collects records for x seconds takes w(x) seconds to process. The job is stable where
w(x) < x, and its latency is least at the smallest such x. With some room, `RHO`, that is the solution
of w(x) = RHO·x, and the iteration x' = w(x) / RHO finds it without a model of w: whatever a batch
costs, a fixed part and one that grows with its records, each step takes off what is too much. How
it is done here:

- w is useful time, not latency: slot time of the busiest worker per batch. A batch that waits for
  another, or for the network, does not cost capacity.
- Where batches come more seldom than is planned, something else than slots is at its end; then w
  is the time from one batch to the next, and shorter intervals are tried again only little by little.
- The interval is re-evaluated when a group is launched, once a *window* of at least `WINDOW_S` lies
  in it. A new generation or a recovery begins a new window: what it costs is not the load's.
- It moves only where the fixed point is clearly elsewhere (`HYSTERESIS`), by at most `STEP_FACTOR`,
  and stays within `INTERVAL_AUTO_MS_MIN` and `INTERVAL_AUTO_MS_MAX`.

The paper's case of work that grows faster than its batch is left out: here a batch has a fixed cost and
one per record, and what it holds is bounded (`core.capacity`). At the upper bound overload ends in
back-pressure, as with any interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from drizzle_streams.model.ids import NO_BATCH, BatchId, WorkerId
from drizzle_streams.model.tuning import INTERVAL_AUTO_MS_MAX, INTERVAL_AUTO_MS_MIN

RHO = 0.8
"""The share of the interval that processing a batch shall take: the rest is room for what is uneven."""

HYSTERESIS = 0.1
"""|log2(next interval / interval)| up to which it stays: where a batch takes 0.75 to 0.86 of it."""

STEP_FACTOR = 2.0
"""An interval becomes at most so many times longer at once, or shorter."""

WINDOW_S = 1.5
"""What is measured before the interval is looked at: some heartbeats of each worker."""

BATCHES_MIN = 3
"""Done in a window before it says what a batch costs."""

BEHIND = 1.25
"""Batches that take so many times the interval come more seldom than is planned."""

REGAINED = 0.8
"""How much shorter than where batches came late the interval may become, from one look to the next."""


class Because(StrEnum):
    """What set the interval."""

    STATED = "stated"
    UNMEASURED = "unmeasured"
    FIXED_POINT = "fixed point"
    BEHIND = "behind schedule"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"


@dataclass(slots=True)
class _Busy:
    """Slot time of one worker in the window, as a share of `span_s`."""

    since: float
    busy_s: float = 0.0
    span_s: float = 0.0


@dataclass(slots=True)
class Interval:
    """Of one job. `ms`: the newest group's. `processing_ms`: what a batch costs; `target_ms` follows."""

    auto: bool
    ms: float
    because: Because = Because.STATED
    processing_ms: float | None = None
    target_ms: float | None = None
    changes: int = 0
    _workers: dict[WorkerId, _Busy] = field(default_factory=dict[WorkerId, _Busy])
    _since: float | None = None
    _late_ms: float = 0.0
    _from: BatchId = NO_BATCH
    _valid_from: BatchId = NO_BATCH

    def __post_init__(self) -> None:
        if self.auto:
            self.because = Because.UNMEASURED

    def restore(self, ms: float) -> None:
        """A new coordinator goes on with the interval of the newest group; 0 if that is the job's."""
        self.ms = ms or self.ms

    def heard(self, worker: WorkerId, busy: float, now: float) -> None:
        """A heartbeat of a worker of the job: the share of slot time in tasks since the one before."""
        known = self._workers.get(worker)
        if known is None:
            self._workers[worker] = _Busy(now)
            return
        span = now - known.since
        known.since, known.span_s, known.busy_s = now, known.span_s + span, known.busy_s + busy * span

    def begin(self) -> None:
        """Something else than the load takes time, or did: what was measured does not count."""
        self._since = None
        self._workers.clear()

    def decide(self, now: float, frontier: BatchId, first: BatchId) -> float:
        """The interval (ms) of the group that is launched now and begins with `first`."""
        if not self.auto:
            return self.ms
        if self._since is None or frontier < self._valid_from:
            self._restart(now, frontier)
            return self.ms
        elapsed, batches = now - self._since, frontier - self._from
        spans = [known.span_s for known in self._workers.values()]
        if elapsed < WINDOW_S or batches < BATCHES_MIN or not spans or not min(spans):
            return self.ms
        self._look(elapsed / batches)
        self._restart(now, frontier)
        self._move(first)
        return self.ms

    def _restart(self, now: float, frontier: BatchId) -> None:
        self._since, self._from = now, frontier
        self._workers = {worker: _Busy(known.since) for worker, known in self._workers.items()}

    def _look(self, period_s: float) -> None:
        busy = max(known.busy_s / known.span_s for known in self._workers.values())
        period_ms = period_s * 1000.0
        behind = period_ms > BEHIND * self.ms
        self.processing_ms = period_ms if behind else busy * period_ms
        wanted, floor = self.processing_ms / RHO, self._late_ms * REGAINED
        self._late_ms = period_ms if behind else floor
        self.because = Because.BEHIND if behind or wanted < floor else Because.FIXED_POINT
        wanted = max(wanted, floor)
        if wanted <= INTERVAL_AUTO_MS_MIN:
            self.because = Because.MINIMUM
        elif wanted >= INTERVAL_AUTO_MS_MAX:
            self.because = Because.MAXIMUM
        self.target_ms = min(max(wanted, INTERVAL_AUTO_MS_MIN), INTERVAL_AUTO_MS_MAX)

    def _move(self, first: BatchId) -> None:
        """Towards the target: not for little, and not far at once. The next window is of the new interval."""
        assert self.target_ms is not None
        away = abs(math.log2(self.target_ms / self.ms))
        at_bound = self.target_ms in (INTERVAL_AUTO_MS_MIN, INTERVAL_AUTO_MS_MAX)
        if away <= (0.0 if at_bound else HYSTERESIS):
            return
        self.ms = min(max(self.target_ms, self.ms / STEP_FACTOR), self.ms * STEP_FACTOR)
        self._valid_from = first
        self.changes += 1

"""Estimators of what a group size depends on: small, online, with a bound on what they keep.

Measurements of a running cluster lie now and then (a collection pause, a noisy neighbour, a
laptop's lid), and failures are too rare to be counted: each estimator here stands against one
of these. None of them reads a clock: times are seconds of cluster time, given by the caller,
and a time that goes back counts as no time passed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

EWMA_WEIGHT = 0.2
"""Share of a new measurement in the average: a step is taken over to nine tenths after ten of them."""
MEDIAN_OF = 5
"""Measurements whose median enters an average: two outliers of five change nothing."""
RECENT_S = 60.0
"""How far a recent quantile looks back."""
RECENT_SAMPLES_MAX = 4_096
"""Measurements that a recent quantile keeps; beyond it the oldest go, so it looks back less far."""
WEEK_S = 7 * 24 * 3600.0
FAILURE_HALF_LIFE_S = 24 * 3600.0
"""After a day a failure, and the time in which none happened, counts half."""
FAILURE_QUANTILE_Z = 0.8416
"""The 80 % quantile of the standard normal distribution: failures are rated pessimistically."""
ADAPTATION_HALF_LIFE_S = 600.0
"""After ten minutes an adaptation counts half: a morning of scaling says little about the evening."""


@dataclass(slots=True)
class Smoothed:
    """An exponentially weighted mean over medians of the last five: spikes do not move it."""

    weight: float = EWMA_WEIGHT
    _mean: float | None = None
    _last: deque[float] = field(default_factory=lambda: deque[float](maxlen=MEDIAN_OF))

    @property
    def value(self) -> float | None:
        """The mean, in the unit of what was observed; None before anything was."""
        return self._mean

    def observe(self, measured: float) -> None:
        """One more measurement."""
        self._last.append(measured)
        middle = median(self._last)
        self._mean = middle if self._mean is None else self._mean + self.weight * (middle - self._mean)


@dataclass(slots=True)
class RecentQuantile:
    """A quantile of what was observed within the last minute (nearest rank)."""

    quantile: float = 0.9
    window_s: float = RECENT_S
    _seen: deque[tuple[float, float]] = field(
        default_factory=lambda: deque[tuple[float, float]](maxlen=RECENT_SAMPLES_MAX)
    )

    @property
    def value(self) -> float | None:
        """The quantile; None before anything was observed."""
        if not self._seen:
            return None
        ranked = sorted(measured for _, measured in self._seen)
        return ranked[max(0, math.ceil(self.quantile * len(ranked)) - 1)]

    def observe(self, now: float, measured: float) -> None:
        """One more measurement; what is older than the window goes, though never the newest."""
        self._seen.append((now, measured))
        while self._seen[0][0] < now - self.window_s:
            self._seen.popleft()


@dataclass(slots=True)
class DecayingCount:
    """Events and the time in which they were counted, both halved every half-life.

    `exposure` is in whatever grows with time: seconds, or worker-seconds.
    """

    half_life_s: float
    count: float = 0.0
    exposure: float = 0.0
    _at: float | None = None

    def pass_to(self, now: float, units: float = 1.0) -> None:
        """Time has passed, in which `units` (say, workers) were exposed."""
        if self._at is not None and now > self._at:
            passed = now - self._at
            kept = 0.5 ** (passed / self.half_life_s)
            self.count *= kept
            # The time itself decays while it passes: the integral of 2^(-t / half-life).
            self.exposure = self.exposure * kept + units * self.half_life_s / math.log(2) * (1.0 - kept)
        self._at = now if self._at is None else max(self._at, now)

    def add(self) -> None:
        """An event, now."""
        self.count += 1.0


@dataclass(slots=True)
class FailureRate:
    """Failures per worker-second: Gamma-Poisson with a prior of one failure per worker-week.

    The prior weighs half a failure in half a worker-week, so that a few real ones outweigh it.
    Without a failure the rate falls below the prior slowly, with failures it rises at once; the
    80 % quantile of what is then known is taken, since failures that were not expected cost more
    than groups that are too small.
    """

    prior_failures: float = 0.5
    prior_worker_s: float = 0.5 * WEEK_S
    _seen: DecayingCount = field(default_factory=lambda: DecayingCount(FAILURE_HALF_LIFE_S))

    def pass_to(self, now: float, workers: int) -> None:
        """Time has passed with that many workers alive."""
        self._seen.pass_to(now, float(workers))

    def failed(self) -> None:
        """A worker was lost, now."""
        self._seen.add()

    @property
    def per_worker_second(self) -> float:
        """The pessimistic rate of one worker; times the number of workers it is the job's."""
        shape = self.prior_failures + self._seen.count
        return gamma_quantile(shape, self.prior_worker_s + self._seen.exposure)


@dataclass(slots=True)
class AdaptationRate:
    """Adaptations per second (scaling, new plan, rebalance): a decaying count over decaying time.

    One half-life of silence is taken as seen before, so that the first one is no storm.
    """

    _seen: DecayingCount = field(default_factory=lambda: DecayingCount(ADAPTATION_HALF_LIFE_S))

    def pass_to(self, now: float) -> None:
        """Time has passed."""
        self._seen.pass_to(now)

    def adapted(self) -> None:
        """The cluster adapted, now."""
        self._seen.add()

    @property
    def per_second(self) -> float:
        """The mean rate."""
        return self._seen.count / (self._seen.exposure + self._seen.half_life_s)


def gamma_quantile(shape: float, rate: float, z: float = FAILURE_QUANTILE_Z) -> float:
    """A quantile of Gamma(shape, rate), `z` its place under the standard normal distribution.

    By Wilson and Hilferty (1931): the cube root of a gamma variable is close to normal. At the
    80 % quantile the error is 1.4 % for shape 1/2, 0.7 % for 1 and 0.2 % from 3 on, far below
    what a group size notices (a rate that is off by four costs a quarter of the loss).
    """
    ninth = 1.0 / (9.0 * shape)
    return shape / rate * max(0.0, 1.0 - ninth + z * math.sqrt(ninth)) ** 3

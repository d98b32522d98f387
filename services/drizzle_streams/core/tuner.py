"""The group-size tuner: measurements in, the size of the next group out, with all its reasons.

Pure and deterministic, like the machines it serves: it is told what was measured and when, and
decides once at each group boundary. Three modes (`model.tuning.TuningMode`):

- `fixed`: the size that the job states.
- `aimd`: the paper's controller (section 3.4): overhead above its upper bound multiplies the
  size, below its lower bound subtracts from it. See `core.tuning.aimd`.
- `model`: the size with the least loss by the model of `core.tuning.model`, within the band of
  `core.tuning.band`. Until there is something to reckon with it falls back to `aimd`.

A size moves only when the best one is clearly another (hysteresis), and by a factor of two at
most, so that one wrong measurement costs little. The last size survives a restart of the
coordinator in the ledger's `GroupRecord`; estimates are built up anew, from their priors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from drizzle_streams.core.tuning.aimd import Aimd
from drizzle_streams.core.tuning.band import Band, Constraint, band_of
from drizzle_streams.core.tuning.costs import GroupCosts
from drizzle_streams.core.tuning.facts import Decision, Environment, GroupMeasured, Recovered
from drizzle_streams.core.tuning.model import Costs, best_for_latency, best_for_utilisation
from drizzle_streams.model.tuning import Objective, Tuning, TuningMode

START_SIZE = 2
"""Where a tuner begins (the paper's figure begins there, too)."""
HYSTERESIS = 0.3
"""|log2(target / size)| up to which a size stays: a quarter more or less gains next to nothing."""
STEP_FACTOR = 2
"""A size grows to at most so many times itself per group, and shrinks to no less of a part."""


@dataclass(slots=True)
class Tuner:
    """Decides for one job. `size` is the size of the newest group, to begin with or from the ledger."""

    settings: Tuning
    size: int = START_SIZE
    estimates: GroupCosts = field(init=False)
    aimd: Aimd = field(init=False)

    def __post_init__(self) -> None:
        self.estimates = GroupCosts(self.settings)
        self.aimd = Aimd(self.settings.overhead_lower, self.settings.overhead_upper)
        if self.settings.mode is not TuningMode.FIXED:
            self.size = min(self.size, self.settings.group_size_max)

    # --- what happened --------------------------------------------------------------------

    def observe(self, measured: GroupMeasured, environment: Environment) -> None:
        """A group is done, and this is what it cost."""
        self.estimates.observe(measured)
        spent = measured.plan_s + measured.carry_out_s
        if not environment.pipelined:
            spent += max(0.0, measured.barrier_s or 0.0)
        total = spent + measured.batches * environment.interval_s
        self.aimd.observe(spent / total, measured.batches)

    def utilised(self, now: float, busy: float) -> None:
        """The share of its time that the busiest worker spends in tasks, 0..1."""
        self.estimates.utilised(now, busy)

    def failure(self, now: float) -> None:
        """A worker was lost."""
        self.estimates.failure(now)

    def recovered(self, ended: Recovered) -> None:
        """What was lost has caught up."""
        self.estimates.recovered(ended)

    def adaptation(self, now: float) -> None:
        """The cluster adapted: it scaled, was laid out anew, or runs another plan."""
        self.estimates.adaptation(now)

    # --- what follows ---------------------------------------------------------------------

    def decide(self, now: float, environment: Environment) -> Decision:
        """The size of the group that is launched now; to be asked once per group."""
        self.estimates.pass_to(now, environment.workers)
        costs = self.estimates.costs(environment)
        band = band_of(self.estimates.promises(environment, costs))
        optimum = self._optimum(costs) / environment.interval_s
        match self.settings.mode:
            case TuningMode.FIXED:
                mode, target, binding = TuningMode.FIXED, float(self.size), Constraint.FIXED
            case TuningMode.MODEL if self.estimates.known:
                mode, target, binding = TuningMode.MODEL, band.clamp(optimum), band.binds(optimum)
                self.size = self._stepped(target, band)
            case wanted:
                mode, target = TuningMode.AIMD, self._by_overhead()
                binding = Constraint.AIMD if wanted is mode else Constraint.UNMEASURED
                self.size = int(target)
        return Decision(
            group_size=self.size,
            target=target,
            optimum=optimum,
            lower=band.lower,
            upper=band.upper,
            binds_lower=band.binds_lower,
            binds_upper=band.binds_upper,
            binding=binding,
            mode=mode,
            alarm=None if mode is TuningMode.FIXED else band.alarm,
            inputs=self.estimates.inputs(environment, costs) | {"overhead_ratio": self.aimd.overhead or 0.0},
        )

    def _optimum(self, costs: Costs) -> float:
        """Seconds of the group with the least loss, before any bound."""
        if self.settings.objective is Objective.LATENCY:
            return best_for_latency(costs)
        return best_for_utilisation(costs)

    def _by_overhead(self) -> float:
        wanted = self.aimd.next_size(self.size)
        return float(min(max(wanted, self.settings.group_size_min), self.settings.group_size_max))

    def _stepped(self, target: float, band: Band) -> int:
        """From the present size towards the target: not for little, and not far at once.

        A size that breaks a promise moves for however little.
        """
        inside = band.least <= self.size <= band.most
        if inside and abs(math.log2(target / self.size)) <= HYSTERESIS:
            return self.size
        whole = math.floor(target + 0.5)
        return min(max(whole, -(-self.size // STEP_FACTOR)), self.size * STEP_FACTOR)

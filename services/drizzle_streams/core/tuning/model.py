"""What a group size costs, as a formula: the loss per second and where it is least.

A group of x seconds pays its coordination once (A / x falls with x) and makes everything that
waits for a boundary wait x / 2 on average (failures that replay from it, adaptations that
take effect at it: rises with x). Both objectives have one minimum, found in closed form or by
bisection. Derivation, assumptions and limits: docs/design/group-size.md.

Pure functions of plain numbers. Times are seconds, rates per second, shares 0..1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

UTILISATION_MAX = 0.98
"""Above it a formula would divide by nothing; overload is the stability bound's to report."""
CATCH_UP_MAX = 100.0
"""Seconds of catching up per second lost, at most: more means that it never ends."""
GROUP_SECONDS_MIN, GROUP_SECONDS_MAX = 1e-6, 1e9
"""Where bisection looks for the best group: far outside of what any bound allows."""
BISECTIONS = 80
"""Halvings of the (logarithmic) range: to the last bit of a float."""


@dataclass(frozen=True, slots=True)
class Costs:
    """The parameters of the model for one job (the symbols are those of docs/design/group-size.md).

    `coordination_s` (A): what a group costs on the critical path, and whatever share of its
    background cost counts as loss. `failures_per_s` (λf) of the whole job, `failure_s` (S0):
    what a failure costs whatever the group. `catch_up` (κ): seconds of catching up per second
    since the boundary; 0 where failures replay from checkpoints that do not depend on groups.
    `rewire_s` (r·m/T): seconds of re-wiring per second of group. `adaptations_per_s` (λa), `wait_cost` (δ):
    cost of a second of waiting to adapt. `cut_s` (c): what an adaptation costs
    that cuts the group instead of waiting; None without group cut. `look_ahead_groups` (L):
    groups that are launched already, which an adaptation waits for and a failure re-wires; a cut
    takes them back.
    """

    coordination_s: float
    utilisation: float = 0.0
    failures_per_s: float = 0.0
    failure_s: float = 0.0
    catch_up: float = 0.0
    rewire_s: float = 0.0
    adaptations_per_s: float = 0.0
    wait_cost: float = 0.0
    cut_s: float | None = None
    look_ahead_groups: float = 0.0

    @property
    def failing(self) -> float:
        """Seconds lost to failures, per second and per half second of group."""
        return self.failures_per_s * (self.catch_up + self.rewire_s * (1.0 + 2.0 * self.look_ahead_groups))


def utilisation_loss(costs: Costs, group_s: float) -> float:
    """Seconds lost per second with groups of `group_s` seconds: J(x), without what no group changes."""
    adapting = costs.adaptations_per_s * _adaptation_s(costs, group_s)
    return costs.coordination_s / group_s + costs.failing * group_s / 2.0 + adapting


def best_for_utilisation(costs: Costs) -> float:
    """Seconds of the group with the least J: (E1) of docs/design/group-size.md, exact with group cut too.

    Infinite when nothing speaks against long groups, 0 when coordination costs nothing.
    """
    ahead = 1.0 if costs.cut_s is not None else 1.0 + 2.0 * costs.look_ahead_groups
    waiting = costs.adaptations_per_s * costs.wait_cost * ahead
    best = _root(2.0 * costs.coordination_s, costs.failing + waiting)
    if costs.cut_s is None or waiting <= 0.0 or best * costs.wait_cost <= costs.cut_s:
        return best
    # Beyond c/δ an adaptation cuts: it costs c - c²/(2δx), so longer groups hardly cost more.
    saved = costs.adaptations_per_s * costs.cut_s**2 / costs.wait_cost
    return _root(2.0 * costs.coordination_s - saved, costs.failing)


def latency_loss(costs: Costs, group_s: float) -> float:
    """Seconds by which a record is late on average: J_L(x), stalls as areas of waiting records."""
    kappa = costs.catch_up + costs.rewire_s
    replay = kappa * group_s
    failing = costs.failures_per_s * (costs.failure_s**2 + costs.failure_s * replay + replay**2 / 3.0)
    stalls = costs.coordination_s**2 / group_s + failing
    return stalls / (2.0 * (1.0 - min(costs.utilisation, UTILISATION_MAX)))


def best_for_latency(costs: Costs) -> float:
    """Seconds of the group with the least J_L; the derivative has one zero, found by bisection."""
    kappa = costs.catch_up + costs.rewire_s

    def rises(group_s: float) -> bool:
        growth = costs.failures_per_s * (costs.failure_s * kappa + 2.0 / 3.0 * kappa**2 * group_s)
        return growth * group_s**2 >= costs.coordination_s**2

    if costs.coordination_s <= 0.0:
        return 0.0
    if costs.failures_per_s * kappa <= 0.0:
        return math.inf
    return _bisect(rises)


def catch_up_by_rollback(utilisation: float) -> float:
    """κ when everybody goes back to the boundary: u / (1 - u)."""
    used = min(utilisation, UTILISATION_MAX)
    return min(CATCH_UP_MAX, used / (1.0 - used))


def catch_up_in_parallel(utilisation: float, workers: int) -> float:
    """κ when survivors share the lost work and never stop: (u/n) / (1 - u·n/(n-1)) (D-Streams).

    With one worker, or so busy that survivors could not keep up, that of a rollback.
    """
    if workers < 2:
        return catch_up_by_rollback(utilisation)
    spare = 1.0 - utilisation * workers / (workers - 1)
    if spare <= 0.0:
        return catch_up_by_rollback(utilisation)
    return min(catch_up_by_rollback(utilisation), utilisation / workers / spare)


def pipelining_pays(critical_s: float, background_s: float, look_ahead_groups: float) -> bool:
    """Whether launching `look_ahead_groups` ahead beats a stall at each boundary: A / A_sync > 2L + 1."""
    return critical_s + background_s > (2.0 * look_ahead_groups + 1.0) * critical_s


def checkpoint_interval_s(checkpoint_s: float, failures_per_s: float, catch_up: float) -> float:
    """Young and Daly's interval between checkpoints: sqrt(2·C / (λf·κ)), in seconds.

    `checkpoint_s` (C): what one checkpoint costs in seconds of the cluster; `catch_up` (κ): seconds
    of catching up per second of work since the checkpoint, see `catch_up_in_parallel`. Infinite when
    nothing fails. The caller clamps it: to at least what a checkpoint takes, to at most what logs
    and memory hold, and to whole batches.
    """
    return _root(2.0 * checkpoint_s, failures_per_s * catch_up)


def _adaptation_s(costs: Costs, group_s: float) -> float:
    """What an adaptation costs at a uniform moment of the group, waiting or cutting, whichever is less."""
    if costs.cut_s is None:
        return costs.wait_cost * (costs.look_ahead_groups + 0.5) * group_s
    if group_s * costs.wait_cost <= costs.cut_s:
        return costs.wait_cost * group_s / 2.0
    return costs.cut_s - costs.cut_s**2 / (2.0 * costs.wait_cost * group_s)


def _root(cost: float, rate: float) -> float:
    if cost <= 0.0:
        return 0.0
    return math.sqrt(cost / rate) if rate > 0.0 else math.inf


def _bisect(rises: Callable[[float], bool]) -> float:
    """The least point, in seconds, from which `rises` holds; it holds for ever from there on."""
    low, high = GROUP_SECONDS_MIN, GROUP_SECONDS_MAX
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if rises(middle) else (middle, high)
    return high

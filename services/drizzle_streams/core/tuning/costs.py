"""What a job's groups cost, as estimated now: every parameter of the model, online.

Each parameter has its estimator (`core.tuning.estimates`) and, until that has seen something, its
formula or prior. They are put together twice: as the costs whose least sum is looked for, and
as the promises from which the band follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from drizzle_streams.core.tuning.band import Promises
from drizzle_streams.core.tuning.estimates import AdaptationRate, FailureRate, RecentQuantile, Smoothed
from drizzle_streams.core.tuning.facts import Environment, GroupMeasured, Recovered
from drizzle_streams.core.tuning.model import CATCH_UP_MAX, Costs, catch_up_in_parallel, pipelining_pays
from drizzle_streams.model.tuning import Objective, Tuning

REWIRE_S = 0.0001
"""Seconds to re-wire one pre-scheduled task, until a recovery has shown it."""
LATENCY_TAIL = 0.99
"""The share of records that no boundary may touch under the latency objective, unless the job says."""


@dataclass(slots=True)
class GroupCosts:
    """Estimates for one job, and what follows from them in an environment."""

    settings: Tuning
    _launch: Smoothed = field(default_factory=Smoothed)
    _barrier: Smoothed = field(default_factory=Smoothed)
    _busy: RecentQuantile = field(default_factory=RecentQuantile)
    _failures: FailureRate = field(default_factory=FailureRate)
    _adaptations: AdaptationRate = field(default_factory=AdaptationRate)
    _excess: Smoothed = field(default_factory=Smoothed)
    _fixed_cost: Smoothed = field(default_factory=Smoothed)
    _catch_up: Smoothed = field(default_factory=Smoothed)
    _rewire: Smoothed = field(default_factory=Smoothed)
    _workers: int = 0

    @property
    def known(self) -> bool:
        """Whether the model has what it needs: coordination and utilisation were measured."""
        return self._launch.value is not None and self._busy.value is not None

    # --- what happened --------------------------------------------------------------------

    def observe(self, measured: GroupMeasured) -> None:
        """A group is done, and this is what it cost."""
        self._launch.observe(measured.plan_s + measured.carry_out_s)
        if measured.barrier_s is not None:
            self._barrier.observe(measured.barrier_s)

    def utilised(self, now: float, busy: float) -> None:
        """The share of its time that the busiest worker spends in tasks (0..1): (p + B) / T."""
        self._busy.observe(now, min(1.0, max(0.0, busy)))

    def failure(self, now: float) -> None:
        """A worker was lost."""
        self.pass_to(now)
        self._failures.failed()

    def recovered(self, ended: Recovered) -> None:
        """What was lost has caught up."""
        self._fixed_cost.observe(ended.detection_s + ended.restart_s)
        if ended.since_boundary_s > 0.0:
            self._catch_up.observe(min(CATCH_UP_MAX, ended.catch_up_s / ended.since_boundary_s))
        if ended.tasks > 0:
            self._rewire.observe(ended.rewire_s / ended.tasks)

    def adaptation(self, now: float) -> None:
        """The cluster adapted: it scaled, was laid out anew, or runs another plan."""
        self.pass_to(now)
        self._adaptations.adapted()
        busy = self._busy.value
        if busy is not None:
            self._excess.observe(max(0.0, busy - self.settings.utilisation_target))

    def pass_to(self, now: float, workers: int | None = None) -> None:
        """Time has passed; `workers` are alive from now on."""
        self._failures.pass_to(now, self._workers)
        self._adaptations.pass_to(now)
        if workers is not None:
            self._workers = workers

    # --- what follows ---------------------------------------------------------------------

    def critical_s(self, environment: Environment) -> float:
        """A_sync: what a boundary stalls. Unknown, or not pipelined, all coordination counts."""
        launch_s = self._launch.value or 0.0
        barrier_s = self._barrier.value
        if environment.pipelined:
            return launch_s if barrier_s is None else max(0.0, barrier_s)
        return launch_s + max(0.0, barrier_s or 0.0)

    def background_s(self, environment: Environment) -> float:
        """A_bg: what is prepared while the group before runs."""
        if not environment.pipelined or self._barrier.value is None:
            return 0.0
        return self._launch.value or 0.0

    def costs(self, environment: Environment) -> Costs:
        """The parameters of the loss."""
        settings, busy = self.settings, self._busy.value or 0.0
        critical_s, background_s = self.critical_s(environment), self.background_s(environment)
        if settings.objective is Objective.UTILISATION:
            # One process of workers + 1 prepares groups: that share of the cluster is not computing.
            critical_s += background_s / (environment.workers + 1)
        wait_cost = self._excess.value or 0.0 if settings.wait_cost is None else settings.wait_cost
        fixed_s = self._fixed_cost.value
        return Costs(
            coordination_s=critical_s,
            utilisation=busy,
            failures_per_s=self._failures.per_worker_second * environment.workers,
            failure_s=environment.detection_s if fixed_s is None else fixed_s,
            catch_up=self._catch_up_of(environment, busy),
            rewire_s=self._rewire_s(environment),
            adaptations_per_s=self._adaptations.per_second,
            wait_cost=wait_cost,
            cut_s=self._cut_s(environment, wait_cost),
            look_ahead_groups=environment.look_ahead_groups,
        )

    def _catch_up_of(self, environment: Environment, busy: float) -> float:
        """κ as recoveries have shown it, else by formula; 0 where it does not depend on groups."""
        if not environment.replays_group:
            return 0.0
        shown = self._catch_up.value
        return catch_up_in_parallel(busy, environment.workers) if shown is None else shown

    def _rewire_s(self, environment: Environment) -> float:
        shown = self._rewire.value
        per_task_s = REWIRE_S if shown is None else shown
        return per_task_s * environment.tasks_per_batch / environment.interval_s

    def _cut_s(self, environment: Environment, wait_cost: float) -> float | None:
        """What a cut costs: a boundary, and the batch and round trip until it takes effect."""
        if environment.cut_round_trip_s is None:
            return None
        launch_s = self._launch.value or 0.0
        return launch_s + wait_cost * (environment.interval_s + environment.cut_round_trip_s)

    def promises(self, environment: Environment, costs: Costs) -> Promises:
        """What the band follows from."""
        settings = self.settings
        tail = settings.tail_quantile
        if tail is None:
            tail = LATENCY_TAIL if settings.objective is Objective.LATENCY else 0.0
        return Promises(
            interval_s=environment.interval_s,
            critical_s=self.critical_s(environment),
            background_s=self.background_s(environment),
            utilisation=costs.utilisation,
            overhead_max=settings.overhead_upper,
            tail_quantile=tail,
            failure_s=costs.failure_s,
            catch_up=costs.catch_up,
            rewire_s=costs.rewire_s,
            recovery_s=settings.recovery_objective_ms / 1000.0,
            adaptation_s=settings.adaptation_objective_ms / 1000.0,
            ahead_s=environment.look_ahead_s,
            ahead_groups=environment.look_ahead_groups,
            cuts=environment.cut_round_trip_s is not None and not environment.stops_wait,
            batch_bytes=environment.batch_bytes,
            memory_bytes=float(settings.memory_bytes or math.inf),
            retention_s=environment.retention_s,
            minimum=settings.group_size_min,
            maximum=settings.group_size_max,
        )

    def inputs(self, environment: Environment, costs: Costs) -> dict[str, float]:
        """Everything that went into the decision; a name ends in its unit."""
        critical_s, background_s = self.critical_s(environment), self.background_s(environment)
        return {
            "interval_seconds": environment.interval_s,
            "coordination_seconds": critical_s + background_s,
            "critical_seconds": critical_s,
            "background_seconds": background_s,
            "pipelining_pays": float(
                pipelining_pays(critical_s, background_s, environment.look_ahead_groups)
            ),
            "utilisation_ratio": costs.utilisation,
            "workers": float(environment.workers),
            "tasks": float(environment.tasks_per_batch),
            "failures_per_second": costs.failures_per_s,
            "failure_seconds": costs.failure_s,
            "catch_up_ratio": costs.catch_up,
            "rewire_ratio": costs.rewire_s,
            "adaptations_per_second": costs.adaptations_per_s,
            "wait_cost_ratio": costs.wait_cost,
            "batch_bytes": environment.batch_bytes,
        }

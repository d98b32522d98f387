"""A cluster as a group-size tuner feels it: groups that cost, failures and adaptations that wait or replay.

Stream time runs group by group. What happens in a group is worked out event by event from when it
happened, never from the tuner's formula, and every policy lives through the same events. Times
are seconds; a loss is seconds of the cluster (or, as areas, record-seconds) per second.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile

from drizzle_streams.core.tuner import Tuner
from drizzle_streams.core.tuning.facts import Environment, GroupMeasured, Recovered
from drizzle_streams.model.ids import GroupId

SPIKE_SHARE, SPIKE_FACTOR = 0.02, 8.0
"""One boundary in fifty takes eight times as long: a collection pause, a noisy neighbour."""
JITTER = 0.15
"""Standard deviation of the logarithm of what a boundary costs, and of what is read off a clock."""
UNEVEN = 0.02
"""The same for the utilisation that heartbeats tell: slot time is counted, not sampled."""


@dataclass(frozen=True)
class Cluster:
    """The truth, which the tuner is never told.

    `coordination_s` of a group: a stall, unless `pipelined`, where only `stall_s` is one and the rest
    keeps the coordinator busy. `failure_s` is lost whatever the group. `rollback`: all go back to
    the boundary, else survivors share what was lost; `own_checkpoints`: groups do not matter to replay.
    `cut_s`: round trip of a cut, None where groups run to their end. `areas`: stalls count
    squared, as waiting records do.
    """

    interval_s: float = 0.1
    workers: int = 128
    tasks: int = 512
    utilisation: float = 0.5
    coordination_s: float = 0.25
    pipelined: bool = False
    stall_s: float = 0.0
    failure_every_s: float = 400.0
    failure_s: float = 2.0
    rollback: bool = True
    own_checkpoints: bool = False
    rewire_s: float = 0.0001
    adaptation_every_s: float = 1e12
    wait_cost: float = 0.0
    cut_s: float | None = None
    areas: bool = False

    @property
    def environment(self) -> Environment:
        """What a coordinator knows of it."""
        return Environment(
            batch_interval_ms=1000.0 * self.interval_s,
            workers=self.workers,
            tasks_per_batch=self.tasks,
            pipelined=self.pipelined,
            cut_round_trip_s=self.cut_s,
            replays_group=not self.own_checkpoints,
            detection_s=self.failure_s,
        )

    def caught_up_s(self, behind_s: float) -> float:
        """How long `behind_s` of lost work keeps records waiting: spare capacity works it off."""
        if self.own_checkpoints:
            return 0.0
        if self.rollback:
            return behind_s * self.utilisation / (1.0 - self.utilisation)
        lost, survivors = behind_s * self.utilisation, self.workers - 1
        spare = survivors - self.utilisation * self.workers  # in workers
        return lost / spare

    def lost(self, stall_s: float) -> float:
        """What a stall costs."""
        return stall_s**2 / (2.0 * (1.0 - self.utilisation)) if self.areas else stall_s


@dataclass
class Ended:
    """A group that ran: where, in which size, and what was lost by it."""

    at_s: float
    size: int
    seconds: float
    lost: float


@dataclass
class Life:
    """One policy's way through the events of a seed; a policy is a tuner or a fixed size."""

    cluster_at: Callable[[float], Cluster]
    policy: Tuner | int
    seed: int
    _noise: random.Random = field(init=False)

    def run(self, horizon_s: float) -> list[Ended]:
        """Live until `horizon_s`."""
        self._noise = random.Random(self.seed)
        failures = self._events("failure", lambda of: of.failure_every_s, horizon_s)
        adaptations = self._events("adaptation", lambda of: of.adaptation_every_s, horizon_s)
        groups: list[Ended] = []
        at = 0.0
        while at < horizon_s:
            groups.append(self._group(at, len(groups), failures, adaptations))
            at += groups[-1].seconds
        return groups

    def _events(self, name: str, every_s: Callable[[Cluster], float], horizon_s: float) -> list[float]:
        """Poisson events, newest first, the same for every policy."""
        dice = random.Random(f"{self.seed} {name}")

        def arrivals() -> Iterator[float]:
            at = 0.0
            while True:
                at += dice.expovariate(1.0 / every_s(self.cluster_at(at)))
                yield at

        return list(takewhile(lambda at: at < 2 * horizon_s, arrivals()))[::-1]

    def _group(self, at: float, number: int, failures: list[float], adaptations: list[float]) -> Ended:
        cluster = self.cluster_at(at)
        size = self._sized(at, cluster)
        ends = at + size * cluster.interval_s
        lost, ends = self._adapt(cluster, adaptations, ends)
        lost += self._coordinate(cluster, number, round((ends - at) / cluster.interval_s) or 1)
        while failures and failures[-1] < ends:
            lost += self._fail(cluster, failures.pop(), at, ends)
        return Ended(at, size, ends - at, lost)

    def _sized(self, at: float, cluster: Cluster) -> int:
        if isinstance(self.policy, int):
            return self.policy
        self.policy.utilised(at, cluster.utilisation * self._jitter(UNEVEN))
        return self.policy.decide(at, cluster.environment).group_size

    def _coordinate(self, cluster: Cluster, number: int, batches: int) -> float:
        spike = SPIKE_FACTOR if self._noise.random() < SPIKE_SHARE else 1.0
        took = cluster.coordination_s * self._jitter() * spike
        stall_s = cluster.stall_s * self._jitter() if cluster.pipelined else took
        if isinstance(self.policy, Tuner):
            barrier_s = stall_s if cluster.pipelined else 0.0
            measured = GroupMeasured(GroupId(number), batches, 0.3 * took, 0.7 * took, barrier_s)
            self.policy.observe(measured, cluster.environment)
        if cluster.areas:
            return cluster.lost(stall_s)
        return stall_s + (took / (cluster.workers + 1) if cluster.pipelined else 0.0)

    def _adapt(self, cluster: Cluster, adaptations: list[float], ends: float) -> tuple[float, float]:
        lost = 0.0
        while adaptations and adaptations[-1] < ends:
            at = adaptations.pop()
            if isinstance(self.policy, Tuner):
                self.policy.adaptation(at)
            cut_s = None if cluster.cut_s is None else cluster.interval_s + cluster.cut_s
            boundary_s = cluster.stall_s if cluster.pipelined else cluster.coordination_s
            waits = cluster.wait_cost * (ends - at)
            if cut_s is not None and waits > boundary_s + cluster.wait_cost * cut_s:
                ends = max(at, min(ends, at + cut_s))
                waits = cluster.wait_cost * cut_s
            lost += waits
        return lost, ends

    def _fail(self, cluster: Cluster, at: float, began: float, ends: float) -> float:
        behind_s = max(0.0, at - began)
        caught_up_s = cluster.caught_up_s(behind_s)
        tasks = round(cluster.tasks * (ends - at) / cluster.interval_s)
        rewired_s = cluster.rewire_s * tasks
        if isinstance(self.policy, Tuner):
            self.policy.failure(at)
            jitter = self._jitter()
            known = Recovered(
                cluster.failure_s * jitter, 0.0, caught_up_s * jitter, behind_s, rewired_s, tasks
            )
            self.policy.recovered(known)
        return cluster.lost(cluster.failure_s + caught_up_s + rewired_s)

    def _jitter(self, deviation: float = JITTER) -> float:
        return self._noise.lognormvariate(0.0, deviation)


def loss(groups: list[Ended], since_s: float = 0.0) -> float:
    """Lost per second of the groups that began at `since_s` or later."""
    counted = [group for group in groups if group.at_s >= since_s]
    return sum(group.lost for group in counted) / sum(group.seconds for group in counted)


def sweep(around: int) -> list[int]:
    """Sizes to compare with, half as much again each time, five times as small to five times as large."""
    return sorted({max(1, round(around * 1.5**step)) for step in range(-4, 5)})

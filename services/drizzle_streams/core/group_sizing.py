"""A job's tuner in its place: from what its coordinator hears to what the tuner wants to know.

The machine that owns it calls `sized` when a group is about to be launched, and tells what it
hears anyway: heartbeats, verdicts, new placements, and the stopwatch's `LaunchMeasured`. What a
boundary cost is worked out here, from the latencies that workers report: how much later the
first batch of a group was done than the rest of it. Everything comes in by events and counts
once, so a replay of the same events makes the same groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median

from drizzle_streams.core.boundary import CUT_NOTICE_MS
from drizzle_streams.core.interval import Interval
from drizzle_streams.core.story import Story
from drizzle_streams.core.tuner import Tuner
from drizzle_streams.core.tuning.facts import DETECTION_S, Decision, Environment, GroupMeasured, Recovered
from drizzle_streams.model.ids import BatchId, GroupId, WorkerId
from drizzle_streams.model.job import JobSpec, Scheduling
from drizzle_streams.model.placement import Placement
from drizzle_streams.model.tuning import TuningMode
from drizzle_streams.protocol.records import GroupRecord

GROUPS_MEASURED_MAX = 64
"""Groups that are launched and not yet measured; beyond it the oldest is measured no more."""


@dataclass(slots=True)
class _Launched:
    """A group on its way; its launch's cost arrives after it, by the stopwatch."""

    group: GroupRecord
    plan_s: float | None = None
    carry_out_s: float = 0.0


@dataclass(slots=True)
class GroupSizing:
    """Sizes for one job, in batches of `interval`; a group is launched `look_ahead_s` before its start."""

    spec: JobSpec
    story: Story
    look_ahead_s: float
    interval: Interval
    decision: Decision | None = None
    tuner: Tuner = field(init=False)
    _launched: dict[GroupId, _Launched] = field(default_factory=dict[GroupId, _Launched])
    _busy: dict[WorkerId, float] = field(default_factory=dict[WorkerId, float])
    _workers: frozenset[WorkerId] = frozenset()

    def __post_init__(self) -> None:
        self.tuner = Tuner(self.spec.tuning, self.spec.group_size)

    # --- what happened --------------------------------------------------------------------

    def restore(self, group: GroupRecord) -> None:
        """A new coordinator goes on with the size of the newest group."""
        if self.spec.tuning.mode is not TuningMode.FIXED:
            self.tuner = Tuner(self.spec.tuning, group.last - group.first + 1)

    def heard(self, worker: WorkerId, busy: float, now: float) -> None:
        """A heartbeat of a worker of this job. Who keeps up is decided by the busiest one (0..1)."""
        if worker not in self._workers:
            return
        self._busy[worker] = busy
        self.tuner.utilised(now, max(self._busy.values()))

    @property
    def utilisation(self) -> float | None:
        """Of the busiest worker of this job, by the last heartbeats; None before the first."""
        return max(self._busy.values(), default=None)

    def launch_measured(self, group: GroupId, plan_s: float, carry_out_s: float) -> None:
        """What the coordinator's turn took that launched a group; only the first launch counts."""
        launched = self._launched.get(group)
        if launched is not None and launched.plan_s is None:
            launched.plan_s, launched.carry_out_s = plan_s, carry_out_s

    def lost(self, worker: WorkerId, now: float) -> None:
        """A worker of this job is lost."""
        self._busy.pop(worker, None)
        self._workers -= {worker}
        self.tuner.failure(now)

    def planned(self, workers: frozenset[WorkerId], now: float) -> None:
        """A new generation: groups on their way run into it and show nothing of an ordinary boundary.

        Workers who came, or went without being lost, are an adaptation.
        """
        self._launched.clear()
        self._busy = {worker: busy for worker, busy in self._busy.items() if worker in workers}
        if self._workers and workers != self._workers:
            self.tuner.adaptation(now)
        self._workers = workers

    def recovered(self, seconds: float, replayed_batches: int) -> None:
        """What was lost stands where it stood; `seconds` since the verdict."""
        replayed_s = replayed_batches * self.interval.ms / 1000.0
        self.tuner.recovered(Recovered(DETECTION_S, 0.0, seconds, replayed_s))

    # --- what follows ---------------------------------------------------------------------

    def sized(
        self,
        group: GroupRecord,
        now: float,
        *,
        placement: Placement,
        frontier: BatchId,
        latencies: Mapping[BatchId, float],
    ) -> GroupRecord:
        """The group that is due, in the size that is best now. To be asked once per group.

        `latencies` of batches, sealed to done, in milliseconds.
        """
        if self.spec.scheduling is not Scheduling.GROUP:
            return group
        environment = self._environment(placement)
        self._measure(environment, frontier, latencies)
        before = self.decision
        self.decision = decision = self.tuner.decide(now, environment)
        if decision.alarm is not None and (before is None or before.alarm != decision.alarm):
            text = f"{decision.alarm}; groups of {decision.group_size} keep what weighs more"
            self.story.tell(now, "NoGroupSizeFits", text, self.spec.job)
        if decision.mode is not TuningMode.FIXED:
            group = replace(group, last=BatchId(group.first + decision.group_size - 1))
        self._launched[group.group] = _Launched(group)
        while len(self._launched) > GROUPS_MEASURED_MAX:
            del self._launched[next(iter(self._launched))]
        return group

    def _environment(self, placement: Placement) -> Environment:
        return Environment(
            batch_interval_ms=self.interval.ms,
            workers=len(placement.workers()),
            tasks_per_batch=sum(len(set(owners)) for owners in placement.owners),  # per stage and owner
            look_ahead_s=self.look_ahead_s,
            cut_round_trip_s=CUT_NOTICE_MS / 1000.0,
            stops_wait=True,  # a job that is stopped finishes what is launched
            replays_group=False,  # failures replay from checkpoints, which groups do not align
        )

    def _measure(
        self, environment: Environment, frontier: BatchId, latencies: Mapping[BatchId, float]
    ) -> None:
        """Tell the tuner of every group that is done, in order."""
        for launched in [known for known in self._launched.values() if known.group.last <= frontier]:
            group = launched.group
            del self._launched[group.group]
            if launched.plan_s is not None:
                size = group.last - group.first + 1
                barrier_s = _barrier_s(group, latencies)
                measured = GroupMeasured(group.group, size, launched.plan_s, launched.carry_out_s, barrier_s)
                self.tuner.observe(measured, environment)


def _barrier_s(group: GroupRecord, latencies: Mapping[BatchId, float]) -> float | None:
    """How much later the first batch of a group was than its others; None with nothing to compare."""
    first = latencies.get(group.first)
    rest = (BatchId(batch) for batch in range(group.first + 1, group.last + 1))
    others = [latencies[batch] for batch in rest if batch in latencies]
    return None if first is None or not others else (first - median(others)) / 1000.0

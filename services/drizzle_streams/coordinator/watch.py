"""The coordinator's numbers: the machine's counters, carried into metrics when somebody looks.

Gauges are set at each scrape from the machine's state; counts that the machine keeps as totals
go in by their difference since the last look. Checkpoints and groups are counted where they
become durable. Series of a job go with the job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drizzle_streams.coordinator import status
from drizzle_streams.coordinator.stopwatch import JobCost, Stopwatch
from drizzle_streams.core.coordinator import Coordinator
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.coordinator_standing import ACTIVE
from drizzle_streams.core.machine import Persist, Put
from drizzle_streams.model.ids import JobId, NodeId
from drizzle_streams.protocol.parts import NO_COPIES, Copies
from drizzle_streams.protocol.records import CheckpointRecord, GroupRecord, JobPhase
from drizzle_streams.telemetry.metrics import CoordinatorMetrics
from drizzle_streams.telemetry.tuning import FIXED


@dataclass(slots=True)
class _Seen:
    """What has been carried over of a run's totals; `since` when it was first looked at."""

    run: str
    since: float
    messages: int = 0
    bytes: int = 0
    recovered_at: float = 0.0
    group: int = -1
    cut: int = 0
    replans: int = 0
    resized: int = 0
    damaged: int = 0
    copies: Copies = NO_COPIES


class Watch:
    """Reads `role` and `stopwatch`; `now` is cluster time in seconds."""

    def __init__(
        self, metrics: CoordinatorMetrics, role: Coordinator, stopwatch: Stopwatch, now: Callable[[], float]
    ) -> None:
        self._metrics = metrics
        self._role = role
        self._stopwatch = stopwatch
        self._now = now
        self._seen: dict[JobId, _Seen] = {}
        self._workers: frozenset[NodeId] = frozenset()
        self._lost = 0
        self._suspicions = 0
        self._relieved = 0

    def persisted(self, change: Persist) -> None:
        """A change of the machine became durable."""
        if not isinstance(change, Put):
            return
        job = self._role.jobs.get(JobId(change.key.split(":")[1]))
        if job is None or job.phase not in ACTIVE:
            return
        if isinstance(change.record, GroupRecord):
            seen = self._seen_of(job)
            if change.record.group != seen.group:  # else it is the newest group again, cut
                self._metrics.groups_launched.of(job.spec.job).inc()
            seen.group = change.record.group
        elif isinstance(change.record, CheckpointRecord):
            self._checkpointed(job, change.record)

    def refresh(self) -> None:
        """Bring the metrics up to the moment: called at each scrape."""
        role, metrics = self._role, self._metrics
        metrics.generation.set(role.generation)
        self._refresh_workers()
        for phase in JobPhase:
            metrics.jobs.of(phase.value).set(sum(job.phase is phase for job in role.jobs.values()))
        active = {name: job for name, job in role.jobs.items() if job.phase in ACTIVE}
        for name in self._seen.keys() - active.keys():
            del self._seen[name]
            self._stopwatch.forget(name)
            metrics.forget_job(name)
        for job in active.values():
            self._refresh_job(job)

    def _refresh_workers(self) -> None:
        """Who is here by state; who came, was lost, or went without being lost, since the last look."""
        role, metrics = self._role, self._metrics
        members = role.membership.workers()
        suspected = sum(member.suspected for member in members)
        metrics.workers.of("suspected").set(suspected)
        draining = sum(member.leaving and not member.suspected for member in members)
        metrics.workers.of("draining").set(draining)
        metrics.workers.of("alive").set(len(members) - suspected - draining)
        workers = frozenset(member.node for member in members)
        lost = role.lost_workers - self._lost
        metrics.workers_joined.inc(len(workers - self._workers))
        # A worker that came and was lost between two looks is among the lost and was never here.
        metrics.workers_left.inc(max(0, len(self._workers - workers) - lost))
        metrics.workers_lost.inc(lost)
        metrics.workers_suspected.inc(role.suspicions - self._suspicions)
        metrics.workers_slow.set(len(role.stragglers.relieved))
        metrics.workers_relieved.inc(role.stragglers.times_relieved - self._relieved)
        self._relieved = role.stragglers.times_relieved
        self._workers, self._lost, self._suspicions = workers, role.lost_workers, role.suspicions

    def _refresh_job(self, job: CoordinatorJob) -> None:
        name, metrics, now = job.spec.job, self._metrics, self._now()
        seen = self._seen_of(job)
        lag, cost = status.lag(job, now), self._stopwatch.cost(name)
        interval_s = job.interval_ms / 1000.0
        metrics.frontier_batch.of(name).set(job.progress.frontier)
        metrics.frontier_lag_batches.of(name).set(lag["batches"])
        metrics.frontier_lag_seconds.of(name).set(lag["ms"] / 1000.0)
        metrics.batch_interval_seconds.of(name).set(interval_s)
        metrics.batch_interval_target_seconds.of(name).set((job.interval.target_ms or job.interval_ms) / 1000)
        metrics.batch_processing_seconds.of(name).set((job.interval.processing_ms or 0.0) / 1000.0)
        metrics.group_size_batches.of(name).set(status.group_size(job))
        metrics.overhead_ratio.of(name).set(cost.overhead)
        metrics.launch_messages.of(name).inc(max(0, cost.messages - seen.messages))
        metrics.launch_bytes.of(name).inc(max(0, cost.bytes - seen.bytes))
        metrics.groups_cut.of(name).inc(job.groups_cut - seen.cut)
        metrics.replans.of(name).inc(max(0, job.replanning.replans - seen.replans))
        seen.replans = job.replanning.replans
        metrics.partitions_resized.of(name).inc(max(0, job.resizing.resized - seen.resized))
        seen.resized = job.resizing.resized
        for stage in job.spec.stages:
            metrics.stage_partitions.of(name, stage.stage).set(stage.partitions)
        seen.messages, seen.bytes, seen.cut = cost.messages, cost.bytes, job.groups_cut
        metrics.checkpoint_age_seconds.of(name).set(max(0.0, now - (job.committed_at or seen.since)))
        metrics.checkpoint_interval_seconds.of(name).set(job.snapshot_every * interval_s)
        metrics.checkpoint_cost_seconds.of(name).set(job.rhythm.cost_s or 0.0)
        metrics.checkpoint_optimum_seconds.of(name).set(job.rhythm.optimum_s or 0.0)
        metrics.checkpoints_damaged.of(name).inc(job.checkpoints.damaged - seen.damaged)
        seen.damaged = job.checkpoints.damaged
        metrics.recovering.of(name).set(job.recovery is not None)
        for counted in (metrics.batches_replayed, metrics.recovery_seconds):
            counted.of(name)  # from 0 on, or the first count would be no increase to who watches
        self._refresh_copies(job, seen)
        self._refresh_tuner(job, cost)
        for ended in job.recoveries:
            if ended.at > seen.recovered_at:
                seen.recovered_at = ended.at
                metrics.recovery_seconds.of(name).observe(ended.seconds)
                metrics.batches_replayed.of(name).inc(ended.replayed_batches)

    def _refresh_copies(self, job: CoordinatorJob, seen: _Seen) -> None:
        """What sources say of copies; one that starts anew counts from 0."""
        name, metrics = job.spec.job, self._metrics
        now, before = status.copies(job), seen.copies
        metrics.speculations.of(name).inc(max(0, now.started - before.started))
        metrics.speculations_won.of(name).inc(max(0, now.won - before.won))
        metrics.speculations_wasted.of(name).inc(max(0, now.wasted - before.wasted))
        seen.copies = now

    def _refresh_tuner(self, job: CoordinatorJob, cost: JobCost) -> None:
        """The newest decision; before the first one, the size that the job begins with."""
        decision, show, name = job.sizing.decision, self._metrics.tuner.show, job.spec.job
        if decision is None:
            size = float(status.group_size(job))
            show(
                name,
                sizes=dict.fromkeys(("target", "optimum", "lower", "upper"), size),
                binds=dict.fromkeys(("target", "lower", "upper"), FIXED),
                inputs=status.tuner_inputs(job, cost, self._role.membership.workers()),
            )
            return
        show(
            name,
            sizes={
                "target": decision.target,
                "optimum": decision.optimum,
                "lower": decision.lower,
                "upper": decision.upper,
            },
            binds={
                "target": decision.binding.value,
                "lower": decision.binds_lower.value,
                "upper": decision.binds_upper.value,
            },
            inputs=decision.inputs,
            band_empty=decision.alarm is not None,
        )

    def _seen_of(self, job: CoordinatorJob) -> _Seen:
        """What was seen of this very run: an older one of the name may have ended since the last look."""
        name, run = job.spec.job, job.spec.run
        seen = self._seen.get(name)
        if seen is None or seen.run != run:
            before = seen or _Seen(run, self._now())  # the stopwatch counts on by the name
            seen = self._seen[name] = _Seen(run, self._now(), before.messages, before.bytes)
        return seen

    def _checkpointed(self, job: CoordinatorJob, record: CheckpointRecord) -> None:
        name, metrics, checkpoint = job.spec.job, self._metrics, record.checkpoint
        self._seen_of(job)
        metrics.checkpoints.of(name).inc()
        parts = {part.key: part.bytes for ref in checkpoint.snapshots for part in ref.parts}
        metrics.checkpoint_bytes.of(name).set(sum(parts.values()))
        if job.group is not None:
            due_s = status.due_ms(job, job.group, checkpoint.batch) / 1000.0
            metrics.checkpoint_seconds.of(name).observe(max(0.0, self._now() - due_s))

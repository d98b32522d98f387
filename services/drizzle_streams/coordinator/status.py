"""What the coordinator says about itself and its jobs: the machine's state as plain JSON values.

Pure: state and time in, values out. Batches count from 0, so `batches_done` is the frontier
plus one. Times are milliseconds and say so; a value that is not known is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from drizzle_streams.coordinator.stopwatch import JobCost
from drizzle_streams.core.coordinator import Coordinator
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.coordinator_standing import ACTIVE
from drizzle_streams.core.headroom import headroom
from drizzle_streams.core.latencies import Latencies
from drizzle_streams.core.membership import Member
from drizzle_streams.core.tuning.facts import Decision
from drizzle_streams.model.ids import BatchId, WorkerId
from drizzle_streams.protocol.parts import Copies
from drizzle_streams.protocol.records import GroupRecord

RECENT_BATCHES = 200
"""Batches that count as recent in latency percentiles."""

Values = dict[str, Any]


def cluster(role: Coordinator, now: float) -> Values:
    """Members, jobs in short, generation."""
    members = role.membership
    return {
        "generation": role.generation,
        "workers": [_member(m, now) | _worker(role, m, now) for m in members.workers()],
        "sources": [_member(m, now) | {"partitions": m.size} for m in members.sources()],
        "workers_lost": role.lost_workers,
        "suspicions": role.suspicions,
        "headroom": _headroom(role),
        "warnings": _warnings(role),
        "jobs": jobs(role, now),
    }


def jobs(role: Coordinator, now: float) -> list[Values]:
    """Every job that is known, in short, by name."""
    return [summary(role.jobs[name], now) for name in sorted(role.jobs)]


def summary(job: CoordinatorJob, now: float) -> Values:
    """A job in a few numbers."""
    frontier = job.progress.frontier
    return {
        "job": job.spec.job,
        "run": job.spec.run,
        "phase": job.phase.value,
        "detail": job.detail,
        "generation": job.generation,
        "scheduling": job.spec.scheduling.value,
        "batch_interval_ms": job.interval_ms,
        "frontier": frontier,
        "batches_done": frontier + 1,
        "frontier_lag": lag(job, now),
        "waits_for": waits_for(job),
    }


def detail(job: CoordinatorJob, cost: JobCost, now: float) -> Values:
    """Everything about a job but its latencies, which cost more: see `latencies`."""
    return summary(job, now) | {
        "interval": chosen_interval(job),
        "group_size": group_size(job),
        "group": None if job.group is None else asdict(job.group),
        "groups_launched": job.groups_launched,
        "groups_cut": job.groups_cut,
        "resized": job.resizing.resized,
        "boundary": _boundary(job, now),
        "copies": asdict(copies(job)),
        "overhead": cost.overhead,
        "coordination_seconds": cost.seconds,
        "coordination_cpu_seconds": cost.cpu_seconds,
        "launching_turns": cost.launching_turns,
        "tuner": _tuner(job.sizing.decision),
        "launch_messages": cost.messages,
        "launch_bytes": cost.bytes,
        "checkpoint": _checkpoint(job, now),
        "stages": [asdict(stage) | {"frontier": min(done, default=-1)} for stage, done in _stages(job)],
        "placement": placement(job),
        "sources": {name: _sealed(job, name) for name in job.sources()},
        "recoveries": [asdict(ended) for ended in job.recoveries],
        "recovering": _recovering(job, now),
    }


def lag(job: CoordinatorJob, now: float) -> Values:
    """How far the frontier is behind the schedule: batches that are due, and the age of the oldest."""
    if job.group is None or job.phase not in ACTIVE:
        return {"batches": 0, "ms": 0.0}
    now_ms, frontier = now * 1000.0, job.progress.frontier
    late_ms = now_ms - due_ms(job, job.group, BatchId(frontier + 1))
    if late_ms <= 0:
        return {"batches": 0, "ms": 0.0}
    due = math.floor(late_ms / job.interval_ms) + 1
    return {"batches": max(0, min(due, job.group.last - frontier)), "ms": round(late_ms, 3)}


def due_ms(job: CoordinatorJob, group: GroupRecord, batch: BatchId) -> float:
    """When a batch was to be sealed, cluster time, on the schedule of the newest group."""
    return group.starts_at_ms + (batch - group.first + 1) * job.interval_ms


def group_size(job: CoordinatorJob) -> int:
    """Batches in the newest group."""
    return job.spec.group_size if job.group is None else job.group.last - job.group.first + 1


def chosen_interval(job: CoordinatorJob) -> Values | None:
    """Why batches come as often as they do; None where the job says how often."""
    if not job.spec.interval_auto:
        return None
    return {
        "because": job.interval.because.value,
        "processing_ms": job.interval.processing_ms,
        "target_ms": job.interval.target_ms,
        "changes": job.interval.changes,
    }


def _tuner(decision: Decision | None) -> Values | None:
    """Why groups have their size; a bound that does not bind is None, as JSON has no infinity."""
    if decision is None:
        return None
    return {
        "mode": decision.mode.value,
        "binding": decision.binding.value,
        "target": _finite(decision.target),
        "optimum": _finite(decision.optimum),
        "lower": _finite(decision.lower),
        "upper": _finite(decision.upper),
        "binds_lower": decision.binds_lower.value,
        "binds_upper": decision.binds_upper.value,
        "alarm": None if decision.alarm is None else str(decision.alarm),
        "inputs": dict(decision.inputs),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def tuner_inputs(job: CoordinatorJob, cost: JobCost, workers: Sequence[Member]) -> dict[str, float]:
    """What is known of what a group size depends on; each name ends in its unit."""
    tasks = sum(len(set(owners)) for owners in job.placement.owners)  # one per stage and owner
    return {
        "interval_seconds": job.interval_ms / 1000.0,
        "coordination_seconds": cost.seconds_per_turn,
        "utilisation_ratio": sum(w.busy for w in workers) / len(workers) if workers else 0.0,
        "workers": float(len(workers)),
        "tasks": float(tasks),
    }


def copies(job: CoordinatorJob) -> Copies:
    """Copies of straggling tasks, as all sources of a job say."""
    made = [report.copies for report in job.sealed.values()]
    return Copies(sum(c.started for c in made), sum(c.won for c in made), sum(c.wasted for c in made))


def waits_for(job: CoordinatorJob) -> str:
    """What a job that does not run waits for, in words; empty when it waits for nothing."""
    if job.phase not in ACTIVE:
        return ""
    if job.awaiting_until is not None:
        return "workers that say what they hold, after a restart of the coordinator"
    if not job.generation:
        return "a worker" if job.layouts or not job.spec.streams() else "a worker and a source"
    return "a worker to take over" if job.wants_plan else ""


def placement(job: CoordinatorJob) -> dict[str, dict[str, list[int]]]:
    """Partitions by worker and stage."""
    found: dict[str, dict[str, list[int]]] = {}
    for stage, owners in enumerate(job.placement.owners):
        for partition, owner in enumerate(owners):
            found.setdefault(owner, {}).setdefault(str(stage), []).append(partition)
    return found


def latencies(kept: Latencies) -> Values:
    """Percentiles of the batch latencies (sealed to done) that are kept; takes a while."""
    return percentiles(kept.newest_first())


def batches(kept: Latencies) -> list[list[float]]:
    """[batch, when it was sealed (cluster time, ms), its latency (ms)] of each, ascending; takes a while."""
    return [[batch, round(at, 3), round(ms, 3)] for batch, at, ms in kept.rows()]


def percentiles(newest_first: Sequence[float]) -> Values:
    """{"all", "recent"}: p50, p95, p99, max in ms and the count; None without a batch."""
    return {
        "all": _percentiles(newest_first),
        "recent": _percentiles(list(islice(newest_first, RECENT_BATCHES))),
    }


def _percentiles(values: Sequence[float]) -> Values | None:
    if not values:
        return None
    ranked = sorted(values)

    def at(share: float) -> float:
        return round(ranked[min(len(ranked) - 1, math.ceil(share * len(ranked)) - 1)], 3)

    return {"p50": at(0.50), "p95": at(0.95), "p99": at(0.99), "max": at(1.0), "count": len(ranked)}


def _member(member: Member, now: float) -> Values:
    return {
        "id": member.node,
        "address": member.address,
        "busy": round(member.busy, 4),
        "suspected": member.suspected,
        "draining": member.leaving,
        "lease_left_ms": round(max(0.0, member.expires - now) * 1000.0),
    }


def _worker(role: Coordinator, member: Member, now: float) -> Values:
    """`slow`: it straggled and holds no partitions for now; `slow_batches` of the last seconds'."""
    worker = WorkerId(member.node)
    return {
        "slots": member.size,
        "slow": worker in role.stragglers.relieved,
        "slow_batches": role.stragglers.slow_batches(worker, now),
    }


def _checkpoint(job: CoordinatorJob, now: float) -> Values:
    committed = job.checkpoints.committed
    parts = {part.key: part.bytes for ref in committed.snapshots for part in ref.parts}
    return {
        "batch": committed.batch,
        "age_ms": round((now - job.committed_at) * 1000.0, 3) if job.committed_at else None,
        "parts": len(parts),
        "bytes": sum(parts.values()),
        "fallback_batch": job.checkpoints.previous.batch,
        "interval_ms": job.snapshot_every * job.interval_ms,
        "because": job.rhythm.because.value,
        "cost_ms": _ms(job.rhythm.cost_s),
        "optimum_ms": _ms(job.rhythm.optimum_s),
        "damaged": job.checkpoints.damaged,
    }


def _ms(seconds: float | None) -> float | None:
    """Milliseconds for people; None for what is not known, or endless."""
    return None if seconds is None or not math.isfinite(seconds) else round(seconds * 1000.0, 3)


def _stages(job: CoordinatorJob) -> list[tuple[Any, Sequence[int]]]:
    return list(zip(job.spec.stages, job.progress.done, strict=True))


def _sealed(job: CoordinatorJob, source: Any) -> Values | None:
    report = job.sealed.get(source)
    return None if report is None else {"batch": report.batch, "backlog": report.backlog}


def _headroom(role: Coordinator) -> Values | None:
    """Utilisation, and the limit above which the loss of a worker could not be made up for."""
    found = headroom(role.membership.staying())
    return None if found is None else asdict(found) | {"short": role.short_of_workers}


def _warnings(role: Coordinator) -> list[str]:
    """What somebody should look at, in words."""
    slow = [
        f"{worker} straggles: it holds no partitions until it has not stalled for a while."
        for worker in sorted(role.stragglers.relieved)
    ]
    found = headroom(role.membership.staying())
    if found is None or not role.short_of_workers:
        return slow
    text = f"workers are busy {found.utilisation:.0%} of the time; above {found.limit:.0%} the others could"
    return [f"{text} not take over the work of a lost one and catch up. Add a worker.", *slow]


def _boundary(job: CoordinatorJob, now: float) -> Values | None:
    """A planned move on its way: why, and the batch at which owners change."""
    boundary = job.boundary
    if boundary is None:
        return None
    since_ms = round((now - boundary.since) * 1000.0, 3)
    return {"reason": boundary.reason, "batch": boundary.batch, "since_ms": since_ms}


def _recovering(job: CoordinatorJob, now: float) -> Values | None:
    recovery = job.recovery
    if recovery is None:
        return None
    return {
        "reason": recovery.reason,
        "since_ms": round((now - recovery.since) * 1000.0, 3),
        "moved": len(recovery.moved),
        "target": recovery.target,
        "replayed_batches": recovery.replayed_batches,
    }

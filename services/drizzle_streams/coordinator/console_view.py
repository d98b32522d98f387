"""What the console shows, as plain JSON values. Pure: state and time in, values out.

    cluster   who leads, members, jobs in short, new lines of the story
    job       everything `/jobs/{job}` says, latency per batch, the last batches stage by stage,
              and what the oldest batch that is due awaits

Times are milliseconds, cluster time where they are moments. Every list has a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from drizzle_streams.coordinator import status
from drizzle_streams.coordinator.console_reports import Reports, Times
from drizzle_streams.coordinator.stopwatch import Stopwatch
from drizzle_streams.core.coordinator import Coordinator
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.coordinator_standing import ACTIVE
from drizzle_streams.core.reporting import REPORT_INTERVAL_S
from drizzle_streams.core.source import SEALED_REPORT_INTERVAL_S
from drizzle_streams.model.ids import BatchId, JobId, PartitionId, SourceId, StageId, WorkerId
from drizzle_streams.model.job import Scheduling
from drizzle_streams.protocol.records import GroupRecord

STORY_SHOWN_MAX = 300
"""Lines of the story that somebody who starts to look is shown."""
POINTS_MAX = 600
"""Batches whose latency somebody who starts to look is shown."""
TIMELINE_BATCHES = 24
"""Batches that are shown stage by stage at a time."""
SEALED_NEWS_MS = 2 * SEALED_REPORT_INTERVAL_S * 1000.0
"""Sources say rarely how far they have sealed: before that, their silence means nothing."""

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads: `since` is cluster time in seconds, `term` the number of its lease."""

    name: str
    address: str
    term: int
    since: float
    version: str


class View:
    """Looks at one life of the coordinator; `now` is cluster time in seconds."""

    def __init__(
        self, role: Coordinator, reports: Reports, stopwatch: Stopwatch, now: Callable[[], float]
    ) -> None:
        self._role = role
        self._reports = reports
        self._stopwatch = stopwatch
        self._now = now

    @property
    def last_line(self) -> int:
        """The number of the story's newest line."""
        return self._role.story.lines[-1].number if self._role.story.lines else 0

    def cluster(self, leader: Leader, after: int) -> Values:
        """Members, jobs in short, and the story after line `after`."""
        now = self._now()
        newest = islice(reversed(self._role.story.lines), STORY_SHOWN_MAX)
        lines = [asdict(line) for line in newest if line.number > after]
        return status.cluster(self._role, now) | {
            "now_ms": round(now * 1000.0, 1),
            "uptime_ms": round((now - leader.since) * 1000.0),
            "leader": asdict(leader),
            "story": lines[::-1],
        }

    def chosen(self, wanted: JobId | None) -> JobId | None:
        """The job that somebody wants to see; without a wish, the first that is active, else the first."""
        jobs = self._role.jobs
        if wanted in jobs:
            return wanted
        return min(jobs, key=lambda name: (jobs[name].phase not in ACTIVE, name), default=None)

    def frontier(self, name: JobId) -> BatchId:
        """The job's frontier."""
        return self._role.jobs[name].progress.frontier

    def job(self, name: JobId, after: BatchId) -> Values:
        """Everything about a job; latencies of the batches after `after`."""
        job, now = self._role.jobs[name], self._now()
        latencies, recent = job.progress.latencies, _backwards(job.progress.frontier, status.RECENT_BATCHES)
        values = status.detail(job, self._stopwatch.cost(name), now)
        return values | {
            "checkpoint_interval_ms": job.spec.checkpoint_interval_ms,
            "report_ms": report_ms(job),
            "tasks_timed": job.spec.speculation,
            "latency_ms": status.percentiles([latencies[b] for b in recent if b in latencies])["recent"],
            "points": points(job, after),
            "timeline": self._timeline(job, now),
            "awaits": awaits(job, now),
        }

    def _timeline(self, job: CoordinatorJob, now: float) -> list[Values]:
        """The newest batches that are due, oldest first: each stage's tasks, done when and where."""
        group = job.group
        if group is None:
            return []
        last = newest_due(job, group, now)
        first = BatchId(max(0, last - TIMELINE_BATCHES + 1))
        since = status.due_ms(job, group, first) / 1000.0
        times = self._reports.done(job.spec.job, first, last, since)
        return [_batch(job, group, BatchId(batch), times) for batch in range(first, last + 1)]


def report_ms(job: CoordinatorJob) -> float:
    """How long a finished task may go unreported: what was only heard of is blurred by as much."""
    return REPORT_INTERVAL_S * 1000.0 if job.spec.scheduling is Scheduling.GROUP else 0.0


def points(job: CoordinatorJob, after: BatchId) -> list[tuple[BatchId, float, float]]:
    """(batch, when it was due in ms, its latency in ms) of done batches after `after`, oldest first."""
    group, latencies = job.group, job.progress.latencies
    if group is None:
        return []
    frontier = job.progress.frontier
    batches = _backwards(frontier, min(POINTS_MAX, frontier - after))
    found = [
        (b, round(status.due_ms(job, group, b), 1), round(latencies[b], 3)) for b in batches if b in latencies
    ]
    return found[::-1]


def newest_due(job: CoordinatorJob, group: GroupRecord, now: float) -> BatchId:
    """The last batch of the schedule that was to be sealed by now."""
    passed = (now * 1000.0 - group.starts_at_ms) / job.interval_ms
    return BatchId(min(group.last, group.first + int(passed // 1) - 1))


def awaits(job: CoordinatorJob, now: float) -> Values | None:
    """What the oldest batch that is due and not done awaits; None if there is no such batch."""
    group, batch = job.group, BatchId(job.progress.frontier + 1)
    if group is None or job.phase not in ACTIVE or batch > newest_due(job, group, now):
        return None
    for_ms = now * 1000.0 - status.due_ms(job, group, batch)
    return {
        "batch": batch,
        "for_ms": round(for_ms, 1),
        "stages": [
            {"stage": stage.stage, "worker": owner, "partitions": late}
            for stage in job.spec.stages
            for owner, late in _late(job, stage.stage, batch).items()
        ],
        "sources": _unsealed(job, batch) if for_ms > SEALED_NEWS_MS else [],
    }


def _unsealed(job: CoordinatorJob, batch: BatchId) -> list[SourceId]:
    """Sources that have not said that they sealed a batch."""
    reports = {source: job.sealed.get(source) for source in job.sources()}
    return [source for source, report in reports.items() if report is None or report.batch < batch]


def _late(job: CoordinatorJob, stage: StageId, batch: BatchId) -> dict[WorkerId, list[PartitionId]]:
    """Partitions of a stage that have not done a batch, by owner."""
    done, found = job.progress.done[stage], dict[WorkerId, list[PartitionId]]()
    for owner, partitions in job.placement.by_owner(stage).items():
        late = [partition for partition in partitions if done[partition] < batch]
        if late:
            found[owner] = late
    return found


def _batch(job: CoordinatorJob, group: GroupRecord, batch: BatchId, times: Times) -> Values:
    due_ms = status.due_ms(job, group, batch)
    latency = job.progress.latencies.get(batch)
    return {
        "batch": batch,
        "due_ms": round(due_ms, 1),
        "done": batch <= job.progress.frontier,
        "latency_ms": None if latency is None else round(latency, 3),
        "stages": [_stage(stage.stage, batch, due_ms, times) for stage in job.spec.stages],
    }


def _stage(stage: StageId, batch: BatchId, due_ms: float, times: Times) -> list[Values]:
    """One entry per worker: its partitions, and when it had done them all.

    `after_ms`: when that was heard, from when the batch was due; `took_ms`: when it was, from when the
    batch was sealed, None if that was not measured.
    """
    found: dict[WorkerId, tuple[float, list[PartitionId]]] = {}
    took = times.took.get((batch, stage), {})
    for partition, (at, worker) in sorted(times.heard.get((batch, stage), {}).items()):
        latest, partitions = found.get(worker, (at, []))
        found[worker] = (max(latest, at), [*partitions, partition])
    return [
        {
            "worker": worker,
            "partitions": partitions,
            "after_ms": round(at * 1000.0 - due_ms, 1),
            "took_ms": round(took[worker], 2) if worker in took else None,
        }
        for worker, (at, partitions) in found.items()
    ]


def _backwards(last: BatchId, count: int) -> list[BatchId]:
    return [BatchId(batch) for batch in range(last, max(-1, last - count), -1)]

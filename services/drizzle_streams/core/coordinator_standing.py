"""What the coordinator knows of one job: its phase, who holds what, how far it is.

The lowest layer of `coordinator_job`: the state that all layers share, what the ledger gave back,
what nodes report. Nothing is said to anybody here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drizzle_streams.core.boundary import Boundary
from drizzle_streams.core.checkpoints import Checkpoints
from drizzle_streams.core.group_sizing import GroupSizing
from drizzle_streams.core.interval import Interval
from drizzle_streams.core.late_sources import first_batches, take_in, unread
from drizzle_streams.core.lineage import Lineage
from drizzle_streams.core.newcomers import Newcomers
from drizzle_streams.core.planner import interval_of, plan_ahead_ms
from drizzle_streams.core.progress import Progress
from drizzle_streams.core.relief import SETTLED_AFTER_S
from drizzle_streams.core.replanning import Replanning
from drizzle_streams.core.resizing import Resizing
from drizzle_streams.core.rhythm import Rhythm
from drizzle_streams.core.story import Story
from drizzle_streams.core.stragglers import Stragglers
from drizzle_streams.model.ids import (
    NO_BATCH,
    BatchId,
    Generation,
    GroupId,
    NodeId,
    PartitionId,
    SourceId,
    StageId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts
from drizzle_streams.protocol.records import AssignRecord, CheckpointRecord, GroupRecord, JobPhase, JobRecord

RECOVERIES_KEPT_MAX = 100

ACTIVE = (JobPhase.WAITING, JobPhase.RUNNING, JobPhase.STOPPING)
"""Phases in which a job still has something to compute."""


@dataclass(slots=True)
class Recovery:
    """A recovery under way: caught up when every moved partition stands at `target`."""

    reason: str
    since: float
    moved: tuple[tuple[StageId, PartitionId], ...]
    target: BatchId
    replayed_batches: int


@dataclass(frozen=True, slots=True)
class RecoveryRecord:
    """A recovery that ended: from the verdict to caught up."""

    reason: str
    at: float
    seconds: float
    moved: int
    replayed_batches: int


class JobStanding:
    """One job at the coordinator, as far as it is known."""

    def __init__(self, spec: JobSpec, story: Story) -> None:
        self.spec = spec
        self.story = story
        self.phase = JobPhase.WAITING
        self.detail = ""
        self.layouts: tuple[StreamLayout, ...] = ()
        self.generation = Generation(0)
        self.placement = Placement()
        self.holders: dict[tuple[int, int], WorkerId] = {}
        self.outdated: set[WorkerId] = set()
        """Who is back, after a failover, with something that is of no use."""
        self.group: GroupRecord | None = None
        self.progress = Progress(spec)
        self.checkpoints = Checkpoints(spec)
        self.interval = Interval(spec.interval_auto, spec.batch_interval_ms)
        self.rhythm = Rhythm(spec, self.interval)
        self.lineage = Lineage()
        self.replanning = Replanning(spec, story)
        self.resizing = Resizing(spec)
        self.sizing = GroupSizing(spec, story, plan_ahead_ms(spec) / 1000.0, self.interval)
        self.committed_at = 0.0
        self.planned_workers: frozenset[WorkerId] = frozenset()
        self.newcomers = Newcomers()
        self.relieved: frozenset[WorkerId] = frozenset()
        self.planned_at = 0.0
        self.wants_plan = ""
        self.wanted_at = 0.0
        self.awaiting_until: float | None = None
        self.recovery: Recovery | None = None
        self.recoveries: list[RecoveryRecord] = []
        self.groups_launched = 0
        self.groups_cut = 0
        self.boundary: Boundary | None = None
        self._boundary_after = 0.0
        self.sealed: dict[SourceId, msg.SealedReport] = {}
        self.ended_at: dict[SourceId, BatchId] = {}
        self._sources_seen = 0
        self._stage_launched: list[BatchId] = []

    @property
    def group_id(self) -> GroupId | None:
        """The newest group launched."""
        return self.group.group if self.group else None

    @property
    def snapshot_every(self) -> int:
        """Batches from one snapshot to the next."""
        return self.rhythm.every

    @property
    def interval_ms(self) -> float:
        """From one batch of the newest group to the next."""
        return interval_of(self.spec, self.group)

    def sources(self) -> tuple[SourceId, ...]:
        """The sources whose logs this job reads."""
        return tuple(dict.fromkeys(owner for layout in self.layouts for owner in layout.owners))

    def nodes(self) -> tuple[NodeId, ...]:
        """Everybody who takes part in the present generation."""
        return tuple(NodeId(n) for n in (*sorted(self.planned_workers), *self.sources()))

    def needs(self, worker: WorkerId) -> bool:
        """Whether the job would lose something if that worker ended now."""
        if self.phase not in ACTIVE:
            return False
        return self.owns(worker) or self.awaiting_until is not None or self.recovery is not None

    def owns(self, worker: WorkerId) -> bool:
        """Whether partitions of the job, while it is active, are that worker's."""
        owned = worker in self.holders.values() or worker in self.placement.workers()
        return owned and self.phase in ACTIVE

    # --- from the ledger ------------------------------------------------------------------

    def restore(
        self,
        record: JobRecord,
        assign: AssignRecord | None,
        group: GroupRecord | None,
        checkpoint: CheckpointRecord | None,
        until: float,
    ) -> None:
        """A new coordinator: wait for the owners to say what they hold, but not for ever."""
        self.phase, self.detail, self.layouts = record.phase, record.detail, record.layouts
        self.group = group
        if group is not None:
            self.sizing.restore(group)
            self.interval.restore(group.interval_ms)
            self.replanning.restore(group)
        if checkpoint is not None:
            self.checkpoints.restore(checkpoint.checkpoint, checkpoint.previous)
            self.progress.restore(checkpoint.checkpoint.batch)
            self.lineage.restore(checkpoint.checkpoint.batch)
        if assign is not None:
            self.generation = assign.generation
            self.placement = assign.placement
            self.awaiting_until = until
        if self.layouts:
            self.progress.begin_at(first_batches(self.spec, self.layouts))

    def hear_holding(self, worker: WorkerId, holding: parts.JobHolding) -> None:
        """A returning worker's word, while a new coordinator collects what there is.

        The remembered owner of a partition wins over others who hold it as well. What is said of
        partitions that were split or merged since is of no use, nor is what lies behind the checkpoint:
        all owners stood there when it was committed, so somebody has taken over since, and heirs have
        no blocks from before it. But who says it is back.
        """
        if self.awaiting_until is None:
            return
        for done in holding.done:
            if (
                holding.generation < self.spec.stage(done.stage).laid
                or done.last < self.checkpoints.committed.batch
            ):
                self.outdated.add(worker)
                continue
            for partition in done.partitions:
                key = (done.stage, partition)
                remembered = self.placement.owners[done.stage][partition] if self.placement.owners else None
                if key not in self.holders or remembered == worker:
                    self.holders[key] = worker
                    self.progress.hold(done.stage, (partition,), done.last)
            self.progress.finish(done.stage, done.partitions, done.last)

    def everyone_back(self) -> bool:
        """Whether every remembered owner has said what it holds."""
        owners = self.placement.workers()
        return owners <= self.outdated.union(self.holders.values())

    # --- what nodes report, and what is wanted then ---------------------------------------

    def reported(self, report: msg.DoneReport) -> None:
        """Tasks are done; what their owner holds counts only in the present generation."""
        for done in report.done:
            if report.generation < self.spec.stage(done.stage).laid:
                continue  # partitions of these numbers have been split or merged since
            self.progress.finish(done.stage, done.partitions, done.last)
            if report.generation == self.generation:
                mine = tuple(p for p in done.partitions if self.holders.get((done.stage, p)) == report.worker)
                self.progress.hold(done.stage, mine, done.last)
        self.progress.observe(report.latencies)
        self.replanning.heard(report.seen)

    def heard(self, worker: WorkerId, busy: float, now: float) -> None:
        """A heartbeat of a worker, of this job or of others."""
        self.sizing.heard(worker, busy, now)
        if self.spec.interval_auto and worker in self.planned_workers:
            self.interval.heard(worker, busy, now)

    def compare(self, stragglers: Stragglers, report: msg.DoneReport, now: float) -> None:
        """How late a worker's tasks were; not while partitions that moved catch up."""
        settling = self.recovery is not None or self.boundary is not None or self.wants_plan
        if settling or now - self.planned_at < SETTLED_AFTER_S or report.generation != self.generation:
            return
        for line in report.tasks:
            owners = len(set(self.placement.owners[line.stage]))
            task = (self.spec.job, line.stage, line.batch)
            interval_ms = self.interval_ms
            stragglers.finished(task, report.worker, line.milliseconds, owners, interval_ms, now)

    def want_plan(self, reason: str, now: float) -> None:
        """A new generation is due; the reason becomes part of the story."""
        if self.phase in (JobPhase.STOPPED, JobPhase.FAILED) or self.awaiting_until is not None:
            return
        if not self.wants_plan:
            self.wants_plan, self.wanted_at = reason, now

    def lose(self, worker: WorkerId, now: float) -> None:
        """A worker is lost: what it held must be rebuilt."""
        self.outdated.discard(worker)
        lost = [key for key, owner in self.holders.items() if owner == worker]
        for key in lost:
            del self.holders[key]
        if lost:
            self.sizing.lost(worker, now)
            self.rhythm.failed()
            self.want_plan(f"{worker} lost", now)

    # --- where the streams lie ------------------------------------------------------------

    @property
    def granted(self) -> BatchId:
        """The last batch that anybody may have been told to run, ever."""
        return BatchId(max(self.group.granted, self.group.last)) if self.group else NO_BATCH

    def unread(self, sources: Sequence[tuple[SourceId, int]]) -> tuple[tuple[SourceId, int], ...]:
        """Sources that came since the present generation and could be read."""
        return unread(self.spec, self.layouts, sources) if len(sources) > self._sources_seen else ()

    def take_in(self, sources: Sequence[tuple[SourceId, int]], now: float) -> None:
        """A new generation is about to be planned: sources that joined meanwhile become part of it."""
        self._sources_seen = len(sources)
        if self.phase is JobPhase.STOPPING or not self.layouts:
            return
        joined = take_in(self.spec, self.layouts, sources, self.granted)
        if joined is None:
            return
        self._know(joined.spec)
        self.layouts = joined.layouts
        self.progress.begin_at(first_batches(self.spec, self.layouts))
        for source in joined.newcomers:
            text = f"{source} joined: its records are part of every batch from {self.granted + 1} on"
            self.story.tell(now, "SourceTakenIn", text, self.spec.job)

    def lay_out(self, sources: list[tuple[SourceId, int]]) -> bool:
        """Fix where the streams lie, once; False while there is no source to read from."""
        if self.layouts or not self.spec.streams():
            return True
        if not sources:
            return False
        rows = max(size for _, size in sources)
        owners = tuple(source for row in range(rows) for source, size in sources if row < size)
        self.layouts = tuple(StreamLayout(stream, owners) for stream in self.spec.streams())
        stages = tuple(
            replace(stage, partitions=len(owners)) if stage.stream is not None else stage
            for stage in self.spec.stages
        )
        self._respec(replace(self.spec, stages=stages))
        return True

    def _respec(self, spec: JobSpec) -> None:
        """Nothing is computed yet: begin with the job as it is now."""
        self.progress, self.checkpoints = Progress(spec), Checkpoints(spec)
        self._know(spec)

    def _know(self, spec: JobSpec) -> None:
        """The job is that from here on, to everything that knows it."""
        self.spec = self.progress.spec = self.checkpoints.spec = spec
        self.replanning.spec = self.resizing.spec = spec

"""One job at the coordinator: placement, groups, progress, checkpoints; one small state each.

The composition of pure parts: `planner` says when a group is due, `progress` how far it is,
`checkpoints` what can be committed, `recovery` who owns what. Everything said to nodes is
persisted first, in the same bundle (law 2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from drizzle_streams.core import actions as act
from drizzle_streams.core.boundary import (
    RETRY_S,
    Boundary,
    boundary_for,
    cut_at,
    cut_group,
    furthest,
)
from drizzle_streams.core.checkpoints import Checkpoints
from drizzle_streams.core.group_sizing import GroupSizing
from drizzle_streams.core.lineage import Lineage
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.planner import next_group, plan_ahead_ms
from drizzle_streams.core.progress import Progress
from drizzle_streams.core.recovery import Facts, Plan, plan_recovery
from drizzle_streams.core.relief import SETTLED_AFTER_S, Shares, change, shares
from drizzle_streams.core.replanning import Replanning
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
from drizzle_streams.model.job import JobSpec, Scheduling
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol.records import (
    AssignRecord,
    BlocksRecord,
    CheckpointRecord,
    GroupRecord,
    JobPhase,
    JobRecord,
    job_key,
)

RECOVERIES_KEPT_MAX = 100


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


class CoordinatorJob:
    """State of one job; the coordinator machine dispatches to it."""

    def __init__(self, spec: JobSpec, story: Story) -> None:
        self.spec = spec
        self.story = story
        self.phase = JobPhase.WAITING
        self.detail = ""
        self.layouts: tuple[StreamLayout, ...] = ()
        self.generation = Generation(0)
        self.placement = Placement()
        self.holders: dict[tuple[int, int], WorkerId] = {}
        self.group: GroupRecord | None = None
        self.progress = Progress(spec)
        self.checkpoints = Checkpoints(spec)
        self.rhythm = Rhythm(spec)
        self.lineage = Lineage()
        self.replanning = Replanning(spec, story)
        self.sizing = GroupSizing(spec, story, plan_ahead_ms(spec) / 1000.0)
        self.committed_at = 0.0
        self.planned_workers: frozenset[WorkerId] = frozenset()
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
        self._stage_launched: list[BatchId] = []

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
            self.replanning.restore(group)
        if checkpoint is not None:
            self.checkpoints.restore(checkpoint.checkpoint, checkpoint.previous)
            self.progress.restore(checkpoint.checkpoint.batch)
            self.lineage.restore(checkpoint.checkpoint.batch)
        if assign is not None:
            self.generation = assign.generation
            self.placement = assign.placement
            self.awaiting_until = until

    def hear_holding(self, worker: WorkerId, holding: msg.JobHolding) -> None:
        """A returning worker's word, while a new coordinator collects what there is.

        The remembered owner of a partition wins over others who hold it as well.
        """
        if self.awaiting_until is None:
            return
        for done in holding.done:
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
        return owners <= frozenset(self.holders.values())

    # --- a new generation -----------------------------------------------------------------

    def want_plan(self, reason: str, now: float) -> None:
        """A new generation is due; the reason becomes part of the story."""
        if self.phase in (JobPhase.STOPPED, JobPhase.FAILED) or self.awaiting_until is not None:
            return
        if not self.wants_plan:
            self.wants_plan, self.wanted_at = reason, now

    def lose(self, worker: WorkerId, now: float) -> None:
        """A worker is lost: what it held must be rebuilt."""
        lost = [key for key, owner in self.holders.items() if owner == worker]
        for key in lost:
            del self.holders[key]
        if lost:
            self.sizing.lost(worker, now)
            self.rhythm.failed()
            self.want_plan(f"{worker} lost", now)

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
        self.spec = spec
        self.progress = Progress(spec)
        self.checkpoints = Checkpoints(spec)
        self.replanning.spec = spec

    def plan(
        self,
        generation: Generation,
        workers: list[tuple[WorkerId, int]],
        now: float,
        out: Effects,
    ) -> None:
        """Make, persist and say the new generation; then launch what is launched in its name."""
        first_plan = not self.spec.born
        if first_plan:
            self.spec = replace(self.spec, born=generation)
            self.progress.spec = self.checkpoints.spec = self.spec
        boundary, self.boundary = self.boundary, None
        plan = plan_recovery(self._facts(workers))
        self._note_recovery(plan, now, first=first_plan, boundary=boundary)
        self.generation, self.placement = generation, plan.placement
        self.planned_workers = frozenset(worker for worker, _ in workers)
        self.relieved = frozenset(worker for worker, size in workers if not size)
        self.planned_at = now
        self.sizing.planned(self.planned_workers, now)
        if self.phase is JobPhase.WAITING:
            self.phase = JobPhase.RUNNING
        self._persist_plan(out)
        self._say_plan(plan, out)
        self.wants_plan = ""
        if self.group is None:
            self.advance(now, out)
        else:
            self._launch_again(out)
            self.advance(now, out)

    def _facts(self, workers: list[tuple[WorkerId, int]]) -> Facts:
        return Facts(
            spec=self.spec,
            workers=workers,
            holders=self.holders,
            held=self.progress.held,
            done=self.progress.done,
            checkpoint=self.checkpoints.committed,
        )

    def _note_recovery(self, plan: Plan, now: float, *, first: bool, boundary: Boundary | None) -> None:
        moved = tuple(
            (StageId(stage), PartitionId(p))
            for stage, owners in enumerate(plan.placement.owners)
            for p, owner in enumerate(owners)
            if self.holders.get((stage, p)) != owner
        )
        target = max(max(row) for row in self.progress.done)
        for stage, p in moved:
            self.progress.hold(stage, (p,), BatchId(plan.needed[stage][p] - 1))
            self.lineage.begin(stage, p, plan.needed[stage][p])
        for stage, owners in enumerate(plan.placement.owners):
            for p, owner in enumerate(owners):
                self.holders[(stage, p)] = owner
        planned = boundary is not None and not plan.replayed_batches
        if planned:
            target = BatchId(target + 1)  # a planned move is over when its new owners have done a batch
        kind = "JobPlaced" if first else "Recovered" if not moved else "RecoveryPlanned"
        if planned and moved:
            kind = "PartitionsMoved"
        text = f"{self.wants_plan}: {len(moved)} partitions move, {plan.replayed_batches} batches to replay"
        self.story.tell(now, kind, text, self.spec.job)
        if moved and not first:
            self.recovery = Recovery(self.wants_plan, self.wanted_at, moved, target, plan.replayed_batches)

    def _persist_plan(self, out: Effects) -> None:
        job = self.spec.job
        out.put(job_key(job, "spec"), JobRecord(self.spec, self.phase, self.layouts, self.detail))
        out.put(job_key(job, "assign"), AssignRecord(self.generation, self.placement))

    def _say_plan(self, plan: Plan, out: Effects) -> None:
        out.start(act.FenceSnapshots(self.spec.job))
        self.barrier_reset()
        # Downstream first (section 3.2 step 1): reducers know what they await before maps start.
        for worker in sorted(self.planned_workers):
            adoptions = plan.adoptions.get(worker, ())
            out.send(NodeId(worker), self._assign(plan.needed, adoptions))
        for source in self.sources():
            out.send(NodeId(source), self._assign(plan.needed, ()))

    def _assign(
        self, needed: tuple[tuple[BatchId, ...], ...], adoptions: tuple[msg.Adoption, ...]
    ) -> msg.Assign:
        return msg.Assign(
            spec=self.spec,
            generation=self.generation,
            layouts=self.layouts,
            placement=self.placement,
            needed=needed,
            committed=self.checkpoints.floor,
            adoptions=adoptions,
        )

    def tell_source(self, source: SourceId, out: Effects) -> None:
        """A source came (back): what it must offer, and the schedule."""
        if source not in self.sources() or not self.generation or self.phase not in ACTIVE:
            return
        needed = tuple(tuple(BatchId(b + 1) for b in row) for row in self.progress.held)
        out.send(NodeId(source), self._assign(needed, ()))
        if self.group is not None:
            out.send(NodeId(source), self._launch(self._everything()))

    def sources(self) -> tuple[SourceId, ...]:
        """The sources whose logs this job reads."""
        return tuple(dict.fromkeys(owner for layout in self.layouts for owner in layout.owners))

    def nodes(self) -> tuple[NodeId, ...]:
        """Everybody who takes part in the present generation."""
        return tuple(NodeId(n) for n in (*sorted(self.planned_workers), *self.sources()))

    # --- groups ---------------------------------------------------------------------------

    @property
    def snapshot_every(self) -> int:
        """Batches from one snapshot to the next."""
        return self.rhythm.every

    def _everything(self) -> GroupRecord:
        """All launched and uncommitted batches as one range, on the newest group's schedule."""
        assert self.group is not None
        first = BatchId(self.checkpoints.committed.batch + 1)
        earlier = self.group.first - first
        starts_at_ms = self.group.starts_at_ms - earlier * self.spec.batch_interval_ms
        return replace(self.group, first=first, starts_at_ms=starts_at_ms)

    def _launch(self, group: GroupRecord) -> msg.Launch:
        return msg.Launch(
            job=self.spec.job,
            generation=self.generation,
            group=group.group,
            first=group.first,
            last=group.last,
            starts_at_ms=group.starts_at_ms,
            interval_ms=self.spec.batch_interval_ms,
            snapshot_every=self.snapshot_every,
            chosen=group.chosen,
        )

    def _launch_again(self, out: Effects) -> None:
        """A new generation launches what was launched: catching up is always pre-scheduled."""
        launch = self._launch(self._everything())
        for node in self.nodes() if launch.first <= launch.last else ():
            out.send(node, launch)
        if self.spec.scheduling is Scheduling.BARRIER:
            self._stage_launched = [launch.last] * len(self.spec.stages)

    def advance(self, now: float, out: Effects) -> None:
        """After progress: commit what can be, launch what is due, end what has ended."""
        if self.phase not in ACTIVE or not self.generation or self.wants_plan:
            return
        self._check_recovered(now)
        self._commit(now, out)
        if self.phase is JobPhase.STOPPING:
            if self.group is None or self.progress.frontier >= self.group.last:
                self.end(JobPhase.STOPPED, "stopped by request", now, out)
                return
        elif self._input_is_done():
            self.end(JobPhase.STOPPED, "all of its input is computed", now, out)
            return
        elif self.boundary is not None:
            self._approach(self.boundary, now, out)
        else:
            self._launch_due(now, out)
        if self.spec.scheduling is Scheduling.BARRIER:
            self._launch_stages(out)

    def _input_is_done(self) -> bool:
        """Whether the input has ended at every source, and everything up to there is computed and written."""
        sources = self.sources()
        if not sources or any(source not in self.ended_at for source in sources):
            return False
        return self.progress.frontier >= max(self.ended_at.values())

    def _launch_due(self, now: float, out: Effects) -> None:
        while True:
            group = next_group(self.spec, self.group, self.progress.frontier, now * 1000.0)
            if group is None:
                return
            progress = self.progress
            self.rhythm.decide(now, len(self.planned_workers), self.sizing.utilisation)
            sized = self.sizing.sized(
                group,
                now,
                placement=self.placement,
                frontier=progress.frontier,
                latencies=progress.latencies,
            )
            planned = self.replanning.planned(sized, self.checkpoints.floor, now)
            self._launch_group(planned, out)

    def _launch_group(self, group: GroupRecord, out: Effects) -> None:
        self.group = group
        self.groups_launched += 1
        out.put(job_key(self.spec.job, "group"), group)
        launch = self._launch(group)
        nodes = self.nodes()
        if self.spec.scheduling is Scheduling.BARRIER:
            nodes = tuple(NodeId(source) for source in self.sources())
        for node in nodes:
            out.send(node, launch)

    # --- boundaries on demand -------------------------------------------------------------

    def pull_boundary(self, reason: str, now: float, out: Effects) -> None:
        """Have everybody stand at a batch soon, so that a new generation may begin there; see `boundary`."""
        if (
            self.phase is not JobPhase.RUNNING
            or self.group is None
            or self.boundary is not None
            or self.wants_plan
            or self.recovery is not None
            or self.awaiting_until is not None
            or now < self._boundary_after
        ):
            return
        last = cut_at(self.spec, self.group, self.progress, now * 1000.0)
        if last < self.group.last:
            self.groups_cut += 1
            text = f"{reason}: group {self.group.group} ends with batch {last} instead of {self.group.last}"
            self.story.tell(now, "GroupCut", text, self.spec.job)
        self.boundary = boundary_for(reason, last, self.progress, now)
        self._say_cut(last, out)

    def _say_cut(self, last: BatchId, out: Effects) -> None:
        assert self.group is not None
        if last != self.group.last:
            self.group = cut_group(self.group, last, self.spec.batch_interval_ms)
            out.put(job_key(self.spec.job, "group"), self.group)
        for node in self.nodes():
            out.send(node, msg.Cut(self.spec.job, self.generation, self.group.group, last))

    def _approach(self, boundary: Boundary, now: float, out: Effects) -> None:
        """On the way to a boundary: follow who was ahead of the cut; plan when everybody stands there."""
        boundary.note(self.progress, now)
        ahead = furthest(self.progress)
        if ahead > boundary.batch:
            boundary.batch = ahead
            self._say_cut(ahead, out)
        elif self.checkpoints.committed.batch == boundary.batch == self.progress.held_by_all:
            self.want_plan(boundary.reason, boundary.since)

    def watch_boundary(self, now: float, out: Effects) -> None:
        """Give up a boundary that is not reached: groups go on, and it is tried again later."""
        if self.phase is not JobPhase.RUNNING:
            self.boundary = None
        if self.boundary is None or self.wants_plan or self.boundary.deadline > now:
            return
        text = f"{self.boundary.reason}: batch {self.boundary.batch} was not reached by all"
        self.story.tell(now, "BoundaryGivenUp", text, self.spec.job)
        self.boundary, self._boundary_after = None, now + RETRY_S
        self.advance(now, out)

    # --- slow workers ---------------------------------------------------------------------

    def compare(self, stragglers: Stragglers, report: msg.DoneReport, now: float) -> None:
        """How late a worker's tasks were; not while partitions that moved catch up."""
        settling = self.recovery is not None or self.boundary is not None or self.wants_plan
        if settling or now - self.planned_at < SETTLED_AFTER_S or report.generation != self.generation:
            return
        for line in report.tasks:
            owners = len(set(self.placement.owners[line.stage]))
            task = (self.spec.job, line.stage, line.batch)
            interval_ms = self.spec.batch_interval_ms
            stragglers.finished(task, report.worker, line.milliseconds, owners, interval_ms, now)

    def follow(
        self, relieved: frozenset[WorkerId], workers: frozenset[WorkerId], now: float, out: Effects
    ) -> None:
        """Who is relieved loses its partitions at a boundary, who is reinstated gets a share again."""
        reason = change(self.relieved, relieved, workers, self.placement.workers())
        if reason:
            self.pull_boundary(reason, now, out)

    def without_relieved(self, workers: Shares, relieved: frozenset[WorkerId]) -> list[tuple[WorkerId, int]]:
        """The shares of the next plan."""
        if not self.spec.speculation:
            return list(workers)
        return shares(workers, relieved, self.owns, boundary=self.boundary is not None)

    # --- barrier mode ---------------------------------------------------------------------

    def barrier_reset(self) -> None:
        """A new generation starts its stages afresh."""
        self._stage_launched = [NO_BATCH] * len(self.spec.stages)

    def _launch_stages(self, out: Effects) -> None:
        """Spark's way, for comparison: a stage starts when the coordinator has seen the one before end."""
        assert self.group is not None
        batch = self.group.last
        for stage in self.spec.stages:
            if self._stage_launched[stage.stage] >= batch:
                continue
            if any(self.progress.stage_done(upstream) < batch for upstream in stage.inputs):
                continue
            self._stage_launched[stage.stage] = batch
            available = tuple(
                msg.Available(upstream, partitions, owner, batch, batch)
                for upstream in stage.inputs
                for owner, partitions in self.placement.by_owner(upstream).items()
            )
            for owner in self.placement.by_owner(stage.stage):
                launch = msg.LaunchStage(
                    self.spec.job, self.generation, stage.stage, batch, self.snapshot_every, available
                )
                out.send(NodeId(owner), launch)

    # --- progress -------------------------------------------------------------------------

    def reported(self, report: msg.DoneReport) -> None:
        """Tasks are done; what their owner holds counts only in the present generation."""
        for done in report.done:
            self.progress.finish(done.stage, done.partitions, done.last)
            if report.generation == self.generation:
                mine = tuple(p for p in done.partitions if self.holders.get((done.stage, p)) == report.worker)
                self.progress.hold(done.stage, mine, done.last)
        self.progress.observe(report.latencies)
        self.replanning.heard(report.seen)

    def _check_recovered(self, now: float) -> None:
        recovery = self.recovery
        if recovery is None:
            return
        if all(self.progress.held[stage][p] >= recovery.target for stage, p in recovery.moved):
            seconds = now - recovery.since
            ended = RecoveryRecord(
                recovery.reason, now, seconds, len(recovery.moved), recovery.replayed_batches
            )
            self.recoveries = [*self.recoveries, ended][-RECOVERIES_KEPT_MAX:]
            self.recovery = None
            self.sizing.recovered(seconds, ended.replayed_batches)
            text = f"{ended.reason}: caught up after {seconds:.3f} s"
            self.story.tell(now, "Recovered", text, self.spec.job)

    def _commit(self, now: float, out: Effects) -> None:
        # Not beyond what every present owner stands at: an owner that replays still needs what a
        # checkpoint would drop (the old owner's snapshot of a later batch may be stored already).
        through = min(self.progress.frontier, self.progress.held_by_all)
        boundary = None if self.boundary is None else self.boundary.batch
        checkpoint = self.checkpoints.complete(through, self.snapshot_every, boundary)
        if checkpoint is None:
            return
        obsolete = self.checkpoints.commit(checkpoint)
        self.rhythm.committed(checkpoint.batch)
        self.committed_at = now
        job = self.spec.job
        self._put_checkpoint(out)
        out.put(job_key(job, "blocks"), BlocksRecord(self._blocks_held()))
        committed = msg.Committed(job, self.generation, self.checkpoints.floor, checkpoint.batch)
        for node in self.nodes():
            out.send(node, committed)
        if obsolete:
            out.start(act.DeleteSnapshots(job, obsolete))

    def _put_checkpoint(self, out: Effects) -> None:
        record = CheckpointRecord(self.checkpoints.committed, self.checkpoints.previous)
        out.put(job_key(self.spec.job, "checkpoint"), record)

    def snapshot_damaged(self, found: msg.SnapshotDamaged, now: float, out: Effects) -> None:
        """A snapshot is not what was stored: fall back to the checkpoint before it, and plan anew.

        Its worker does not hold these partitions then; neither do those that lack blocks from there on.
        """
        if found.generation != self.generation:
            return
        name = f"snapshot of stage {found.stage} at batch {found.batch}"
        if found.batch == self.checkpoints.committed.batch:
            if not self.checkpoints.fall_back():
                self.end(
                    JobPhase.FAILED, f"{name} is damaged, and so is the one before: {found.reason}", now, out
                )
                return
            self._put_checkpoint(out)
        first = BatchId(self.checkpoints.committed.batch + 1)
        self.story.tell(
            now, "SnapshotDamaged", f"{name}: replay from batch {first}, {found.reason}", self.spec.job
        )
        unheld = {
            (found.stage, p) for p in found.partitions if self.holders.get((found.stage, p)) == found.worker
        }
        unheld |= self.lineage.short_of(first, self.spec, self.holders)
        for key in unheld:
            del self.holders[key]
        self.want_plan(f"{name} damaged", now)

    def _blocks_held(self) -> tuple[msg.Available, ...]:
        """Shuffle metadata: which worker holds which stage's blocks up to which batch."""
        found: dict[tuple[StageId, WorkerId, BatchId], list[PartitionId]] = {}
        for stage in self.spec.stages:
            if self.spec.downstream(stage.stage):
                for owner, partitions in self.placement.by_owner(stage.stage).items():
                    for p in partitions:
                        last = self.progress.held[stage.stage][p]
                        found.setdefault((stage.stage, owner, last), []).append(p)
        first = BatchId(self.checkpoints.committed.batch + 1)
        return tuple(
            msg.Available(stage, tuple(ps), owner, first, last)
            for (stage, owner, last), ps in found.items()
            if last >= first
        )

    def needs(self, worker: WorkerId) -> bool:
        """Whether the job would lose something if that worker ended now."""
        if self.phase not in ACTIVE:
            return False
        return self.owns(worker) or self.awaiting_until is not None or self.recovery is not None

    def owns(self, worker: WorkerId) -> bool:
        """Whether partitions of the job, while it is active, are that worker's."""
        owned = worker in self.holders.values() or worker in self.placement.workers()
        return owned and self.phase in ACTIVE

    # --- ends -----------------------------------------------------------------------------

    def stop(self, now: float, out: Effects) -> None:
        """Launch nothing more; end when everything launched is done."""
        if self.phase in ACTIVE:
            self.phase = JobPhase.STOPPING
            self._put_phase(out)
            self.story.tell(now, "StopRequested", "finishing what is launched", self.spec.job)
            self.advance(now, out)
            if not self.generation:
                self.end(JobPhase.STOPPED, "stopped before it started", now, out)

    def end(self, phase: JobPhase, detail: str, now: float, out: Effects) -> None:
        """The job is over: say so, remember why, let go of everything else."""
        self.phase, self.detail = phase, detail
        self.wants_plan = ""
        self._put_phase(out)
        for kind in ("assign", "group", "checkpoint", "blocks"):
            out.delete(job_key(self.spec.job, kind))
        stop = msg.StopJob(self.spec.job, self.generation, detail.splitlines()[0])
        for node in self.nodes():
            out.send(node, stop)
        stored = tuple(sorted(self.checkpoints.forget()))
        if stored:
            out.start(act.DeleteSnapshots(self.spec.job, stored))
        out.start(act.ForgetProgram(self.spec.job))
        kind = "JobFailed" if phase is JobPhase.FAILED else "JobStopped"
        self.story.tell(now, kind, detail.splitlines()[0], self.spec.job)

    def _put_phase(self, out: Effects) -> None:
        record = JobRecord(self.spec, self.phase, self.layouts, self.detail)
        out.put(job_key(self.spec.job, "spec"), record)

    @property
    def group_id(self) -> GroupId | None:
        """The newest group launched."""
        return self.group.group if self.group else None


ACTIVE = (JobPhase.WAITING, JobPhase.RUNNING, JobPhase.STOPPING)

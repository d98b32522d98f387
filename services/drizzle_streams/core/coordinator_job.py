"""One job at the coordinator: generations, boundaries, and which step comes next.

The composition of pure parts: `planner` says when a group is due, `progress` how far it is,
`checkpoints` what can be committed, `recovery` who owns what. Everything said to nodes is
persisted first, in the same bundle (law 2). `coordinator_standing` is what is known of the job,
`coordinator_launches` what of it is launched, `coordinator_commits` what is committed and ended,
`coordinator_resizes` how partitions are split and merged.
"""

from __future__ import annotations

from drizzle_streams.core import actions as act
from drizzle_streams.core.boundary import RETRY_S, Boundary, boundary_for, cut_at
from drizzle_streams.core.coordinator_resizes import JobResizes
from drizzle_streams.core.coordinator_standing import ACTIVE, RECOVERIES_KEPT_MAX, Recovery, RecoveryRecord
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.recovery import Facts, Plan, plan_recovery
from drizzle_streams.core.relief import Shares, change, shares
from drizzle_streams.core.resizing import Before
from drizzle_streams.model.ids import BatchId, Generation, NodeId, PartitionId, SourceId, StageId, WorkerId
from drizzle_streams.model.job import Scheduling
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts
from drizzle_streams.protocol.records import AssignRecord, JobPhase, JobRecord, Relief, job_key


class CoordinatorJob(JobResizes):
    """State of one job; the coordinator machine dispatches to it."""

    # --- steps ------------------------------------------------------------------------------

    def advance(self, now: float, out: Effects) -> None:
        """After progress: commit what can be, launch what is due, end what has ended.

        Not while a plan is to be made, and not while a new coordinator waits for those who are coming back.
        """
        if self.phase not in ACTIVE or not self.generation or self.wants_plan:
            return
        if self.awaiting_until is not None:
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

    def stop(self, now: float, out: Effects) -> None:
        """Launch nothing more; end when everything launched is done."""
        if self.phase in ACTIVE:
            self.phase = JobPhase.STOPPING
            self._put_phase(out)
            self.story.tell(now, "StopRequested", "finishing what is launched", self.spec.job)
            self.advance(now, out)
            if not self.generation:
                self.end(JobPhase.STOPPED, "stopped before it started", now, out)

    def tell_source(self, source: SourceId, out: Effects) -> None:
        """A source came (back): what it must offer, and the schedule."""
        if source not in self.sources() or not self.generation or self.phase not in ACTIVE:
            return
        needed = tuple(tuple(BatchId(b + 1) for b in row) for row in self.progress.held)
        out.send(NodeId(source), self._assign(needed, ()))
        if self.group is not None:
            out.send(NodeId(source), self._launch(self._everything()))

    # --- a new generation -----------------------------------------------------------------

    def plan(
        self,
        generation: Generation,
        workers: list[tuple[WorkerId, int]],
        now: float,
        out: Effects,
        relief: tuple[Relief, ...] = (),
    ) -> None:
        """Make, persist and say the new generation; then launch what is launched in its name.

        `relief` is remembered with it: what is known of slow workers.
        """
        first_plan = not self.spec.born
        if first_plan:
            self._resize_at_start(generation, len(workers), now)
        boundary, self.boundary = self.boundary, None
        before = self._resize(generation, boundary, now, out)
        plan = plan_recovery(self._facts(workers, before))
        self._note_recovery(plan, now, first=first_plan, boundary=boundary)
        self.generation, self.placement = generation, plan.placement
        self.outdated.clear()
        self.planned_workers = frozenset(worker for worker, _ in workers)
        self.relieved = frozenset(worker for worker, size in workers if not size)
        self.planned_at = now
        self.sizing.planned(self.planned_workers, now)
        self.interval.begin()
        if self.phase is JobPhase.WAITING:
            self.phase = JobPhase.RUNNING
        self._persist_plan(relief, out)
        self._say_plan(plan, out)
        self.wants_plan = ""
        if self.group is not None:
            self._launch_again(out)
        self.advance(now, out)

    def _facts(self, workers: list[tuple[WorkerId, int]], before: dict[StageId, Before]) -> Facts:
        return Facts(
            spec=self.spec,
            workers=workers,
            holders=self.holders,
            held=self.progress.held,
            done=self.progress.done,
            checkpoint=self.checkpoints.committed,
            firsts=self.progress.firsts,
            before=before,
        )

    def _note_recovery(self, plan: Plan, now: float, *, first: bool, boundary: Boundary | None) -> None:
        moved = tuple(
            (StageId(stage), PartitionId(p))
            for stage, owners in enumerate(plan.placement.owners)
            for p, owner in enumerate(owners)
            if self.holders.get((stage, p)) != owner
        )
        target = self.progress.furthest(self.progress.done)
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

    def _persist_plan(self, relief: tuple[Relief, ...], out: Effects) -> None:
        job = self.spec.job
        out.put(job_key(job, "spec"), JobRecord(self.spec, self.phase, self.layouts, self.detail))
        out.put(job_key(job, "assign"), AssignRecord(self.generation, self.placement, relief))

    def _say_plan(self, plan: Plan, out: Effects) -> None:
        out.start(act.FenceSnapshots(self.spec.job))
        self.barrier_reset()
        # Downstream first (section 3.2 step 1): reducers know what they await before maps start.
        members = len(plan.placement.workers())
        for worker in sorted(self.planned_workers):
            adoptions = plan.adoptions.get(worker, ())
            out.send(NodeId(worker), self._assign(plan.needed, adoptions))
            out.crowd(NodeId(worker), members)
        for source in self.sources():
            out.send(NodeId(source), self._assign(plan.needed, ()))

    def _assign(
        self, needed: tuple[tuple[BatchId, ...], ...], adoptions: tuple[parts.Adoption, ...]
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
        self.resizing.begin()
        self._say_cut(last, out)

    def prepare_newcomers(self, workers: frozenset[WorkerId], now: float, out: Effects) -> None:
        """Who has no share yet loads the program before it gets one; see `newcomers`."""
        may_get = self.phase is JobPhase.RUNNING and self.awaiting_until is None
        for worker in self.newcomers.look(workers - self.planned_workers, now, tell=may_get):
            out.send(NodeId(worker), msg.Prepare(self.spec, self.generation))

    def _approach(self, boundary: Boundary, now: float, out: Effects) -> None:
        """On the way to a boundary: follow who was ahead of the cut; plan when everybody stands there."""
        boundary.note(self.progress, now)
        ahead = self._ahead()
        if ahead > boundary.batch:
            boundary.batch = ahead
            self._say_cut(ahead, out)
        elif self.checkpoints.committed.batch == boundary.batch == self.progress.held_by_all and (
            not self.resizing.wanted or self._halted(boundary)
        ):
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

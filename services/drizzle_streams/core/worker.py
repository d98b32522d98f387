"""The worker machine: what it makes of messages and of work that ended, fencing, reports.

`worker_slots` chooses what runs and `worker_member` is its life in the cluster. Rules:
- Older generations are refused and counted; a `Refused` of our own life means: start anew.
- A task that waits longer than `awaited_timeout_s` asks the coordinator who owes it what.
"""

from __future__ import annotations

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.ahead import Ahead
from drizzle_streams.core.cohorts import Cohort
from drizzle_streams.core.copies import copy_cohort
from drizzle_streams.core.crowds import crowds, is_crowd
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.reporting import ReportTimer
from drizzle_streams.core.worker_blocks import Wanted
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.core.worker_member import WorkerMember
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.ids import COORDINATOR, JobId, NodeId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.task import TaskError
from drizzle_streams.protocol import messages as msg

AWAITED_TIMEOUT_S_MAX = 8.0
"""A task that goes on waiting asks more and more rarely, down to that."""

AT_ONCE = 0.0
"""A deadline that is always due: at the end of the driver's turn."""


class Worker(WorkerMember):
    """Decides for one life of a worker process."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        self.refused = 0
        self.ahead = Ahead()
        self._report = ReportTimer()
        self._overdue_at: float | None = None

    # --- role -----------------------------------------------------------------------------

    def refuses(self, _sender: NodeId, /) -> msg.Message | None:
        """A worker hears everybody; fencing is per job and generation."""
        return None

    def next_deadline(self) -> float | None:
        """Heartbeat or hello, coalesced report, overdue tasks; at once if something was not announced yet."""
        if self.rejoining:
            return None
        times = [self._beat_at]
        more = (self._report.at, self._overdue_at, self._alone_at, self._stalls.due)
        times += [t for t in more if t is not None]
        if self._holds():
            times.append(AT_ONCE)
        times += [t for job in self.jobs.values() if (t := job.later.next_deadline()) is not None]
        return min(times)

    def on_deadline(self, now: float, out: Effects) -> None:
        """Say that we live; report; ask for what is overdue; go if nobody answers a worker that leaves."""
        self._stalls.look(now)
        self._tell_untold(now, out)
        for job in self.jobs.values():
            job.say_later(now, out)
        if self._alone_at is not None and self._alone_at <= now:
            self._depart("no coordinator answers", out)
            return
        if self._beat_at <= now:
            self._beat(now, out)
        if self._report.at is not None and self._report.at <= now:
            self._report_all(now, out)
        if self._overdue_at is not None and self._overdue_at <= now:
            self._ask_overdue(now, out)
            self._run_ready(out, now)  # one that waited for a commit may no longer
        self._plan_deadlines(now)

    def handle(self, event: ev.Event, now: float, out: Effects) -> None:
        """Something happened; afterwards whatever can run is started."""
        if self.rejoining:
            return
        self._stalls.look(now)
        self._take(event, now, out)
        if not (isinstance(event, ev.Received) and event.more):
            self.settle(now, out)

    def settle(self, now: float, out: Effects) -> None:
        """What every turn ends with: start what can run, and see when to look again."""
        if not self.rejoining:
            self._run_ready(out, now)
            self._plan_deadlines(now)

    def _take(self, event: ev.Event, now: float, out: Effects) -> None:
        match event:
            case ev.Received(sender=sender, message=message, carried=carried):
                if sender == COORDINATOR:
                    self._alone_at = None
                self._received(message, carried, now, out)
            case ev.PeerRestarted(node=node) | ev.LinkOverflowed(node=node) if node == COORDINATOR:
                self._hello(now, out)
            case ev.LinkOverflowed(node=node) | ev.PeerUnreachable(node=node) if node != COORDINATOR:
                self._suspect(node, out)
                if isinstance(event, ev.LinkOverflowed):
                    self._unsaid(node, out)
            case ev.PeerUnreachable():
                self._wait_alone(now)
            case ev.LeaveRequested():
                self._leave(now, out)
            case ev.BlocksFetched() | ev.FetchFailed() | ev.InputFetched() | ev.InputFetchFailed():
                self._fetch_ended(event, out)
            case ev.TaskFinished() | ev.TaskCrashed():
                self._task_ended(event, now, out)
            case _:
                self._work_ended(event, now, out)

    # --- messages -------------------------------------------------------------------------

    def _received(self, message: msg.Message, carried: bool, now: float, out: Effects) -> None:
        match message:
            case msg.Welcome(lease_ms=lease_ms):
                self._welcomed(lease_ms / 1000.0, now)
            case msg.Refused(reason=reason):
                self.rejoining = True
                out.start(act.Rejoin(reason))
            case msg.Farewell(reason=reason):
                self._depart(reason, out)
            case msg.Peers(peers=peers):
                for peer in peers:
                    if peer.node != NodeId(self.settings.worker):
                        out.start(act.LearnPeer(peer.node, peer.address))
            case msg.Assign():
                self._assign(message, now, out)
            case msg.Prepare():
                self._prepare(message, out)
            case msg.StopJob(job=job, reason=reason):
                self.ahead.forget(job)
                if self.jobs.pop(job, None) is not None:
                    out.start(act.ForgetJob(job, reason))
            case _:
                self._job_message(message, carried, now, out)

    def _job_message(self, message: msg.Message, carried: bool, now: float, out: Effects) -> None:
        job = self.jobs.get(getattr(message, "job", JobId("")))
        generation = getattr(message, "generation", -1)
        kept = False
        if isinstance(message, msg.Offer | msg.BlocksReady) and (job is None or job.is_ahead(message)):
            kept = True
            self.ahead.keep(message)
        # One that is prepared and has no share yet knows no owners, whatever a coordinator believes.
        if job is None or generation < job.generation or not job.placement.owners:
            self.refused += 1
            return
        if kept:
            return
        match message:
            case msg.Offer():
                job.offered(message, carried=carried, out=out)
            case msg.BlocksReady():
                job.blocks_ready(message, carried=carried, out=out)
            case msg.Launch():
                job.launch(message, now)
            case msg.Cut():
                job.cut(message, out)
            case msg.LaunchStage():
                job.launch_stage(message, now, out)
            case msg.Committed(batch=batch, newest=newest):
                if newest > job.newest:
                    job.newest, job.newest_at = newest, now
                job.commit(batch, out)
            case msg.Reannounce():
                self._reannounce(job, message, out)
            case _:
                self.refused += 1

    def _assign(self, assign: msg.Assign, now: float, out: Effects) -> None:
        known = self.jobs.get(assign.spec.job)
        if known is not None and assign.generation <= known.generation:
            self.refused += 1
            return
        job = self._job_of(assign.spec, out)
        self._failures.pop(assign.spec.job, None)
        job.assign(assign, now, out)
        for node, members in crowds(assign.spec, assign.placement, self.settings.worker):
            out.crowd(node, members)
        for message in self.ahead.take(assign.spec.job, assign.generation):
            job.heard_ahead(message, out)
        if job.load_error is not None:
            self._failed(assign.spec.job, job.load_error, out)  # what was said of it was too early

    def _prepare(self, prepare: msg.Prepare, out: Effects) -> None:
        """We are about to get a share: be ready to run it."""
        known = self.jobs.get(prepare.spec.job)
        if known is not None and prepare.generation < known.generation:
            self.refused += 1
            return
        job = self._job_of(prepare.spec, out)
        if not job.placement.owners:  # else what it holds is of the generation that it knows
            job.generation = prepare.generation
        if job.loaded or job.load_error is not None:
            self._tell_prepared(job, out)

    def _tell_prepared(self, job: WorkerJob, out: Effects) -> None:
        out.send(COORDINATOR, msg.Prepared(job.spec.job, job.generation, self.settings.worker))

    def _job_of(self, spec: JobSpec, out: Effects) -> WorkerJob:
        """This run of the job; what is left of another one goes, and of a new one the program is got."""
        known = self.jobs.get(spec.job)
        if known is not None and known.spec.born == spec.born:
            return known
        if known is not None:
            out.start(act.ForgetJob(spec.job, "another run of the same name"))
            self._failures.pop(spec.job, None)
        job = self.jobs[spec.job] = WorkerJob(self.settings.worker, spec)
        out.start(act.LoadProgram(spec))
        return job

    def _reannounce(self, job: WorkerJob, ask: msg.Reannounce, out: Effects) -> None:
        for below in job.spec.downstream(ask.stage):
            partitions = job.placement.held_by(ask.to, below.stage)
            if partitions:
                wanted = Wanted(below.stage, ask.to, partitions, ask.first)
                job.announce(ask.stage, wanted, frozenset(ask.partitions), out)

    def _suspect(self, peer: NodeId, out: Effects) -> None:
        out.send_once(COORDINATOR, msg.PeerSuspected(NodeId(self.settings.worker), peer))

    def _unsaid(self, node: NodeId, out: Effects) -> None:
        """What was said to a node is lost."""
        for job in self.jobs.values():
            job.unsaid(node, out)

    # --- work that ended ------------------------------------------------------------------

    def _work_ended(self, event: ev.Event, now: float, out: Effects) -> None:
        if isinstance(event, ev.MemoryPressed):
            self.pressed = event.pressed
            return
        job = self.jobs.get(getattr(event, "job", JobId("")))
        if job is None:
            return
        match event:
            case ev.ProgramLoaded():
                job.loaded = True
                self._tell_prepared(job, out)
            case ev.ProgramFailed(error=error):
                job.load_error = error
                self._failed(event.job, error, out)
                self._tell_prepared(job, out)
            case ev.OutputFailed(error=error):
                self._failed(event.job, error, out)
            case ev.CohortOpened() | ev.CohortFailed() | ev.CohortDamaged():
                self._opening_ended(job, event, now, out)
            case ev.OutputWritten(cohort=cohort, last=last):
                job.output_written(cohort, last, now, out)
            case ev.SnapshotTaken(snapshot=snapshot, seconds=seconds):
                me = self.settings.worker
                stored = msg.SnapshotStored(event.job, job.generation, me, snapshot, seconds)
                out.send(COORDINATOR, stored)
            case ev.SnapshotFailed(batch=batch):
                job.doubtful = max(job.doubtful, batch)  # the next one is tried in its turn
            case _:
                return

    def _opening_ended(
        self,
        job: WorkerJob,
        event: ev.CohortOpened | ev.CohortFailed | ev.CohortDamaged,
        now: float,
        out: Effects,
    ) -> None:
        match event:
            case ev.CohortOpened(cohort=cohort):
                if cohort in job.cohorts:
                    job.cohorts[cohort].open = True
                    job.cohorts[cohort].waiting_since = now
            case ev.CohortFailed(cohort=cohort, error=error):
                if job.cohorts.pop(cohort, None) is not None:
                    self._failed(event.job, error, out)
            case ev.CohortDamaged():
                job.snapshot_damaged(event, out)

    def _task_ended(self, event: ev.TaskFinished | ev.TaskCrashed, now: float, out: Effects) -> None:
        key = event.key
        self._slot_freed(now)
        job = self.jobs.get(key.job)
        if isinstance(event, ev.TaskFinished):
            if job is not None:
                job.saw(event.seen)
                job.finished(key, now, out)
        elif key.cohort != copy_cohort(key.stage):
            self._failed(key.job, event.error, out)
        elif job is not None:
            job.copies.ended(key)  # what is wrong with it, its original will say

    def _fetch_ended(
        self,
        event: ev.BlocksFetched | ev.FetchFailed | ev.InputFetched | ev.InputFetchFailed,
        out: Effects,
    ) -> None:
        fetch = event.fetch
        job = self.jobs.get(fetch.fragment.job if isinstance(fetch, act.FetchInput) else fetch.job)
        if job is None:
            return
        match event:
            case ev.BlocksFetched(fetch=blocks, batches=batches):
                job.blocks_fetched(blocks, batches)
            case ev.InputFetched(fetch=records):
                job.input_fetched(records)
            case ev.FetchFailed(fetch=blocks):
                job.fetching.discard(blocks)
                self._suspect(NodeId(blocks.sender), out)
            case ev.InputFetchFailed(fetch=records):
                job.fetching.discard(records)
                job.copies.lost(records.fragment)
                self._suspect(NodeId(records.source), out)

    def _failed(self, job_id: JobId, error: TaskError, out: Effects) -> None:
        """The user's failure ends the job here and is told; the worker goes on (law 10)."""
        job = self.jobs.get(job_id)
        if job is None or job.failed:
            return
        job.failed = True
        self._failures[job_id] = error
        out.send(COORDINATOR, msg.TaskFailed(job_id, job.generation, self.settings.worker, error))

    def _holds(self) -> bool:
        return any(job.untold for job in self.jobs.values())

    def _tell_untold(self, now: float, out: Effects) -> None:
        """Announce what was held back, to ourselves as well."""
        if self._holds():
            for job in self.jobs.values():
                job.tell_untold(now, out)
            self._run_ready(out, now)

    # --- reports and questions ------------------------------------------------------------

    def _report_all(self, now: float, out: Effects) -> None:
        self._report.said()
        for job in self.jobs.values():
            if job.report_due:
                out.send(COORDINATOR, job.report())
        if any(is_crowd(job.owners) for job in self.jobs.values()):
            self._beat_along(now, out)

    def _ask_overdue(self, now: float, out: Effects) -> None:
        self._overdue_at = None
        for job in self.jobs.values():
            for cohort in self._waiting(job):
                if cohort.overdue_at(self.settings.awaited_timeout_s) <= now:
                    cohort.asks(now, self.settings.awaited_timeout_s, AWAITED_TIMEOUT_S_MAX)
                    missing = job.overdue(cohort)
                    if missing:
                        ask = msg.Overdue(
                            job.spec.job,
                            job.generation,
                            self.settings.worker,
                            cohort.stage,
                            cohort.next,
                            missing,
                        )
                        out.send(COORDINATOR, ask)
                    elif self.pressed:
                        job.doubt(cohort, now)

    def _waiting(self, job: WorkerJob) -> list[Cohort]:
        return [
            c for c in job.cohorts.values() if c.open and not c.running and c.next <= job.launched[c.stage]
        ]

    def _plan_deadlines(self, now: float) -> None:
        for job in self.jobs.values():
            if job.report_due:
                self._report.due(now, job.owners, awaited=job.report_awaited, short=job.runs_out)
        if self._overdue_at is None:
            timeout_s = self.settings.awaited_timeout_s
            times = [c.overdue_at(timeout_s) for job in self.jobs.values() for c in self._waiting(job)]
            self._overdue_at = min(times, default=None)

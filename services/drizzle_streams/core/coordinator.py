"""The coordinator machine: members, verdicts, generations; jobs decide the rest.

In steady state it hears heartbeats and coalesced reports and says one launch message per node
and group. Everything that changes who owns what goes through one door: a job wants a plan, the
ledger's fence gives the next generation, and the plan is made from the facts of that moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.coordinator_standing import ACTIVE
from drizzle_streams.core.headroom import headroom, is_short
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.membership import Membership
from drizzle_streams.core.overdue import answer_overdue
from drizzle_streams.core.story import Story
from drizzle_streams.core.stragglers import Stragglers
from drizzle_streams.model.ids import Generation, JobId, NodeId, SourceId, WorkerId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol.records import (
    AssignRecord,
    CheckpointRecord,
    GroupRecord,
    JobPhase,
    JobRecord,
    Record,
    job_key,
)

LEASE_S = 2.0
ENDED_JOBS_KEPT_MAX = 100

HELD_UP_S = 0.25
"""A lease's end that is looked at so much too late was not listened for."""

ROUTINE = (msg.Heartbeat, msg.DoneReport, msg.SealedReport, msg.SnapshotStored)
"""What all members say all the time."""

SETTLE_INTERVAL_S = 0.05
"""After routine, all members are looked at this often, and not each time: else the reports of n workers
cost n looks at n workers."""


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """`lease_s`: how long a silent node stays a member."""

    lease_s: float = LEASE_S


class Coordinator:
    """Decides for one life of the coordinator, in one generation of leadership."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        generation: Generation,
        records: Mapping[str, Record],
        now: float,
    ) -> None:
        self.settings = settings
        self.generation = generation
        self.membership = Membership(settings.lease_s)
        self.story = Story()
        self.jobs: dict[JobId, CoordinatorJob] = {}
        self.stragglers = Stragglers()
        self.lost_workers = 0
        self.short_of_workers = False
        self.suspicions = 0
        self._raising = False
        self._settled_at = now - SETTLE_INTERVAL_S
        self._settle_at: float | None = None
        for record in records.values():
            if isinstance(record, JobRecord):
                self._restore(record, records, now)
        assigned = [record for record in records.values() if isinstance(record, AssignRecord)]
        for assign in sorted(assigned, key=lambda record: record.generation):
            self.stragglers.remember(assign.relief)

    def _restore(self, record: JobRecord, records: Mapping[str, Record], now: float) -> None:
        name = record.spec.job
        job = self.jobs[name] = CoordinatorJob(record.spec, self.story)
        assign = records.get(job_key(name, "assign"))
        group = records.get(job_key(name, "group"))
        checkpoint = records.get(job_key(name, "checkpoint"))
        job.restore(
            record,
            assign if isinstance(assign, AssignRecord) else None,
            group if isinstance(group, GroupRecord) else None,
            checkpoint if isinstance(checkpoint, CheckpointRecord) else None,
            until=now + 2 * self.settings.lease_s,
        )
        if job.phase in ACTIVE:
            self.story.tell(now, "JobRestored", f"from the ledger, {job.phase.value}", name)
        else:
            job.awaiting_until = None

    # --- role -----------------------------------------------------------------------------

    def refuses(self, sender: NodeId, /) -> msg.Message | None:
        """A worker that was declared lost must start a new life (it may have been paused)."""
        if self.membership.is_lost(sender):
            return msg.Refused(self.generation, "declared lost")
        return None

    def next_deadline(self) -> float | None:
        """The first lease that ends, the end of waiting for returning workers or for a boundary."""
        times = [job.awaiting_until for job in self.jobs.values() if job.awaiting_until is not None]
        times += [
            job.boundary.deadline
            for job in self.jobs.values()
            if job.boundary is not None and not job.wants_plan and job.phase is JobPhase.RUNNING
        ]
        judged_at = None if self._gathering else self.stragglers.next_deadline()
        more = [self.membership.next_deadline(), judged_at, self._settle_at]
        more += [job.newcomers.deadline for job in self.jobs.values() if job.phase in ACTIVE]
        times += [when for when in more if when is not None]
        return min(times, default=None)

    def on_deadline(self, now: float, out: Effects) -> None:
        """Leases end; waiting ends."""
        self._excuse(now)
        for node in self.membership.expired(now):
            self._lose(node, "its lease ended", now, out)
        self._settle(now, out)

    def handle(self, event: ev.Event, now: float, out: Effects) -> None:
        """Something happened; afterwards every job takes what steps it can."""
        self._excuse(now)
        match event:
            case ev.Received(sender=sender, message=message):
                self.membership.heard(sender, now)
                self._received(sender, message, now, out)
                if isinstance(message, ROUTINE) and self._may_wait(now):
                    return
            case ev.GenerationRaised(generation=generation):
                self._raised(Generation(generation), now, out)
            case ev.JobSubmitted(spec=spec):
                self._submitted(spec, now, out)
            case ev.StopRequested(job=job_id):
                if (job := self.jobs.get(job_id)) is not None:
                    job.stop(now, out)
            case ev.NodeExited(node=node):
                self._lose(node, "its process ended", now, out)
            case ev.PeerUnreachable(node=node) | ev.LinkOverflowed(node=node):
                self._suspect(node, "the coordinator", now)
            case ev.LaunchMeasured(job=job_id, group=group, plan_s=plan_s, carry_out_s=carry_out_s):
                if (job := self.jobs.get(job_id)) is not None:
                    job.sizing.launch_measured(group, plan_s, carry_out_s)
                return
            case _:
                return
        self._settle(now, out)

    def _excuse(self, now: float) -> None:
        """A lease that ended a while ago, and is looked at now: it was we who did not listen.

        The ledger was away, which is awaited before anything else, or this process was stopped. What members
        said meanwhile waits, is repeated, or is said again: they have a lease's time for that.
        """
        due = self.membership.next_deadline()
        if due is not None and now - due > HELD_UP_S:
            self.membership.excuse(now)
            text = f"for {now - due:.1f} s after a lease ended; nobody is lost for that"
            self.story.tell(now, "CoordinatorHeldUp", text)

    # --- messages -------------------------------------------------------------------------

    def _received(self, sender: NodeId, message: msg.Message, now: float, out: Effects) -> None:
        match message:
            case msg.WorkerHello():
                self._worker_joined(message, now, out)
            case msg.SourceHello():
                self._source_joined(message, now, out)
            case msg.Heartbeat(node=node, busy=busy):
                self.stragglers.heard(WorkerId(node), message.stalled_ms, now)
                if not self.membership.renew(node, busy, now):
                    self._answer_stranger(sender, out)
                for job in self.jobs.values():
                    job.heard(WorkerId(node), busy, now)
            case msg.PeerSuspected(node=node, peer=peer):
                self._suspect(peer, node, now)
            case msg.Left(worker=worker, reason=reason):
                self._lose(NodeId(worker), f"it was asked to stop and has gone, {reason}", now, out)
            case _:
                self._job_message(message, now, out)

    def _job_message(self, message: msg.Message, now: float, out: Effects) -> None:
        job = self.jobs.get(getattr(message, "job", JobId("")))
        if job is None or job.phase not in ACTIVE:
            return
        match message:
            case msg.DoneReport():
                job.reported(message)
                job.compare(self.stragglers, message, now)
            case msg.Halted():
                job.resizing.heard(message)
            case msg.SnapshotStored(snapshot=snapshot, seconds=seconds):
                job.checkpoints.stored(snapshot)
                job.rhythm.stored(snapshot, seconds)
            case msg.Prepared(worker=worker):
                job.newcomers.prepared(worker)
                return
            case msg.SnapshotDamaged():
                job.snapshot_damaged(message, now, out)
                return
            case msg.SealedReport(source=source):
                job.sealed[source] = message
                if not message.ended or message.generation != job.generation:
                    return
                job.ended_at.setdefault(source, message.batch)
            case msg.TaskFailed(error=error):
                if message.generation < job.generation:
                    return  # said in a generation that has been replaced; it will be tried anew
                text = f"{error.kind}: {error.message}\n{error.traceback}"
                job.end(JobPhase.FAILED, text, now, out)
                return
            case msg.Overdue():
                answer_overdue(job, message, self.story, now, out)
                return
            case _:
                return
        job.advance(now, out)

    def _answer_stranger(self, sender: NodeId, out: Effects) -> None:
        """A node that is no member speaks as if it were one.

        Either we are new: then any word of ours shows it our new life, and it says hello with all
        that it holds. Or its lease ended: a worker was refused before it got here, and a source,
        which never loses its log, is asked to say hello again.
        """
        out.send_once(sender, msg.Peers(()))
        if self.membership.was_source(sender):
            out.send_once(sender, msg.Refused(self.generation, "its lease ended"))

    def _worker_joined(self, hello: msg.WorkerHello, now: float, out: Effects) -> None:
        node = NodeId(hello.worker)
        known = self.membership.members.get(node)
        if hello.leaving and (known is None or not known.leaving):
            self.story.tell(now, "WorkerLeaving", f"{node} was asked to stop")
        news = self.membership.join(
            node, hello.address, is_worker=True, size=hello.slots, now=now, leaving=hello.leaving
        )
        self._greet(node, hello.address, now, out, news=news)
        for holding in hello.jobs:
            job = self.jobs.get(holding.job)
            if job is None or job.phase not in ACTIVE:
                out.send(node, msg.StopJob(holding.job, self.generation, "the job has ended"))
            else:
                job.hear_holding(hello.worker, holding)

    def _source_joined(self, hello: msg.SourceHello, now: float, out: Effects) -> None:
        node = NodeId(hello.source)
        news = self.membership.join(node, hello.address, is_worker=False, size=hello.partitions, now=now)
        self._greet(node, hello.address, now, out, news=news)
        for holding in hello.jobs:
            job = self.jobs.get(holding.job)
            if job is None or job.phase not in ACTIVE:
                out.send(node, msg.StopJob(holding.job, self.generation, "the job has ended"))
        for job in self.jobs.values():
            if job.awaiting_until is None:
                job.tell_source(hello.source, out)

    def _greet(self, node: NodeId, address: str, now: float, out: Effects, *, news: bool) -> None:
        """Welcome a node, and let everybody know where everybody answers."""
        out.start(act.LearnPeer(node, address))
        out.send(node, msg.Welcome(self.generation, int(self.settings.lease_s * 1000)))
        members = self.membership.members.values()
        everyone = tuple(msg.Peer(m.node, m.address) for m in members)
        out.send(node, msg.Peers(everyone))
        if news:
            self.story.tell(now, "NodeJoined", f"{node} at {address}")
            newcomer = msg.Peers((msg.Peer(node, address),))
            for member in members:
                if member.node != node:
                    out.send(member.node, newcomer)

    def _suspect(self, peer: NodeId, by: str, now: float) -> None:
        if self.membership.suspect(peer):
            self.suspicions += 1
            self.story.tell(now, "NodeSuspected", f"{peer} could not be reached by {by}")

    # --- verdicts and generations ---------------------------------------------------------

    def _lose(self, node: NodeId, why: str, now: float, out: Effects) -> None:
        member = self.membership.members.get(node)
        if member is None or not self.membership.lose(node):
            return
        if member.dismissed and not any(job.owns(WorkerId(node)) for job in self.jobs.values()):
            self.story.tell(now, "WorkerLeft", f"{node}: {why}")
            out.forget(node)
            return
        kind = "WorkerLost" if member.is_worker else "SourceLost"
        self.story.tell(now, kind, f"{node}: {why}")
        if member.is_worker:
            self.lost_workers += 1
            out.forget(node)
            for job in self.jobs.values():
                job.lose(WorkerId(node), now)

    def _submitted(self, spec: JobSpec, now: float, out: Effects) -> None:
        known = self.jobs.get(spec.job)
        if known is not None and known.phase in ACTIVE:
            return
        job = self.jobs[spec.job] = CoordinatorJob(spec, self.story)
        out.put(job_key(spec.job, "spec"), JobRecord(spec, job.phase, ()))
        self.story.tell(now, "JobSubmitted", f"{len(spec.stages)} stages", spec.job)
        self._drop_ended(out)

    def _drop_ended(self, out: Effects) -> None:
        ended = [name for name, job in self.jobs.items() if job.phase not in ACTIVE]
        for name in ended[: max(0, len(ended) - ENDED_JOBS_KEPT_MAX)]:
            del self.jobs[name]
            out.delete(job_key(name, "spec"))

    def _may_wait(self, now: float) -> bool:
        """Whether a report can go without a look at every member, which one soon takes for all of them."""
        jobs = self.jobs.values()
        pending = any(job.wants_plan or job.boundary or job.awaiting_until is not None for job in jobs)
        if pending or now - self._settled_at >= SETTLE_INTERVAL_S:
            return False
        self._settle_at = self._settled_at + SETTLE_INTERVAL_S
        return True

    def _settle(self, now: float, out: Effects) -> None:
        """Jobs that can be placed, or must be placed anew, want a plan; the fence gives its number."""
        self._settled_at, self._settle_at = now, None
        workers = frozenset(WorkerId(m.node) for m in self.membership.staying())
        self._judge(now)
        sources = self._sources()
        wanting = False
        for job in self.jobs.values():
            if job.phase not in ACTIVE:
                continue
            self._end_waiting(job, workers, now)
            job.watch_boundary(now, out)
            job.prepare_newcomers(workers, now, out)
            if not job.generation and workers and job.lay_out(sources):
                job.want_plan("submitted", now)
            elif job.generation and workers:
                self._adapt(job, workers, sources, now, out)
            wanting = wanting or bool(job.wants_plan and workers)
        if wanting and not self._raising:
            self._raising = True
            out.start(act.RaiseGeneration("a job wants a plan"))
        self._dismiss(workers, now, out)
        self._watch_headroom(now)

    def _judge(self, now: float) -> None:
        """Relieve workers that straggle, reinstate those that no longer do; jobs follow at a boundary."""
        staying = self.membership.staying()
        for worker in self.stragglers.welcome_back(staying, now):
            self.story.tell(
                now, "WorkerRelieved", f"{worker}: by the coordinator before; it earns its share back"
            )
        if self._gathering:
            return  # nobody can be spared, and nobody is needed, before it is known who is there
        for worker, reason in self.stragglers.judge(staying, now):
            self.story.tell(now, "WorkerReinstated", f"{worker}: {reason}")
        for worker, reason in self.stragglers.relieve(staying, now):
            self.story.tell(now, "WorkerRelieved", f"{worker}: {reason}; its partitions move")

    @property
    def _gathering(self) -> bool:
        """Whether a new coordinator waits for workers to come back to it."""
        return any(job.awaiting_until is not None for job in self.jobs.values())

    def _watch_headroom(self, now: float) -> None:
        """Warn once while the loss of a worker could not be made up for."""
        found = headroom(self.membership.staying())
        short = is_short(found, before=self.short_of_workers)
        if found is not None and short and not self.short_of_workers:
            text = f"utilisation {found.utilisation:.0%}; above {found.limit:.0%} nobody could stand in"
            self.story.tell(now, "HeadroomLost", text)
        elif self.short_of_workers and not short:
            self.story.tell(now, "HeadroomRegained", "the loss of a worker could be made up for again")
        self.short_of_workers = short

    def _end_waiting(self, job: CoordinatorJob, workers: frozenset[WorkerId], now: float) -> None:
        if job.awaiting_until is None:
            return
        if job.everyone_back() or (job.awaiting_until <= now and workers):
            job.awaiting_until = None
            job.want_plan("coordinator restarted", now)
        elif job.awaiting_until <= now:
            job.awaiting_until = now + self.settings.lease_s

    def _sources(self) -> list[tuple[SourceId, int]]:
        return [(SourceId(node), size) for node, size in self.membership.known_sources()]

    def _adapt(
        self,
        job: CoordinatorJob,
        workers: frozenset[WorkerId],
        sources: list[tuple[SourceId, int]],
        now: float,
        out: Effects,
    ) -> None:
        """Who came gets a share and who leaves gives its share up, at a boundary that is pulled forward."""
        leaving = sorted(m.node for m in self.membership.workers() if m.leaving)
        owners = job.placement.workers()
        left = [node for node in leaving if WorkerId(node) in owners]
        came = sorted(workers - job.planned_workers)
        resize = job.resizing.look(len(workers), now)
        if left:
            job.pull_boundary(f"{', '.join(left)} leaving", now, out)
        elif came and job.newcomers.ready:
            job.pull_boundary(f"{', '.join(came)} joined", now, out)
        elif late := job.unread(sources):
            job.pull_boundary(f"{', '.join(source for source, _ in late)} joined", now, out)
        elif resize and job.newcomers.ready:
            job.pull_boundary(resize, now, out)
        elif job.spec.speculation:
            job.follow(self.stragglers.relieved, workers, now, out)

    def _dismiss(self, staying: frozenset[WorkerId], now: float, out: Effects) -> None:
        """Workers that leave may go when no job needs them, or when nobody is there to take over."""
        for member in self.membership.workers():
            if not member.leaving or member.dismissed:
                continue
            needed = any(job.needs(WorkerId(member.node)) for job in self.jobs.values())
            if needed and (staying or self._gathering):
                continue
            reason = "nobody is left to take over" if needed else "nothing of it is needed any more"
            member.dismissed = True
            self.story.tell(now, "WorkerDismissed", f"{member.node}: {reason}")
            out.send(member.node, msg.Farewell(self.generation, reason))

    def _raised(self, generation: Generation, now: float, out: Effects) -> None:
        self._raising = False
        self.generation = generation
        if not self.membership.staying():
            return
        for job in self.jobs.values():
            if job.wants_plan:
                job.take_in(self._sources(), now)
                job.plan(generation, self._workers_for(job), now, out, self.stragglers.relief())

    def _workers_for(self, job: CoordinatorJob) -> list[tuple[WorkerId, int]]:
        """Who gets a share: everybody who stays.

        Where nothing was lost and this is no boundary, a worker that leaves keeps its share till the
        next boundary, since moving it here would cost a replay.
        """
        keeping = job.boundary is None and job.everyone_back()
        found = [
            (WorkerId(m.node), m.size)
            for m in self.membership.workers()
            if not m.leaving or (keeping and job.owns(WorkerId(m.node)))
        ]
        return job.without_relieved(found, self.stragglers.relieved)

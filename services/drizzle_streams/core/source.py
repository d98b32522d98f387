"""The source machine: seals batches on time, offers them, replays the same (laws 4 and 5).

It asks nobody inside a group: the launch says when each batch is due, the placement says who
gets it. A source that restarts finds its bounds on disk and is told by the coordinator what
the owners have yet to compute.
"""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.source_job import SEAL_RETRY_S, SourceJob
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import COORDINATOR, Generation, JobId, NodeId, SourceId, StageId
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts

HELLO_INTERVAL_S = 0.5
HEARTBEATS_PER_LEASE = 5
SEALED_REPORT_INTERVAL_S = 0.25


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What a source is told at start; it holds `partitions` partitions of every stream."""

    source: SourceId
    address: str
    partitions: int


class Source:
    """Decides for one life of a source process."""

    def __init__(self, settings: SourceSettings) -> None:
        self.settings = settings
        self.jobs: dict[JobId, SourceJob] = {}
        self.refused = 0
        self.welcomed = False
        self._lease_s = 0.0
        self._beat_at = 0.0
        self._seal_at: float | None = None
        self._copy_at: float | None = None
        self._news = False
        self._report_at: float | None = None
        self._unreported: dict[JobId, msg.SealedReport] = {}

    def recover(
        self, job: JobId, born: Generation, stage: StageId, bounds: tuple[Bounds, ...], now: float
    ) -> None:
        """Bounds of a run found on disk at start."""
        known = self.jobs.setdefault(job, SourceJob(self.settings.source, job))
        known.recover(born, stage, bounds, now)

    # --- role -----------------------------------------------------------------------------

    def refuses(self, _sender: NodeId, /) -> msg.Message | None:
        """A source hears everybody; fencing is per job and generation."""
        return None

    def next_deadline(self) -> float | None:
        """Heartbeat or hello, the next batch's time, the coalesced report, the next task that is late."""
        times = [self._beat_at]
        times += [t for t in (self._seal_at, self._report_at, self._copy_at) if t is not None]
        return min(times)

    def on_deadline(self, now: float, out: Effects) -> None:
        """Say that we live; seal what is due; report what was sealed."""
        if self._beat_at <= now:
            self._beat(now, out)
        if self._report_at is not None and self._report_at <= now:
            self._report(out)
        self._seal_due(now, out)

    def handle(self, event: ev.Event, now: float, out: Effects) -> None:
        """Something happened; afterwards whatever is due is sealed."""
        self._take(event, now, out)
        if not (isinstance(event, ev.Received) and event.more):
            self._seal_due(now, out)

    def _take(self, event: ev.Event, now: float, out: Effects) -> None:
        match event:
            case ev.Received(message=message):
                self._received(message, now, out)
            case ev.PeerRestarted(node=node):
                if node == COORDINATOR:
                    self._hello(now, out)
            case ev.LinkOverflowed(node=node):
                if node == COORDINATOR:
                    self._hello(now, out)
                else:
                    self._suspect(node, out)
            case ev.PeerUnreachable(node=node):
                if node != COORDINATOR:
                    self._suspect(node, out)
            case ev.BatchesSealed():
                self._news = self._copy_at is None
                self._sealed(event, now, out)
            case ev.SealFailed(job=job_id, stage=stage):
                if (job := self.jobs.get(job_id)) is not None and stage in job.readings:
                    job.readings[stage].sealing = None
                    job.readings[stage].retry_at = now + SEAL_RETRY_S
            case _:
                return

    # --- messages -------------------------------------------------------------------------

    def _received(self, message: msg.Message, now: float, out: Effects) -> None:
        match message:
            case msg.Welcome(lease_ms=lease_ms):
                self.welcomed = True
                self._lease_s = lease_ms / 1000.0
                self._beat_at = now + self._lease_s / HEARTBEATS_PER_LEASE
            case msg.Refused():
                self.welcomed = False
                self._beat_at = now + HELLO_INTERVAL_S
            case msg.Peers(peers=peers):
                for peer in peers:
                    if peer.node != NodeId(self.settings.source):
                        out.start(act.LearnPeer(peer.node, peer.address))
            case msg.Assign(spec=spec):
                job = self.jobs.setdefault(spec.job, SourceJob(self.settings.source, spec.job))
                if message.generation >= job.generation:
                    job.assign(message, out)
                else:
                    self.refused += 1
            case msg.StopJob(job=job_id):
                if (known := self.jobs.pop(job_id, None)) is not None:
                    out.start(act.ReleaseInput(job_id, known.born or Generation(0)))
            case _:
                self._job_message(message, now, out)

    def _job_message(self, message: msg.Message, now: float, out: Effects) -> None:
        job = self.jobs.get(getattr(message, "job", JobId("")))
        if job is None or getattr(message, "generation", -1) < job.generation:
            self.refused += 1
            return
        match message:
            case msg.Launch():
                job.launch(message)
            case msg.Cut():
                job.cut(message)
            case msg.Committed(batch=batch):
                job.commit(batch, out)
            case msg.Taken():
                job.taken(message, now)
            case msg.Reannounce(partitions=partitions, first=first, to=to):
                for reading in job.readings.values():
                    if reading.stage == message.stage:
                        mine = tuple(p for p in partitions if p in reading.partitions)
                        job.offer_again(reading, mine, to, out, first)
            case _:
                self.refused += 1

    # --- sealing --------------------------------------------------------------------------

    def _seal_due(self, now: float, out: Effects) -> None:
        self._seal_at = None
        for job in self.jobs.values():
            for due, reading in job.seal_times():
                if due <= now:
                    job.seal(reading, now, out)
                elif self._seal_at is None or due < self._seal_at:
                    self._seal_at = due
            if (halted := job.halted()) is not None:
                out.send(COORDINATOR, halted)
        if self._may_be_late(now):
            late = [job.copy_late(now, out) for job in self.jobs.values()]
            self._copy_at = min((at for at in late if at is not None), default=None)
            self._news = False

    def _may_be_late(self, now: float) -> bool:
        """Whether to look for late tasks: most events change nothing about them."""
        due = self._copy_at is not None and self._copy_at <= now
        return due or self._news or any(job.awaits_backup() for job in self.jobs.values())

    def _sealed(self, event: ev.BatchesSealed, now: float, out: Effects) -> None:
        job = self.jobs.get(event.job)
        if job is None or event.stage not in job.readings:
            return
        job.sealed_batches(event, now, out)
        records = sum(b.records for b in event.bounds)
        known = self._unreported.get(event.job)
        if known is not None:
            records += known.records
        self._unreported[event.job] = msg.SealedReport(
            event.job,
            job.generation,
            self.settings.source,
            event.last,
            records,
            event.backlog,
            job.copied(),
            job.ended,
        )
        if self._report_at is None:
            self._report_at = now + SEALED_REPORT_INTERVAL_S

    # --- membership and reports -----------------------------------------------------------

    def _beat(self, now: float, out: Effects) -> None:
        if not self.welcomed:
            self._hello(now, out)
            return
        self._beat_at = now + self._lease_s / HEARTBEATS_PER_LEASE
        out.send_once(COORDINATOR, msg.Heartbeat(NodeId(self.settings.source), 0.0))

    def _hello(self, now: float, out: Effects) -> None:
        self.welcomed = False
        self._beat_at = now + HELLO_INTERVAL_S
        jobs = tuple(parts.SourceHolding(job.job, job.sealed) for job in self.jobs.values())
        hello = msg.SourceHello(self.settings.source, self.settings.address, self.settings.partitions, jobs)
        out.send(COORDINATOR, hello)

    def _suspect(self, peer: NodeId, out: Effects) -> None:
        out.send_once(COORDINATOR, msg.PeerSuspected(NodeId(self.settings.source), peer))

    def _report(self, out: Effects) -> None:
        self._report_at = None
        for report in self._unreported.values():
            out.send(COORDINATOR, report)
        self._unreported = {}

"""A worker's membership: it introduces itself, says that it lives, and leaves when it is asked to."""

from __future__ import annotations

from drizzle_streams.core import actions as act
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.stalls import StallWatch
from drizzle_streams.core.worker_slots import WorkerSettings, WorkerSlots
from drizzle_streams.model.ids import COORDINATOR, JobId, NodeId
from drizzle_streams.model.task import TaskError
from drizzle_streams.protocol import messages as msg

HELLO_INTERVAL_S = 0.5

ALONE_S_MAX = 1.0
"""A worker that leaves while no coordinator can be reached waits so long for one."""

HEARTBEATS_PER_LEASE = 5


class WorkerMember(WorkerSlots):
    """The middle layer of a worker: one life in the cluster."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings)
        self.rejoining = False
        self.leaving = False
        self.welcomed = False
        self._alone_at: float | None = None
        self._lease_s = 0.0
        self._beat_at = 0.0
        self._beat_slot_s = 0.0
        self._beat_from = 0.0
        self._failures: dict[JobId, TaskError] = {}
        self._stalls = StallWatch()

    def _welcomed(self, lease_s: float, now: float) -> None:
        self.welcomed = True
        self._lease_s = lease_s
        self._beat_at = now + lease_s / HEARTBEATS_PER_LEASE

    def _beat(self, now: float, out: Effects) -> None:
        if not self.welcomed:
            self._hello(now, out)
            return
        self._beat_at = now + self._lease_s / HEARTBEATS_PER_LEASE
        beat = msg.Heartbeat(NodeId(self.settings.worker), self._busy(now), self._stalls.take_ms())
        out.send_once(COORDINATOR, beat)

    def _beat_along(self, now: float, out: Effects) -> None:
        """Beat early, where it saves a frame: with what is said anyway, once half of the time has passed."""
        if self.welcomed and self._beat_at - now <= self._lease_s / HEARTBEATS_PER_LEASE / 2:
            self._beat(now, out)

    def _busy(self, now: float) -> float:
        """The share of slot time spent in tasks since the last heartbeat."""
        spent, span = self.slot_seconds(now), now - self._beat_from
        busy = (spent - self._beat_slot_s) / (span * self.settings.slots) if span > 0 else 0.0
        self._beat_slot_s, self._beat_from = spent, now
        return min(1.0, busy)

    def _hello(self, now: float, out: Effects) -> None:
        """Introduce ourselves, with everything we hold; the coordinator may be a new one."""
        self.welcomed = False
        self._beat_at = now + HELLO_INTERVAL_S
        holdings = tuple(job.holding() for job in self.jobs.values())
        hello = msg.WorkerHello(
            self.settings.worker, self.settings.address, self.settings.slots, holdings, self.leaving
        )
        out.send(COORDINATOR, hello)
        for job_id, error in self._failures.items():
            if (job := self.jobs.get(job_id)) is not None:
                out.send(COORDINATOR, msg.TaskFailed(job_id, job.generation, self.settings.worker, error))

    # --- leaving --------------------------------------------------------------------------

    def _leave(self, now: float, out: Effects) -> None:
        """Asked to stop: have our partitions moved first. Who was never welcomed holds nothing."""
        if self._lease_s == 0.0:
            self._depart("it was no member yet", out)
        elif not self.leaving:
            self.leaving = True
            self._hello(now, out)

    def _wait_alone(self, now: float) -> None:
        if self.leaving and self._alone_at is None:
            self._alone_at = now + ALONE_S_MAX

    def _depart(self, reason: str, out: Effects) -> None:
        """This life is over, and no other follows."""
        if self.leaving or self._lease_s == 0.0:
            self.rejoining = True
            # Once: nobody is there to repeat it. If it does not arrive, the lease tells it later.
            out.send_once(COORDINATOR, msg.Left(self.settings.worker, reason))
            out.start(act.Depart(reason))

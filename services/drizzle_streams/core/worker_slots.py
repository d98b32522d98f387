"""A worker's slots: which task runs next, and how busy they are.

Slots bound how many tasks run at once; older batches first, later stages first; a cohort that replays never
takes two turns in a row while one that does not is ready, so surviving partitions go on during a recovery.
"""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.core.cohorts import Cohort
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.model.ids import BatchId, JobId, WorkerId

AWAITED_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is told at start; `slots` tasks run at once."""

    worker: WorkerId
    address: str
    slots: int = 1
    awaited_timeout_s: float = AWAITED_TIMEOUT_S


class WorkerSlots:
    """The lowest layer of a worker: its jobs, and what of them runs."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.jobs: dict[JobId, WorkerJob] = {}
        self.pressed = False
        self._running = 0
        self._replayed_last = False
        self._slot_s = 0.0
        self._slots_from = 0.0

    def _run_ready(self, out: Effects, now: float) -> None:
        while self._running < self.settings.slots:
            if any(job.run_copy(out) for job in self.jobs.values()):
                self._slots_change(now, by=1)
                continue
            pressed = self.pressed
            found = [(job, cohort) for job in self.jobs.values() for cohort in job.ready(pressed=pressed)]
            if not found:
                return
            job, cohort = min(found, key=lambda pair: self._turn(*pair))
            self._replayed_last = job.replays(cohort)
            self._slots_change(now, by=1)
            job.run(cohort, out)

    def _turn(self, job: WorkerJob, cohort: Cohort) -> tuple[bool, BatchId, int]:
        """Smaller goes first: no replay after a replay, then the oldest batch, then the last stage."""
        return (self._replayed_last and job.replays(cohort), cohort.next, -cohort.stage)

    def _slot_freed(self, now: float) -> None:
        self._slots_change(now, by=-1)

    def _slots_change(self, now: float, *, by: int) -> None:
        self._slot_s, self._slots_from = self.slot_seconds(now), now
        self._running += by

    def slot_seconds(self, now: float) -> float:
        """Slot time spent in tasks so far: two tasks that run for a second are two seconds."""
        return self._slot_s + self._running * (now - self._slots_from)

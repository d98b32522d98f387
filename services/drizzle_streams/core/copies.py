"""Copies of other workers' tasks that this worker was offered: see `core.speculation` for who decides.

A copy runs before anything else that is ready, since its batch is older than whatever is next here and
somebody waits for it. It belongs to no cohort: it makes blocks, announces them, and says so to the source.
What came for it may not be let go of while it waits or runs. A new generation drops all copies: what
runs ends as nobody's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from drizzle_streams.core.actions import Fragment, Piece, RunTask
from drizzle_streams.model.ids import BatchId, CohortId, JobId, StageId
from drizzle_streams.model.task import TaskKey

COPIES_WAITING_MAX = 16
"""Copies that wait for a slot; further ones are not taken, and their owners will have done them."""


def copy_cohort(stage: StageId) -> CohortId:
    """The number under which copies of a stage run; cohorts are numbered from 1."""
    return CohortId(-1 - stage)


@dataclass(slots=True)
class CopyTask:
    """One copy. `here`: its input has come."""

    fragment: Fragment
    sealed_at_ms: float
    here: bool

    @property
    def stage(self) -> StageId:
        """The stage it computes."""
        return self.fragment.downstream


@dataclass(slots=True)
class CopyTasks:
    """The copies of one job on one worker."""

    waiting: dict[Fragment, CopyTask] = field(default_factory=dict[Fragment, CopyTask])
    running: dict[StageId, CopyTask] = field(default_factory=dict[StageId, CopyTask])
    dropped: set[StageId] = field(default_factory=set[StageId])

    def offer(self, copy: CopyTask) -> bool:
        """Take a copy; False if there are too many, or if it is known."""
        known = copy.fragment in self.waiting or copy.fragment in (c.fragment for c in self.running.values())
        if known or len(self.waiting) >= COPIES_WAITING_MAX:
            return False
        self.waiting[copy.fragment] = copy
        return True

    def arrived(self, fragment: Fragment) -> bool:
        """Pulled input is here; True if it was for a copy."""
        copy = self.waiting.get(fragment)
        if copy is not None:
            copy.here = True
        return copy is not None

    def lost(self, fragment: Fragment) -> None:
        """Its input could not be pulled: nothing is kept for it any more, and its owner will have done it."""
        if fragment in self.waiting and not self.waiting[fragment].here:
            del self.waiting[fragment]

    def start(self, job: JobId) -> RunTask | None:
        """The oldest copy that can run, as a task; None if there is none."""
        ready = [c for c in self.waiting.values() if c.here and c.stage not in self.running]
        copy = min(ready, key=lambda c: c.fragment.batch, default=None)
        if copy is None:
            return None
        del self.waiting[copy.fragment]
        self.running[copy.stage] = copy
        fragment = copy.fragment
        key = TaskKey(job, copy.stage, copy_cohort(copy.stage), fragment.batch)
        piece = Piece(fragment, fragment.partitions, fragment.partitions)
        return RunTask(key, fragment.partitions, (piece,), copy.sealed_at_ms)

    def ended(self, key: TaskKey) -> CopyTask | None:
        """A task has ended: the copy that it was, or None if it was none or is nobody's."""
        copy = self.running.get(key.stage)
        if copy is None or key.cohort != copy_cohort(key.stage) or copy.fragment.batch != key.batch:
            return None
        del self.running[key.stage]
        if key.stage in self.dropped:
            self.dropped.remove(key.stage)
            return None
        return copy

    def keeps_from(self, stage: StageId) -> BatchId | None:
        """The oldest batch whose input is still needed here."""
        copies = [*self.waiting.values(), *self.running.values()]
        return min((c.fragment.batch for c in copies if c.stage == stage), default=None)

    def clear(self) -> None:
        """A new generation: what waits is dropped, what runs still reads its input."""
        self.waiting.clear()
        self.dropped.update(self.running)

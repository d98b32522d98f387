"""What of one job a worker may begin, and what it tells the coordinator about it.

The middle layer of `worker_job`. Launches only widen what may begin; a cut takes back what has not
begun. Reports go by ranges, coalesced, everything once after a new generation.
"""

from __future__ import annotations

from drizzle_streams.core import actions as act
from drizzle_streams.core.cohorts import Cohort
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.planner import launches_next
from drizzle_streams.core.pressure import DOUBT_AFTER_S
from drizzle_streams.core.worker_blocks import JobBlocks
from drizzle_streams.model.ids import BatchId, StageId
from drizzle_streams.model.job import Scheduling
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts

SEEN_BATCHES_MIN = 40
"""Batches of stages that are summed up before they are reported: statistics need not come soon."""


class JobLaunches(JobBlocks):
    """One job on one worker, as far as it is launched, cut, stored and reported."""

    def launch(self, launch: msg.Launch, now: float) -> None:
        """A group is pre-scheduled: every stage may run its batches as their input comes."""
        self.snapshot_every = launch.snapshot_every
        self.notify_through = max(self.notify_through, launch.last)
        self.granted = max(self.granted, launch.last)
        if launch.group >= self.group:
            self.chosen = launch.chosen
            self.launches_next = launches_next(self.spec, launch.last, launch.interval_ms)
        self.group = max(self.group, launch.group)
        self.boundary = None
        for stage in self.spec.stages:
            self._launch(stage.stage, launch.last, now)

    def cut(self, cut: msg.Cut, out: Effects) -> None:
        """The group ends early: begin nothing beyond `last`, store state there, report at once."""
        if cut.group < self.group:
            return  # a group has been launched since
        self.boundary = cut.last
        for stage, launched in enumerate(self.launched):
            # In barrier mode stages are launched one by one, and none beyond the group.
            barrier = self.spec.scheduling is Scheduling.BARRIER
            self.launched[stage] = min(launched if barrier else self.granted, cut.last)
        for cohort in self.cohorts.values():
            if cohort.open and not cohort.running and cohort.computed == cut.last:
                self._store(cohort, out)
        self.report_due = True

    def launch_stage(self, launch: msg.LaunchStage, now: float, out: Effects) -> None:
        """Barrier mode: one stage of one batch may run; its blocks lie where `available` says."""
        self.snapshot_every = launch.snapshot_every
        if self.boundary is not None and launch.batch > self.boundary:
            self.boundary = None
        self._launch(launch.stage, launch.batch, now)
        mine = self.placement.held_by(self.worker, launch.stage)
        for line in launch.available:
            ready = self._ready(line, launch.stage, mine)
            if line.worker == self.worker:
                self._local_blocks(ready)
            else:
                self.blocks_ready(ready, carried=False, out=out)

    def _launch(self, stage: StageId, last: BatchId, now: float) -> None:
        for cohort in self._of_stage(stage):
            if cohort.next > self.launched[stage]:
                cohort.waiting_since = now
        self.launched[stage] = max(self.launched[stage], last)

    @property
    def report_awaited(self) -> bool:
        """Whether the coordinator waits for just this report, so that it must not wait for others."""
        if self.spec.scheduling is not Scheduling.GROUP or self.boundary is not None:
            return True
        return not self.spec.pipelined and self._ran_out

    @property
    def runs_out(self) -> bool:
        """Whether the next group may wait for this report, and half of what was launched since is done."""
        if self._report_whole:
            return True
        cohorts = self.cohorts.values()
        if all(c.reported >= self.launches_next for c in cohorts):
            return False  # what it is launched by is known of us
        return all(c.done >= self.launches_next for c in cohorts) and any(
            2 * (self.launched[c.stage] - c.done) <= self.launched[c.stage] - c.reported for c in cohorts
        )

    @property
    def _ran_out(self) -> bool:
        """Whether all that is launched is done."""
        return all(cohort.done >= self.launched[cohort.stage] for cohort in self.cohorts.values())

    def report(self) -> msg.DoneReport:
        """What has been done since the last report, by ranges; everything after a new generation."""
        whole, self._report_whole = self._report_whole, False
        done: list[parts.Done] = []
        for cohort in self.cohorts.values():
            if whole or cohort.done > cohort.reported:
                first = BatchId(cohort.reported + 1)
                done.append(parts.Done(cohort.stage, cohort.partitions, first, cohort.done))
                cohort.reported = cohort.done
        latencies = self.latencies.take()
        lateness, self.lateness = tuple(self.lateness), []
        self.report_due = False
        ripe = sum(seen.batches for seen in self.seen.values()) >= SEEN_BATCHES_MIN
        seen = tuple(self.seen.values()) if ripe else ()
        if ripe:
            self.seen = {}
        return msg.DoneReport(
            self.spec.job, self.generation, self.worker, tuple(done), latencies, whole, lateness, seen
        )

    def holding(self) -> parts.JobHolding:
        """What this worker holds: the version of every partition whose state is here."""
        done = tuple(
            parts.Done(c.stage, c.partitions, BatchId(c.done + 1), c.done)
            for c in self.cohorts.values()
            if c.open
        )
        return parts.JobHolding(self.spec.job, self.generation, done)

    def overdue(self, cohort: Cohort) -> tuple[parts.Missing, ...]:
        """What the cohort's next task still awaits."""
        table = self.arrivals[cohort.stage]
        if self.spec.stages[cohort.stage].stream is not None:
            return table.missing_input(cohort.next, act.INPUT, cohort.mask)
        return table.missing(cohort.next, self.awaited[cohort.stage].at(cohort.next), cohort.mask)

    def doubt(self, cohort: Cohort, now: float) -> None:
        """Memory is full and only a commit is missing, for too long: its checkpoint may never be whole."""
        if now - self.newest_at >= DOUBT_AFTER_S:
            self.doubtful = max(self.doubtful, cohort.computed)
            self.newest_at = now

    def _store(self, cohort: Cohort, out: Effects) -> None:
        """Have the state stored at the batch where the cohort stands, once."""
        if self.spec.stages[cohort.stage].stateful and cohort.stored < cohort.computed:
            cohort.stored = cohort.computed
            out.start(act.TakeSnapshot(self.spec.job, cohort.stage, cohort.cohort, cohort.computed))

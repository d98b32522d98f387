"""One run of a job on this worker: its program, its cohorts, its sinks.

Whatever is started for a run ends in exactly one event, through `JobRun.post`. The exception is
a run that was forgotten: the machine no longer knows what the events speak of, and a new run of
the same name may use the same cohort numbers. So nothing of a forgotten run is told, but that
its tasks have ended, under no cohort's number: their slots are free.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress

from drizzle_streams.core import events as ev
from drizzle_streams.engine.state import StageState
from drizzle_streams.model.ids import BatchId, CohortId, JobId, StageId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.task import TaskError, TaskKey
from drizzle_streams.worker.bench import Bench
from drizzle_streams.worker.brevity import Brevity
from drizzle_streams.worker.chains import Chain
from drizzle_streams.worker.cohorts import Cohort
from drizzle_streams.worker.outputs import StageSink
from drizzle_streams.worker.programs import LoadedStage
from drizzle_streams.worker.snapshots import SnapshotLine, SnapshotNames

NO_COHORT = CohortId(0)
"""Cohorts are numbered from 1."""

PARTED_STATES_MAX = 64
"""States kept aside of partitions that moved away; the oldest go."""

PARTING_S_MAX = 2.0
"""Who takes over waits so long for what is being given up; the checkpoint has the same."""


class JobRun:
    """What operations on a run work with; used on the event loop only."""

    def __init__(self, spec: JobSpec, bench: Bench) -> None:
        self.spec = spec
        self.bench = bench
        self.forgotten = False
        self.stages: tuple[LoadedStage, ...] = ()
        self.sinks: dict[StageId, StageSink] = {}
        self.cohorts: dict[CohortId, Cohort] = {}
        self.brevities: defaultdict[StageId, Brevity] = defaultdict(Brevity)
        self.parted: list[tuple[StageId, StageState]] = []
        """State of partitions that were given up, oldest first: their new owner may ask for it."""
        self.closing: list[asyncio.Event] = []
        """Set when a cohort that is closed has put its state among `parted`."""
        self.load_error: TaskError | None = None
        self.load_ended = asyncio.Event()
        """Set when the program is ready, or has failed, or is not wanted any more."""
        self.ended = asyncio.Event()
        """Set when the run is forgotten: what waits for something of it need not."""

    def loaded(self, stages: tuple[LoadedStage, ...], sinks: dict[StageId, StageSink]) -> None:
        """The program is ready; of a run that was forgotten meanwhile nothing is kept."""
        if self.forgotten:
            return
        self.stages, self.sinks = tuple(stage.laid_out(self.spec) for stage in stages), sinks
        # From 0 on, or the first count would be no increase to who watches.
        for counted in (self.bench.metrics.late_records, self.bench.metrics.dead_letters):
            counted.of(self.spec.job)
        self.load_ended.set()
        self.post(ev.ProgramLoaded(self.spec.job))

    def load_failed(self, error: TaskError) -> None:
        """The program cannot be had."""
        self.load_error = error
        self.load_ended.set()
        self.post(ev.ProgramFailed(self.spec.job, error))

    def new_cohort(self, stage: StageId, number: CohortId) -> Cohort:
        """A cohort without state."""
        bench, run = self.bench, self.spec.run
        names = SnapshotNames(stage, bench.role.settings.worker, number)
        cohort = Cohort(
            number,
            stage,
            Chain(bench.tasks, f"cohort {number} of {run}"),
            Chain(bench.tasks, f"snapshots of cohort {number} of {run}"),
            SnapshotLine(JobId(run), names, bench.snapshots, bench.threads),
        )
        self.cohorts[number] = cohort
        return cohort

    def lay_out(self, spec: JobSpec) -> None:
        """Stages have other numbers of partitions from here on."""
        self.spec = spec
        self.stages = tuple(stage.laid_out(spec) for stage in self.stages)

    def closes(self, ended: asyncio.Event) -> None:
        """A cohort is closed; the event says when it has given up what it held."""
        self.closing = [*(one for one in self.closing if not one.is_set()), ended]

    async def all_parted(self) -> None:
        """Wait until closed cohorts have given up what they held, `PARTING_S_MAX` at most.

        Who asks for it then finds none, and has the checkpoint.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PARTING_S_MAX):
                for ended in self.closing:
                    await ended.wait()

    def part(self, stage: StageId, state: StageState) -> None:
        """Keep aside what a cohort gave up."""
        self.parted.append((stage, state))
        del self.parted[:-PARTED_STATES_MAX]

    def drop_parted(self, through: BatchId) -> None:
        """A checkpoint lies behind it: nobody will ask any more."""
        self.parted = [(stage, state) for stage, state in self.parted if state.version >= through]

    def post(self, event: ev.Event) -> None:
        """Tell the machine, unless it has forgotten this run."""
        if not self.forgotten:
            self.bench.post(event)

    def post_forgotten(self, key: TaskKey) -> None:
        """A task of this forgotten run has ended, however: its slot is free."""
        self.bench.post(ev.TaskFinished(TaskKey(key.job, key.stage, NO_COHORT, key.batch)))

    def forget(self) -> None:
        """The run is over here: sinks are closed, nothing more is told."""
        self.forgotten = True
        self.cohorts.clear()
        self.parted.clear()
        self.ended.set()
        self.load_ended.set()
        self.bench.tasks.start(self.close(), f"closing the sinks of {self.spec.run}")

    async def close(self) -> None:
        """Close the sinks."""
        await asyncio.gather(*(sink.close() for sink in self.sinks.values()))

    def observe_latency(self, stage: StageId, sealed_at_ms: float) -> None:
        """A stage is done with a batch that was sealed then (cluster ms; 0: not known)."""
        if sealed_at_ms:
            seconds = max(0.0, self.bench.clock.now() - sealed_at_ms / 1000.0)
            self.bench.metrics.batch_latency_seconds.of(self.spec.job, stage).observe(seconds)

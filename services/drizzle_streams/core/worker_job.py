"""One job on one worker: cohorts, arrivals, what is launched, what is announced to whom.

The local scheduler of the paper (section 3.2): a task starts when its cohort stands at the
batch before, the batch is launched, and the last awaited piece is here. Nobody is asked.
All data movement is by ranges and coalesced per (worker, worker, batch).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from drizzle_streams.core import actions as act
from drizzle_streams.core.arrivals import Arrivals, mask_of
from drizzle_streams.core.cohorts import Cohort
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.retained import Retained, Run
from drizzle_streams.model.ids import (
    NO_BATCH,
    BatchId,
    CohortId,
    Generation,
    GroupId,
    NodeId,
    PartitionId,
    StageId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, Scheduling, StageSpec
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.model.task import TaskKey
from drizzle_streams.protocol import messages as msg

EARLY_BATCHES_MAX = 4_096
"""How far beyond the oldest uncomputed batch arrivals are kept; past it they are
refused, and asked for later."""

OUTPUTS_PENDING_MAX = 16
"""Computed batches whose output the sink has not taken; at the bound the cohort waits (back-pressure)."""


NO_GROUP = GroupId(-1)
"""Before the first group."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who awaits blocks: partitions of `downstream` at `owner`, from batch `first` on."""

    downstream: StageId
    owner: WorkerId
    partitions: tuple[PartitionId, ...]
    first: BatchId


class WorkerJob:
    """State of one job; the worker machine dispatches to it."""

    def __init__(self, worker: WorkerId, spec: JobSpec) -> None:
        self.worker = worker
        self.spec = spec
        self.generation = Generation(0)
        self.placement = Placement()
        self.layouts: dict[str, StreamLayout] = {}
        self.loaded = False
        self.failed = False
        self.committed = NO_BATCH
        self.snapshot_every = 1
        self.notify_through = NO_BATCH
        self.launched: list[BatchId] = [NO_BATCH for _ in spec.stages]
        self.group = NO_GROUP
        self.granted = NO_BATCH
        self.boundary: BatchId | None = None
        self.cohorts: dict[CohortId, Cohort] = {}
        self.arrivals = [Arrivals() for _ in spec.stages]
        self.retained = Retained(len(spec.stages))
        self.fetching: set[act.FetchBlocks | act.FetchInput] = set()
        self.report_due = False
        self._report_whole = False
        self.latencies: list[msg.BatchLatency] = []
        self._cohorts_made = 0
        self.upstreams = [tuple((i, spec.stages[i].partitions) for i in s.inputs) for s in spec.stages]

    # --- a new generation -----------------------------------------------------------------

    def assign(self, assign: msg.Assign, now: float, out: Effects) -> None:
        """Take a generation: give up, adopt, and announce what others now need from us."""
        self.generation = assign.generation
        self.boundary = None
        self.failed = False
        self.placement = assign.placement
        self.layouts = {layout.stream: layout for layout in assign.layouts}
        self.commit(assign.committed, out)
        for stage in self.spec.stages:
            mine = assign.placement.held_by(self.worker, stage.stage)
            self._give_up(stage.stage, frozenset(mine), out)
        for adoption in assign.adoptions:
            self._adopt(adoption, now, out)
        for stage in self.spec.stages:
            self._announce_all(stage, assign.needed, out)
        for cohort in self.cohorts.values():
            if self.spec.stages[cohort.stage].stream is not None and cohort.computed >= 0:
                # Credit given in the older generation may have been refused by now.
                self._credit(self.spec.stages[cohort.stage], cohort, cohort.computed, out)
        self.report_due = self._report_whole = True

    def _give_up(self, stage: StageId, mine: frozenset[PartitionId], out: Effects) -> None:
        for cohort in self._of_stage(stage):
            self._drop_from(cohort, frozenset(cohort.partitions) - mine, out)

    def _drop_from(self, cohort: Cohort, dropped: frozenset[PartitionId], out: Effects) -> None:
        kept = tuple(p for p in cohort.partitions if p not in dropped)
        if kept != cohort.partitions:
            cohort.keep(kept)
            out.start(act.KeepPartitions(self.spec.job, cohort.stage, cohort.cohort, kept))
        if not kept:
            del self.cohorts[cohort.cohort]

    def _adopt(self, adoption: msg.Adoption, now: float, out: Effects) -> None:
        """Partitions become a cohort; those held already and not behind are left alone."""
        behind = {c.cohort for c in self._of_stage(adoption.stage) if c.next < adoption.first}
        for cohort in self._of_stage(adoption.stage):
            if cohort.cohort in behind:
                self._drop_from(cohort, frozenset(adoption.partitions), out)
        held = {p for cohort in self._of_stage(adoption.stage) for p in cohort.partitions}
        partitions = tuple(p for p in adoption.partitions if p not in held)
        if partitions:
            self._open(adoption, partitions, now, out)
        for line in adoption.available:
            ready = self._ready(line, adoption.stage, adoption.partitions)
            self.blocks_ready(ready, carried=False, out=out)

    def _open(
        self, adoption: msg.Adoption, partitions: tuple[PartitionId, ...], now: float, out: Effects
    ) -> None:
        self._cohorts_made += 1
        before = BatchId(adoption.first - 1)
        stateful = self.spec.stage(adoption.stage).stateful
        cohort = Cohort(
            cohort=CohortId(self._cohorts_made),
            stage=adoption.stage,
            partitions=partitions,
            computed=before,
            done=before,
            reported=before,
            open=not stateful,
            waiting_since=now,
        )
        self.cohorts[cohort.cohort] = cohort
        if stateful:
            out.start(
                act.OpenCohort(
                    self.spec.job,
                    adoption.stage,
                    cohort.cohort,
                    partitions,
                    before,
                    adoption.snapshots,
                    adoption.formers,
                )
            )

    # --- announcements --------------------------------------------------------------------

    def _announce_all(self, stage: StageSpec, needed: tuple[tuple[BatchId, ...], ...], out: Effects) -> None:
        """Metadata push to the owners of a new generation: retained blocks, by ranges (section 3.3 b)."""
        for below in self.spec.downstream(stage.stage):
            for owner, partitions in self.placement.by_owner(below.stage).items():
                first = min(needed[below.stage][p] for p in partitions)
                self.announce(stage.stage, Wanted(below.stage, owner, partitions, first), None, out)

    def announce(
        self, stage: StageId, wanted: Wanted, only: frozenset[PartitionId] | None, out: Effects
    ) -> None:
        """Say which retained blocks lie here, one line per run of batches."""
        for run in self.retained.runs(stage, wanted.first, only):
            self._tell(stage, wanted, run, out)

    def _tell(self, stage: StageId, wanted: Wanted, run: Run, out: Effects) -> None:
        """To another worker by message; to ourselves at once."""
        line = msg.Available(stage, run.partitions, self.worker, run.first, run.last)
        ready = self._ready(line, wanted.downstream, wanted.partitions, run.sealed_at_ms)
        if wanted.owner == self.worker:
            self._local_blocks(ready)
        else:
            out.send(NodeId(wanted.owner), ready)

    def _ready(
        self,
        line: msg.Available,
        downstream: StageId,
        wanted: tuple[PartitionId, ...],
        sealed_at_ms: float = 0.0,
    ) -> msg.BlocksReady:
        """A line of who holds what, as the announcement it amounts to."""
        return msg.BlocksReady(
            job=self.spec.job,
            generation=self.generation,
            worker=line.worker,
            stage=line.stage,
            partitions=line.partitions,
            downstream=downstream,
            wanted=wanted,
            first=line.first,
            last=line.last,
            sealed_at_ms=sealed_at_ms,
        )

    def _local_blocks(self, ready: msg.BlocksReady) -> None:
        for batch in range(ready.first, ready.last + 1):
            self._arrived(_fragment(ready, BatchId(batch)), ready.sealed_at_ms)

    # --- arrivals -------------------------------------------------------------------------

    def blocks_ready(self, ready: msg.BlocksReady, *, carried: bool, out: Effects) -> None:
        """Blocks lie ready: with the message, or to be pulled from their worker."""
        first = max(ready.first, self._oldest(ready.downstream))
        last = min(ready.last, self._newest(ready.downstream))
        if first > last:
            return
        if carried:
            self._arrived(_fragment(ready, ready.first), ready.sealed_at_ms)
            return
        if ready.worker == self.worker:
            return
        table, wanted = self.arrivals[ready.downstream], mask_of(ready.wanted)
        absent = [
            b
            for b in range(first, last + 1)
            if not table.covers(BatchId(b), ready.stage, ready.partitions, wanted)
        ]
        if absent:
            fetch = act.FetchBlocks(
                ready.job,
                ready.downstream,
                ready.stage,
                ready.worker,
                ready.partitions,
                ready.wanted,
                BatchId(absent[0]),
                BatchId(absent[-1]),
            )
            self._fetch(fetch, out)

    def offered(self, offer: msg.Offer, *, carried: bool, out: Effects) -> None:
        """A sealed batch is offered: its records came along or are pulled from the source.

        What is computed already is credited again: the credit may have been refused with an
        older generation, and a source without credit seals nothing.
        """
        self._credit_again(offer, out)
        if not self._oldest(offer.stage) <= offer.batch <= self._newest(offer.stage):
            return
        partitions = tuple(b.partition for b in offer.bounds)
        fragment = act.Fragment(
            offer.job, offer.stage, act.INPUT, offer.batch, NodeId(offer.source), partitions, partitions
        )
        if carried:
            self._arrived(fragment, offer.sealed_at_ms)
        else:
            self._fetch(act.FetchInput(fragment, offer.source, offer.bounds, offer.sealed_at_ms), out)

    def _credit_again(self, offer: msg.Offer, out: Effects) -> None:
        offered = frozenset(b.partition for b in offer.bounds)
        for cohort in self._of_stage(offer.stage):
            mine = tuple(p for p in cohort.partitions if p in offered)
            if mine and cohort.computed >= offer.batch:
                taken = msg.Taken(
                    self.spec.job, self.generation, self.worker, offer.stage, mine, cohort.computed
                )
                out.send(NodeId(offer.source), taken)

    def _fetch(self, fetch: act.FetchBlocks | act.FetchInput, out: Effects) -> None:
        if fetch not in self.fetching:
            self.fetching.add(fetch)
            out.start(fetch)

    def blocks_fetched(self, fetch: act.FetchBlocks, batches: Iterable[tuple[BatchId, float]]) -> None:
        """Pulled blocks are here."""
        self.fetching.discard(fetch)
        for batch, sealed_at_ms in batches:
            self._arrived(_fragment(fetch, batch), sealed_at_ms)

    def input_fetched(self, fetch: act.FetchInput) -> None:
        """Pulled records are here."""
        self.fetching.discard(fetch)
        self._arrived(fetch.fragment, fetch.sealed_at_ms)

    def _arrived(self, fragment: act.Fragment, sealed_at_ms: float) -> None:
        if self._oldest(fragment.downstream) <= fragment.batch <= self._newest(fragment.downstream):
            self.arrivals[fragment.downstream].add(fragment, sealed_at_ms)

    def _oldest(self, stage: StageId) -> BatchId:
        """The first batch that some local cohort has yet to compute."""
        return BatchId(min((c.computed for c in self._of_stage(stage)), default=self.committed) + 1)

    def _newest(self, stage: StageId) -> BatchId:
        return BatchId(self._oldest(stage) + EARLY_BATCHES_MAX)

    # --- running --------------------------------------------------------------------------

    def ready(self) -> list[Cohort]:
        """Cohorts whose next task can start now."""
        if not self.loaded or self.failed:
            return []
        return [cohort for cohort in self.cohorts.values() if self._can_run(cohort)]

    def _can_run(self, cohort: Cohort) -> bool:
        batch = cohort.next
        if cohort.running or not cohort.open or batch > self.launched[cohort.stage]:
            return False
        if cohort.computed - cohort.done >= OUTPUTS_PENDING_MAX:
            return False
        table = self.arrivals[cohort.stage]
        if self.spec.stages[cohort.stage].stream is not None:
            return table.complete_input(batch, act.INPUT, cohort.mask)
        return table.complete(batch, self.upstreams[cohort.stage], cohort.mask)

    def replays(self, cohort: Cohort) -> bool:
        """Whether other partitions of the stage here are ahead of this cohort."""
        return any(other.computed > cohort.computed for other in self._of_stage(cohort.stage))

    def run(self, cohort: Cohort, out: Effects) -> None:
        """Start the cohort's next task."""
        batch = cohort.next
        table = self.arrivals[cohort.stage]
        sealed_at_ms = table.sealed_at_ms(batch)
        cohort.running = True
        cohort.sealed_at_ms[batch] = sealed_at_ms
        key = TaskKey(self.spec.job, cohort.stage, cohort.cohort, batch)
        out.start(act.RunTask(key, cohort.partitions, table.pieces(batch, cohort.mask), sealed_at_ms))

    def finished(self, key: TaskKey, now: float, out: Effects) -> None:
        """A batch is computed: announce its blocks, write its rows, maybe snapshot, give credit."""
        cohort = self.cohorts.get(key.cohort)
        if cohort is None:
            return
        cohort.running = False
        cohort.computed = key.batch
        cohort.waiting_since = now
        stage = self.spec.stages[cohort.stage]
        sealed_at_ms = cohort.sealed_at_ms.get(key.batch, 0.0)
        if self.spec.downstream(stage.stage):
            self._hand_on(stage, cohort, key.batch, sealed_at_ms, out)
        if stage.stream is not None:
            self._credit(stage, cohort, key.batch, out)
        if (key.batch + 1) % self.snapshot_every == 0 or key.batch == self.boundary:
            self._store(cohort, out)
        if stage.writes_output:
            self._write(cohort, out)
        else:
            self._done(cohort, key.batch, now)
        self._settle(cohort, now, out)

    def _store(self, cohort: Cohort, out: Effects) -> None:
        """Have the state stored at the batch where the cohort stands, once."""
        if self.spec.stages[cohort.stage].stateful and cohort.stored < cohort.computed:
            cohort.stored = cohort.computed
            out.start(act.TakeSnapshot(self.spec.job, cohort.stage, cohort.cohort, cohort.computed))

    def _hand_on(
        self, stage: StageSpec, cohort: Cohort, batch: BatchId, sealed_at_ms: float, out: Effects
    ) -> None:
        self.retained.keep(stage.stage, batch, cohort.partitions, sealed_at_ms)
        if batch > self.notify_through:
            return
        run = Run(batch, batch, cohort.partitions, sealed_at_ms)
        for below in self.spec.downstream(stage.stage):
            for owner, partitions in self.placement.by_owner(below.stage).items():
                self._tell(stage.stage, Wanted(below.stage, owner, partitions, batch), run, out)

    def _credit(self, stage: StageSpec, cohort: Cohort, batch: BatchId, out: Effects) -> None:
        layout = self.layouts[str(stage.stream)]
        by_source: dict[NodeId, list[PartitionId]] = {}
        for partition in cohort.partitions:
            by_source.setdefault(NodeId(layout.owners[partition]), []).append(partition)
        for source, partitions in by_source.items():
            taken = msg.Taken(
                self.spec.job, self.generation, self.worker, stage.stage, tuple(partitions), batch
            )
            out.send(source, taken)

    # --- output, reports, checkpoints -----------------------------------------------------

    def _write(self, cohort: Cohort, out: Effects) -> None:
        if not cohort.writing and cohort.done < cohort.computed:
            cohort.writing = True
            first = BatchId(cohort.done + 1)
            out.start(act.WriteOutput(self.spec.job, cohort.stage, cohort.cohort, first, cohort.computed))

    def output_written(self, cohort_id: CohortId, last: BatchId, now: float, out: Effects) -> None:
        """The sink holds everything up to `last`."""
        cohort = self.cohorts.get(cohort_id)
        if cohort is None:
            return
        cohort.writing = False
        self._done(cohort, last, now)
        self._write(cohort, out)
        self._settle(cohort, now, out)

    def _done(self, cohort: Cohort, last: BatchId, now: float) -> None:
        final = self.spec.stages[cohort.stage].writes_output
        for batch in range(cohort.done + 1, last + 1):
            sealed_at_ms = cohort.sealed_at_ms.pop(BatchId(batch), 0.0)
            if final and sealed_at_ms:
                self.latencies.append(msg.BatchLatency(BatchId(batch), now * 1000.0 - sealed_at_ms))
        cohort.done = last
        self.report_due = True

    def _settle(self, cohort: Cohort, now: float, out: Effects) -> None:
        """Merge with a cohort at the same batch; let go of inputs that nobody here needs."""
        for other in self._of_stage(cohort.stage):
            if other is cohort or not (cohort.settled and other.settled):
                continue
            if other.computed == cohort.computed:
                self._merge(cohort, other, now, out)
        through = BatchId(self._oldest(cohort.stage) - 1)
        if self.arrivals[cohort.stage].release(through):
            out.start(act.ReleaseFragments(self.spec.job, cohort.stage, through))

    def _merge(self, cohort: Cohort, other: Cohort, now: float, out: Effects) -> None:
        cohort.keep(tuple(sorted(cohort.partitions + other.partitions)))
        cohort.reported = BatchId(min(cohort.reported, other.reported))
        cohort.stored = BatchId(max(cohort.stored, other.stored))
        cohort.waiting_since = now
        del self.cohorts[other.cohort]
        out.start(act.MergeCohorts(self.spec.job, cohort.stage, cohort.cohort, other.cohort))

    def commit(self, batch: BatchId, out: Effects) -> None:
        """A checkpoint is durable: blocks behind it are nobody's need any more."""
        if batch <= self.committed:
            return
        self.committed = batch
        self.retained.drop(batch)
        out.start(act.DropBlocks(self.spec.job, batch))

    def launch(self, launch: msg.Launch, now: float) -> None:
        """A group is pre-scheduled: every stage may run its batches as their input comes."""
        self.snapshot_every = launch.snapshot_every
        self.notify_through = max(self.notify_through, launch.last)
        self.granted = max(self.granted, launch.last)
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

    def report(self) -> msg.DoneReport:
        """What has been done since the last report, by ranges; everything after a new generation."""
        whole, self._report_whole = self._report_whole, False
        done: list[msg.Done] = []
        for cohort in self.cohorts.values():
            if whole or cohort.done > cohort.reported:
                first = BatchId(cohort.reported + 1)
                done.append(msg.Done(cohort.stage, cohort.partitions, first, cohort.done))
                cohort.reported = cohort.done
        latencies = tuple(self.latencies)
        self.latencies = []
        self.report_due = False
        return msg.DoneReport(self.spec.job, self.generation, self.worker, tuple(done), latencies, whole)

    def holding(self) -> msg.JobHolding:
        """What this worker holds: the version of every partition whose state is here."""
        done = tuple(
            msg.Done(c.stage, c.partitions, BatchId(c.done + 1), c.done)
            for c in self.cohorts.values()
            if c.open
        )
        return msg.JobHolding(self.spec.job, self.generation, done)

    def overdue(self, cohort: Cohort) -> tuple[msg.Missing, ...]:
        """What the cohort's next task still awaits."""
        table = self.arrivals[cohort.stage]
        if self.spec.stages[cohort.stage].stream is not None:
            return table.missing_input(cohort.next, act.INPUT, cohort.mask)
        return table.missing(cohort.next, self.upstreams[cohort.stage], cohort.mask)

    def _of_stage(self, stage: StageId) -> list[Cohort]:
        return [cohort for cohort in self.cohorts.values() if cohort.stage == stage]


def _fragment(of: msg.BlocksReady | act.FetchBlocks, batch: BatchId) -> act.Fragment:
    """The name of one batch's data in an announcement, or in the fetch that it led to."""
    sender = of.worker if isinstance(of, msg.BlocksReady) else of.sender
    return act.Fragment(of.job, of.downstream, of.stage, batch, NodeId(sender), of.partitions, of.wanted)

"""What has come to a worker for one job, and what is announced to whom (section 3.2, metadata push).

The lowest layer of `worker_job`: the state that all layers share, dependency sets, announcements.
All data movement is by ranges and coalesced per (worker, worker, batch).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.arrivals import Arrivals, mask_of
from drizzle_streams.core.below import SAY_EVERY_BATCHES, say_every
from drizzle_streams.core.cohorts import Cohort
from drizzle_streams.core.copies import CopyTask, CopyTasks
from drizzle_streams.core.fitting import fits
from drizzle_streams.core.late_sources import awaited
from drizzle_streams.core.latencies import Unreported
from drizzle_streams.core.later import Later
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.offered import offered_batches
from drizzle_streams.core.retained import Retained, Run
from drizzle_streams.core.untold import Untold
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
from drizzle_streams.model.job import JobSpec, StageSpec, relaid
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.model.replanning import ChosenFrom, StageSeen
from drizzle_streams.model.task import TaskError
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts

EARLY_BATCHES_MAX = 4_096
"""How far beyond the oldest uncomputed batch arrivals are kept; past it they are
refused, and asked for later."""

NO_GROUP = GroupId(-1)
"""Before the first group."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who awaits blocks: partitions of `downstream` at `owner`, from batch `first` on."""

    downstream: StageId
    owner: WorkerId
    partitions: tuple[PartitionId, ...]
    first: BatchId


class JobBlocks:
    """One job on one worker, as far as blocks and input come and are announced."""

    def __init__(self, worker: WorkerId, spec: JobSpec) -> None:
        self.worker = worker
        self.spec = spec
        self.generation = Generation(0)
        self.placement = Placement()
        self.layouts: dict[str, StreamLayout] = {}
        self.loaded = False
        self.failed = False
        self.load_error: TaskError | None = None
        self.committed = NO_BATCH
        self.snapshot_every = 1
        self.newest = NO_BATCH
        self.newest_at = 0.0
        """When that was committed, the present generation began, or the worker ceased to wait for more."""
        self.doubtful = NO_BATCH
        self.notify_through = NO_BATCH
        self.launched: list[BatchId] = [NO_BATCH for _ in spec.stages]
        self.group = NO_GROUP
        self.granted = NO_BATCH
        self.launches_next = NO_BATCH
        self.boundary: BatchId | None = None
        self.cohorts: dict[CohortId, Cohort] = {}
        self.arrivals = [Arrivals() for _ in spec.stages]
        self.retained = Retained(len(spec.stages))
        self.untold = Untold()
        self.later = Later()
        self.fetching: set[act.FetchBlocks | act.FetchInput] = set()
        self.report_due = False
        self._report_whole = False
        self.latencies = Unreported()
        self.lateness: list[parts.TaskLateness] = []
        self.chosen: tuple[ChosenFrom, ...] = ()
        self.seen: dict[StageId, StageSeen] = {}
        self._cohorts_made = 0
        self._readers: tuple[Placement, dict[StageId, dict[WorkerId, tuple[PartitionId, ...]]]] = (
            self.placement,
            {},
        )
        """The placement by owner, as far as it was asked for: every task asks."""
        self._counted = (self.placement, 0, SAY_EVERY_BATCHES)
        self.copies = CopyTasks()
        self.damaged: list[tuple[StageId, tuple[PartitionId, ...], ev.CohortDamaged]] = []
        self.awaited = awaited(spec, {})

    def lay_out(self, spec: JobSpec) -> frozenset[StageId]:
        """Take the job as a new generation has it; the stages whose partitions are other ranges now.

        What has come for those, or from them, is of batches that everybody has computed.
        """
        changed = relaid(spec, self.spec)
        self.spec = spec
        for stage in spec.stages:
            if stage.stage in changed or not changed.isdisjoint(stage.inputs):
                self.arrivals[stage.stage] = Arrivals()
        for stage in changed:
            self.retained.forget(stage)
        return changed

    # --- announcements --------------------------------------------------------------------

    def _announce_all(self, stage: StageSpec, needed: tuple[tuple[BatchId, ...], ...], out: Effects) -> None:
        """Metadata push to the owners of a new generation: retained blocks, by ranges (section 3.3 b)."""
        for below in self.spec.downstream(stage.stage):
            for owner, partitions in self._by_owner(below.stage).items():
                first = min(needed[below.stage][p] for p in partitions)
                self.announce(stage.stage, Wanted(below.stage, owner, partitions, first), None, out)

    def _by_owner(self, stage: StageId) -> dict[WorkerId, tuple[PartitionId, ...]]:
        """See `Placement.by_owner`."""
        if self._readers[0] is not self.placement:
            self._readers = (self.placement, {})
        known = self._readers[1]
        if stage not in known:
            known[stage] = self.placement.by_owner(stage)
        return known[stage]

    @property
    def owners(self) -> int:
        """On how many workers the job runs."""
        return self._counts()[1]

    @property
    def say_every(self) -> int:
        """After how many batches its last stages tell sources how far they are."""
        return self._counts()[2]

    def _counts(self) -> tuple[Placement, int, int]:
        if self._counted[0] is not self.placement:
            workers, every = len(self.placement.workers()), say_every(self.spec, self.placement)
            self._counted = (self.placement, workers, every)
        return self._counted

    def tell_run(self, stage: StageId, run: Run, out: Effects) -> None:
        """Announce what was finished to all who await it."""
        for below in self.spec.downstream(stage):
            for owner, partitions in self._by_owner(below.stage).items():
                self._tell(stage, Wanted(below.stage, owner, partitions, run.first), run, out)

    def announce(
        self, stage: StageId, wanted: Wanted, only: frozenset[PartitionId] | None, out: Effects
    ) -> None:
        """Say which retained blocks lie here, one line per run of batches."""
        for run in self.retained.runs(stage, wanted.first, only):
            self._tell(stage, wanted, run, out)

    def _tell(self, stage: StageId, wanted: Wanted, run: Run, out: Effects) -> None:
        """To another worker by message; to ourselves at once."""
        ready = msg.BlocksReady(
            self.spec.job,
            self.generation,
            self.worker,
            stage,
            run.partitions,
            wanted.downstream,
            wanted.partitions,
            run.first,
            run.last,
            run.sealed_at_ms,
        )
        if wanted.owner == self.worker:
            self._local_blocks(ready)
        else:
            out.send(NodeId(wanted.owner), ready)

    def _ready(
        self, line: parts.Available, downstream: StageId, wanted: tuple[PartitionId, ...]
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
            sealed_at_ms=(0.0,) * (line.last - line.first + 1),
        )

    def _local_blocks(self, ready: msg.BlocksReady) -> None:
        """Blocks that are here, of each batch of an announcement that is not computed yet."""
        first = max(ready.first, self._oldest(ready.downstream))
        last = min(ready.last, self._newest(ready.downstream))
        if first <= last:
            sealed_at_ms = ready.sealed_at_ms[first - ready.first : last - ready.first + 1]
            self.arrivals[ready.downstream].add_range(_fragment(ready, BatchId(first)), sealed_at_ms)

    # --- arrivals -------------------------------------------------------------------------

    def is_ahead(self, message: msg.Offer | msg.BlocksReady) -> bool:
        """Whether a later generation says it, which may mean other key groups by the same numbers."""
        return message.generation > self.generation

    def heard_ahead(self, message: msg.Offer | msg.BlocksReady, out: Effects) -> None:
        """Its generation is assigned now; what came with it may be gone."""
        if not fits(message, self.spec):
            return
        if isinstance(message, msg.BlocksReady):
            self.blocks_ready(message, carried=False, out=out)
        else:
            self.offered(message, carried=False, out=out)

    def blocks_ready(self, ready: msg.BlocksReady, *, carried: bool, out: Effects) -> None:
        """Blocks lie ready: with the message, or to be pulled from their worker."""
        if carried:
            self._local_blocks(ready)
            return
        first = max(ready.first, self._oldest(ready.downstream))
        last = min(ready.last, self._newest(ready.downstream))
        if first > last:
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
        """Sealed batches are offered: their records came along or are pulled from the source.

        What is computed already is credited again: the credit may have been refused with an
        older generation, and a source without credit seals nothing.
        """
        if offer.copy:
            self._offered_copy(offer, carried=carried, out=out)
            return
        self._credit_again(offer, out)
        oldest, newest = self._oldest(offer.stage), self._newest(offer.stage)
        table = self.arrivals[offer.stage]
        for one in offered_batches(offer):
            if not oldest <= one.fragment.batch <= newest:
                continue
            if carried:
                table.add(one.fragment, one.sealed_at_ms)
            elif not table.complete_input(one.fragment.batch, act.INPUT, mask_of(one.fragment.wanted)):
                self._fetch(act.FetchInput(one.fragment, offer.source, one.bounds, one.sealed_at_ms), out)

    def _offered_copy(self, offer: msg.Offer, *, carried: bool, out: Effects) -> None:
        """Somebody is late: compute it here as well, unless we are late ourselves."""
        own = self._of_stage(offer.stage)
        for one in offered_batches(offer):
            if not own or any(cohort.computed < one.fragment.batch for cohort in own):
                return
            if self.copies.offer(CopyTask(one.fragment, one.sealed_at_ms, here=carried)) and not carried:
                self._fetch(act.FetchInput(one.fragment, offer.source, one.bounds, one.sealed_at_ms), out)

    def _credit_again(self, offer: msg.Offer, out: Effects) -> None:
        offered = frozenset(b.partition for b in offer.bounds)
        for cohort in self._of_stage(offer.stage):
            mine = tuple(p for p in cohort.partitions if p in offered)
            if mine and cohort.computed >= offer.first:
                out.send(NodeId(offer.source), self.taken(offer.stage, mine, cohort.computed))

    def taken(self, stage: StageId, partitions: tuple[PartitionId, ...], batch: BatchId) -> msg.Taken:
        """That these partitions have computed a batch."""
        return msg.Taken(self.spec.job, self.generation, self.worker, stage, partitions, batch)

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
        if not self.copies.arrived(fetch.fragment):
            self._arrived(fetch.fragment, fetch.sealed_at_ms)

    def _arrived(self, fragment: act.Fragment, sealed_at_ms: float) -> None:
        oldest = self._oldest(fragment.downstream)
        if oldest <= fragment.batch <= oldest + EARLY_BATCHES_MAX:
            self.arrivals[fragment.downstream].add(fragment, sealed_at_ms)

    def _oldest(self, stage: StageId) -> BatchId:
        """The first batch that some local cohort has yet to compute."""
        least: BatchId | None = None
        for cohort in self.cohorts.values():
            if cohort.stage == stage and (least is None or cohort.computed < least):
                least = cohort.computed
        return BatchId((self.committed if least is None else least) + 1)

    def _newest(self, stage: StageId) -> BatchId:
        return BatchId(self._oldest(stage) + EARLY_BATCHES_MAX)

    def _of_stage(self, stage: StageId) -> list[Cohort]:
        return [cohort for cohort in self.cohorts.values() if cohort.stage == stage]


def _fragment(of: msg.BlocksReady | act.FetchBlocks, batch: BatchId) -> act.Fragment:
    """The name of one batch's data in an announcement, or in the fetch that it led to."""
    sender = of.worker if isinstance(of, msg.BlocksReady) else of.sender
    return act.Fragment(of.job, of.downstream, of.stage, batch, NodeId(sender), of.partitions, of.wanted)

"""One job on one source: which batches are sealed, offered, taken.

Batch b of a stage is sealed when a launched group covers it, its time has come, no more batches
before it wait to be taken than may (`core.window`: slow workers make batches larger instead of
queues longer), and the last stages are not too far behind (`core.below`). Bounds are durable
before a batch is offered, and replay offers the very same bounds (law 4).

A source that is behind its schedule seals all batches that are due at once, and offers them by one
message to each owner: one way to the disk, one message, and the first of them holds what waited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.below import Below, under_way_max
from drizzle_streams.core.capacity import Capacity
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.speculation import Copies
from drizzle_streams.core.untold import RUN_BATCHES_MAX
from drizzle_streams.core.window import IN_FLIGHT_MIN
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    NO_BATCH,
    BatchId,
    Generation,
    JobId,
    NodeId,
    Offset,
    PartitionId,
    SourceId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, Scheduling, StageSpec
from drizzle_streams.model.placement import Placement
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts

BATCH_RECORDS_MAX = 1_000_000
"""Records that one batch takes of one partition; what lies beyond waits for the next batch."""

SEAL_RETRY_S = 0.1

POSTS_AWAITED_MS = 6.0
"""How long after its time a batch may be sealed because posts are coming in, at most, and"""
POSTS_AWAITED_SHARE = 0.125
"""at most that share of its interval."""

EARLIEST = "earliest"
"""Where reading begins in the log of a source that joined while the job ran."""


@dataclass(slots=True)
class SealedBatch:
    """Durable bounds of a batch, by partition, and when they were fixed."""

    bounds: dict[PartitionId, Bounds]
    sealed_at_ms: float


@dataclass(slots=True)
class StageReading:
    """How far a stage's stream has been sealed and taken on this source."""

    stage: StageId
    stream: StreamId
    partitions: tuple[PartitionId, ...]
    sealed: BatchId = NO_BATCH
    batches: dict[BatchId, SealedBatch] = field(default_factory=dict[BatchId, SealedBatch])
    ends: dict[PartitionId, Offset] = field(default_factory=dict[PartitionId, Offset])
    taken: dict[PartitionId, BatchId] = field(default_factory=dict[PartitionId, BatchId])
    taken_by_all: BatchId | None = None
    """The least of them; None: to be looked up."""
    capacity: Capacity = field(default_factory=Capacity)
    sealing: BatchId | None = None
    """The last batch whose bounds are being fixed; None: nothing is."""
    ended: bool = False
    retry_at: float = 0.0
    copies: Copies | None = None


def may_be_copied(spec: JobSpec, stage: StageSpec) -> bool:
    """Whether tasks of a stage have results that others may make: no state, no sink, nobody's turn.

    Sinks take the batches of a partition in order, so a copy that writes could overtake its original.
    """
    return (
        spec.speculation
        and spec.scheduling is not Scheduling.BARRIER
        and not stage.stateful
        and not stage.writes_output
    )


class SourceJob:
    """State of one job; the source machine dispatches to it."""

    def __init__(self, source: SourceId, job: JobId) -> None:
        self.source = source
        self.job = job
        self.generation = Generation(0)
        self.placement = Placement()
        self.readings: dict[StageId, StageReading] = {}
        self.born: Generation | None = None
        self.recovered: dict[StageId, dict[BatchId, SealedBatch]] = {}
        self.launches: list[msg.Launch] = []
        self.cut_at: BatchId | None = None
        self._halting: msg.Cut | None = None
        self._halts = False
        self.committed = NO_BATCH
        self._below = Below()
        self._window = IN_FLIGHT_MIN

    def recover(self, born: Generation, stage: StageId, bounds: tuple[Bounds, ...], now: float) -> None:
        """Bounds of a run found on disk at start; offered again when a generation is assigned."""
        self.born = born
        batches = self.recovered.setdefault(stage, {})
        for bound in bounds:
            kept = batches.setdefault(bound.batch, SealedBatch({}, now * 1000.0))
            kept.bounds[bound.partition] = bound

    @property
    def sealed(self) -> BatchId:
        """The last batch that is sealed for every stage read here."""
        known = [reading.sealed for reading in self.readings.values()]
        known += [max(batches, default=NO_BATCH) for batches in self.recovered.values()]
        return min(known, default=NO_BATCH)

    @property
    def ended(self) -> bool:
        """Whether all input that there will ever be is in sealed batches."""
        return bool(self.readings) and all(reading.ended for reading in self.readings.values())

    def assign(self, assign: msg.Assign, out: Effects) -> None:
        """Take a generation: offer again, to whoever owns now, what has yet to be computed."""
        if self.born not in (None, assign.spec.born):
            self._forget_run(out)
        self.born = assign.spec.born
        self.generation = assign.generation
        self.placement = assign.placement
        self.launches, self.cut_at, self._halting = [], None, None
        self._halts = any(stage.partitions_least for stage in assign.spec.stages)
        self._window = under_way_max(assign.spec, assign.placement)
        self._open_readings(assign, out)
        self.commit(assign.committed, out)
        sealed = max((one.sealed for one in self.readings.values()), default=NO_BATCH)
        self._below.begin(assign.spec, assign.placement, sealed)
        for reading in self.readings.values():
            reading.capacity.forget_waiting()
            for partition in reading.partitions:
                needed = assign.needed[reading.stage][partition]
                reading.taken[partition] = BatchId(needed - 1)
            reading.taken_by_all = None
            if reading.copies is not None:
                reading.copies.begin(reading.sealed)
            self.offer_again(reading, reading.partitions, None, out)

    def _forget_run(self, out: Effects) -> None:
        """The job of this name is another run: what we hold of the old one is nobody's."""
        self.readings, self.recovered, self.committed = {}, {}, NO_BATCH
        out.start(act.ReleaseInput(self.job, self.born or Generation(0)))

    def _open_readings(self, assign: msg.Assign, out: Effects) -> None:
        layouts = {layout.stream: layout for layout in assign.layouts}
        for stage in assign.spec.stages:
            if stage.stream is None or stage.stage in self.readings:
                continue
            layout = layouts[stage.stream]
            partitions = layout.held_by(self.source)
            if not partitions:
                continue
            first = layout.first_batch(partitions[0])
            sealed = BatchId(max(assign.committed, first - 1))
            reading = StageReading(stage.stage, stage.stream, partitions, sealed=sealed)
            if may_be_copied(assign.spec, stage):
                reading.copies = Copies(assign.spec.batch_interval_ms)
            batches = self.recovered.pop(stage.stage, {})
            for batch in sorted(batches):
                reading.batches[batch] = batches[batch]
                reading.sealed = max(reading.sealed, batch)
                for partition, bound in batches[batch].bounds.items():
                    reading.ends[partition] = bound.end
            self.readings[stage.stage] = reading
            out.start(
                act.OpenStream(
                    self.job,
                    assign.spec.born,
                    stage.stage,
                    stage.stream,
                    partitions,
                    EARLIEST if first else assign.spec.start_from,
                    stage.chunks,
                    len(layout.owners),
                )
            )

    def launch(self, launch: msg.Launch) -> None:
        """A group may be sealed, each batch when its time comes. It begins behind what was cut."""
        if self.cut_at is not None:
            self.launches = [replace(old, last=min(old.last, self.cut_at)) for old in self.launches]
            self.cut_at = self._halting = None
        if launch not in self.launches:
            self.launches.append(launch)
        for reading in self.readings.values():
            if reading.copies is not None:
                reading.copies.interval_ms = launch.interval_ms

    def cut(self, cut: msg.Cut) -> None:
        """The group ends early: seal nothing beyond. What is sealed already belongs to the next group."""
        if all(cut.group >= launch.group for launch in self.launches):
            self.cut_at = cut.last
            self._halting = cut if self._halts else None

    def halted(self) -> msg.Halted | None:
        """That the cut is obeyed, once, when no batch beyond is being sealed; if partitions may be split."""
        cut, readings = self._halting, self.readings.values()
        if cut is None or any(one.sealing is not None and one.sealing > cut.last for one in readings):
            return None
        self._halting = None
        # Of a source that joined late `sealed` says where it begins: nothing up to there is sealed.
        sealed = max((batch for one in readings for batch in one.batches), default=NO_BATCH)
        return msg.Halted(self.job, self.generation, self.source, cut.group, cut.last, sealed)

    def seal_times(self) -> list[tuple[float, StageReading]]:
        """When each stage's next batch may be sealed, in cluster seconds; none while it must wait."""
        found: list[tuple[float, StageReading]] = []
        for reading in self.readings.values():
            batch = BatchId(reading.sealed + 1)
            launch = self._launch_of(batch)
            if launch is not None and reading.sealing is None and self._credit(reading, batch):
                found.append((max(_due(launch, batch), reading.retry_at), reading))
        return found

    def _launch_of(self, batch: BatchId) -> msg.Launch | None:
        if self.cut_at is not None and batch > self.cut_at:
            return None
        covering = (one for one in reversed(self.launches) if one.first <= batch <= one.last)
        return next(covering, None)

    def _credit(self, reading: StageReading, batch: BatchId) -> bool:
        return batch <= self._taken_by_all(reading) + self._window and self._below.allows(batch)

    def _taken_by_all(self, reading: StageReading) -> BatchId:
        if reading.taken_by_all is None:
            taken = reading.taken
            reading.taken_by_all = min((taken.get(p, NO_BATCH) for p in reading.partitions), default=NO_BATCH)
        return reading.taken_by_all

    def seal(self, reading: StageReading, now: float, out: Effects) -> None:
        """Have the bounds of the next batch, and of all that are due, fixed and made durable."""
        firsts = tuple((p, reading.ends.get(p)) for p in reading.partitions)
        first = BatchId(reading.sealed + 1)
        last = reading.sealing = self._due_through(reading, first, now)
        most = reading.capacity.batch_records_max(len(firsts), BATCH_RECORDS_MAX, self._window)
        waits_s = self._waits_s(first, now)
        place = (self.job, reading.stage, reading.stream)
        out.start(act.SealBatches(*place, first, last, firsts, most, waits_s))

    def _due_through(self, reading: StageReading, first: BatchId, now: float) -> BatchId:
        """The last of the batches that may be sealed now, one after the other; `first` may."""
        last = first
        while last - first + 1 < RUN_BATCHES_MAX:
            batch = BatchId(last + 1)
            launch = self._launch_of(batch)
            if launch is None or _due(launch, batch) > now or not self._credit(reading, batch):
                break
            last = batch
        return last

    def _waits_s(self, batch: BatchId, now: float) -> float:
        """How long the batch may wait for posts that are coming in: one that is late already does not."""
        launch = self._launch_of(batch)
        if launch is None:
            return 0.0
        most_s = min(POSTS_AWAITED_MS, launch.interval_ms * POSTS_AWAITED_SHARE) / 1000.0
        return max(0.0, _due(launch, batch) + most_s - now)

    def sealed_batches(self, event: ev.BatchesSealed, now: float, out: Effects) -> None:
        """Bounds are durable: offer the batches to the owners which the placement names."""
        reading = self.readings[event.stage]
        reading.ended = event.ended
        reading.sealing = None
        reading.sealed = event.last
        batches = [BatchId(batch) for batch in range(event.first, event.last + 1)]
        for batch in batches:
            reading.batches[batch] = SealedBatch({}, now * 1000.0)
        for bound in event.bounds:
            reading.batches[bound.batch].bounds[bound.partition] = bound
            reading.ends[bound.partition] = bound.end
        for batch in batches:
            records = sum(bound.records for bound in reading.batches[batch].bounds.values())
            reading.capacity.offered(batch, records, now)
        self.launches = [launch for launch in self.launches if launch.last >= event.last]
        self._offer(reading, batches, reading.partitions, None, out)

    def _offer(
        self,
        reading: StageReading,
        batches: list[BatchId],
        partitions: tuple[PartitionId, ...],
        only: WorkerId | None,
        out: Effects,
    ) -> None:
        """Offer consecutive batches of some partitions to their owners, or to one of them."""
        by_owner: dict[WorkerId, list[PartitionId]] = {}
        for partition in partitions:
            owner = self.placement.owner(reading.stage, partition)
            if only is None or owner == only:
                by_owner.setdefault(owner, []).append(partition)
        for owner, owned in by_owner.items():
            out.send(NodeId(owner), self._offer_of(reading, batches, owned))

    def _offer_of(
        self,
        reading: StageReading,
        batches: list[BatchId],
        partitions: Sequence[PartitionId],
        *,
        copy: bool = False,
    ) -> msg.Offer:
        kept = [reading.batches[batch] for batch in batches]
        sealed_at_ms = tuple(one.sealed_at_ms for one in kept)
        bounds = tuple(one.bounds[partition] for one in kept for partition in partitions)
        place = (self.job, self.generation, self.source, reading.stage)
        return msg.Offer(*place, batches[0], sealed_at_ms, bounds, copy)

    def offer_again(
        self,
        reading: StageReading,
        partitions: tuple[PartitionId, ...],
        only: WorkerId | None,
        out: Effects,
        first: BatchId = NO_BATCH,
    ) -> None:
        """Offer every sealed batch that its owner has not taken, oldest first."""
        held: list[BatchId] = []
        of: tuple[PartitionId, ...] = ()
        for batch in sorted(reading.batches):
            open_ = tuple(p for p in partitions if batch > max(reading.taken.get(p, NO_BATCH), first - 1))
            if held and (open_ != of or batch != held[-1] + 1 or len(held) >= RUN_BATCHES_MAX):
                self._offer(reading, held, of, only, out)
                held = []
            if open_:
                held, of = [*held, batch], open_
        if held:
            self._offer(reading, held, of, only, out)

    def taken(self, taken: msg.Taken, now: float) -> None:
        """A worker computed an offered batch: credit, if it is the owner's own and no copy."""
        reading = self.readings.get(taken.stage)
        if reading is None:
            if taken.generation == self.generation:
                self._below.computed(taken.stage, taken.partitions, taken.batch)
            return
        for partition in taken.partitions:
            if self.placement.owner(taken.stage, partition) == taken.worker:
                self._credited(reading, partition, taken, now)
            elif reading.copies is not None:
                reading.copies.copy_ended(taken.batch, partition)
        reading.capacity.taken(self._taken_by_all(reading), now)

    def _credited(self, reading: StageReading, partition: PartitionId, taken: msg.Taken, now: float) -> None:
        batch = taken.batch
        before = reading.taken.get(partition, NO_BATCH)
        if batch <= before:
            return
        reading.taken[partition] = batch
        if before == reading.taken_by_all:
            reading.taken_by_all = None
        for done in range(before + 1, batch + 1) if reading.copies is not None else ():
            kept = reading.batches.get(BatchId(done))
            if kept is not None and reading.copies is not None:
                late_ms = now * 1000.0 - kept.sealed_at_ms - taken.held_ms
                reading.copies.owner_took(BatchId(done), partition, late_ms)

    def copy_late(self, now: float, out: Effects) -> float | None:
        """Offer what is late a second time; when (cluster seconds) to look again."""
        times: list[float] = []
        for reading in self.readings.values():
            if reading.copies is None:
                continue
            newest = list(reading.batches)[-self._window :]
            sealed_at_ms = {batch: reading.batches[batch].sealed_at_ms for batch in newest}
            taken = {p: reading.taken.get(p, NO_BATCH) for p in reading.partitions}
            owners = {p: self.placement.owner(reading.stage, p) for p in reading.partitions}
            copies, next_ms = reading.copies.due(now * 1000.0, sealed_at_ms, taken, owners)
            for copy in copies:
                out.send(NodeId(copy.to), self._offer_of(reading, [copy.batch], copy.partitions, copy=True))
            if next_ms is not None:
                times.append(next_ms / 1000.0)
        return min(times, default=None)

    def awaits_backup(self) -> bool:
        """Whether something is late that nobody could be asked to copy yet."""
        return any(r.copies is not None and r.copies.awaits_backup for r in self.readings.values())

    def copied(self) -> parts.Copies:
        """Copies of all stages since this source started."""
        made = [reading.copies for reading in self.readings.values() if reading.copies is not None]
        return parts.Copies(
            sum(c.started for c in made), sum(c.won for c in made), sum(c.wasted for c in made)
        )

    def commit(self, batch: BatchId, out: Effects) -> None:
        """Two checkpoints are durable: bounds and input behind the older one are nobody's need any more."""
        self.committed = max(self.committed, batch)
        for reading in self.readings.values():
            before = reading.batches.get(batch)
            for old in [b for b in reading.batches if b <= batch]:
                del reading.batches[old]
            if before is not None:
                ends = tuple((p, bound.end) for p, bound in sorted(before.bounds.items()))
                out.start(act.TrimInput(self.job, reading.stage, reading.stream, batch, ends))


def _due(launch: msg.Launch, batch: BatchId) -> float:
    """When a batch of a group is to be sealed, in cluster seconds."""
    return (launch.starts_at_ms + (batch - launch.first + 1) * launch.interval_ms) / 1000.0

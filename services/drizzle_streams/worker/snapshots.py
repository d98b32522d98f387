"""Snapshots of a cohort: what changed since the last one, stored beside the batches.

State is an immutable value, so a snapshot is taken by keeping a reference; encoding and storing
happen in the background, one snapshot of a cohort at a time, in order. Rules:

- A snapshot is a chain of parts: a full one, then what changed. The chain is continued only on
  top of a part that this cohort stored in the same generation. A new coordinator may have removed
  what no ledger names, so after a new generation the first snapshot is full.
- Two chains are built in turn, each snapshot on the one before the last, so that two snapshots after
  each other share no part: whatever is damaged, one of them is whole.
- A chain is cut off when `CHAIN_PARTS_MAX` parts were added to its base, or when its changes outweigh it.
- Parts are encoded and stored some at a time: a large state needs no memory for a second one, and what is
  freed at the end is little, which holds the interpreter.
- What comes while `WAITING_MAX` wait fails, and the next one is tried: a slow store makes
  checkpoints rarer, never batches slower.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

from drizzle_streams.core.actions import OpenCohort
from drizzle_streams.core.checkpoints import CHAINS
from drizzle_streams.engine.snapshot import PART_BYTES
from drizzle_streams.engine.state import StageState, empty_state, united
from drizzle_streams.errors import BackPressureError, explain
from drizzle_streams.model.ids import BatchId, CohortId, Generation, JobId, PartitionId, StageId, WorkerId
from drizzle_streams.model.job import overlapping
from drizzle_streams.model.snapshot import SnapshotPart, SnapshotRef
from drizzle_streams.stores.base import SnapshotStore
from drizzle_streams.worker.programs import LoadedStage
from drizzle_streams.worker.threads import Threads

CHAIN_PARTS_MAX = 32
"""Parts added to a full snapshot, beyond which the next one is full. A full one has as many as it needs."""
PUT_BYTES_MIN = PART_BYTES // 2
"""So much is stored at once, if there is as much; a whole part at most is on top of it."""
WAITING_MAX = 2
"""Snapshots of one cohort under way or waiting; a further one fails."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A snapshot that is durable: where its parts lie, and since when they are a chain."""

    batch: BatchId
    generation: Generation
    base_bytes: int
    base_parts: int
    parts: tuple[SnapshotPart, ...]

    @property
    def delta_bytes(self) -> int:
        """Bytes of what was appended to the base."""
        return sum(part.bytes for part in self.parts) - self.base_bytes


@dataclass(frozen=True, slots=True)
class SnapshotNames:
    """What the names of a cohort's parts are made of."""

    stage: StageId
    worker: WorkerId
    cohort: CohortId

    def of(self, batch: BatchId, generation: Generation, number: int) -> str:
        """A name that no other part of the job ever has."""
        return f"{self.stage}/{batch}/{generation}/{self.worker}/{self.cohort}/{number}"


class SnapshotLine:
    """The snapshots of one cohort, in order. `bases` are the newest two: the next is built on the older."""

    def __init__(self, run: JobId, names: SnapshotNames, store: SnapshotStore, threads: Threads) -> None:
        self.bases: tuple[Stored, ...] = ()
        self.waiting = 0
        self._run = run
        self._names = names
        self._store = store
        self._threads = threads
        self._epoch = 0

    def restart(self) -> None:
        """What is under way describes another state than the cohort's: the next snapshot is full."""
        self.bases = ()
        self._epoch += 1

    @property
    def unasked(self) -> BatchId | None:
        """No snapshot since a batch before this one will be asked for; None while one may be."""
        return self.bases[0].batch if len(self.bases) == CHAINS else None

    def admit(self) -> None:
        """Take a place in the line; raises `BackPressureError` when there is none."""
        if self.waiting >= WAITING_MAX:
            raise BackPressureError(
                explain(
                    "snapshots under way",
                    wanted=f"at most {WAITING_MAX} of a cohort",
                    found="one more",
                    remedy="The store is slow: take checkpoints less often.",
                )
            )
        self.waiting += 1

    async def take(self, state: StageState, generation: Generation) -> tuple[SnapshotRef, int]:
        """Store the state, as changes if that is possible; also how many bytes were written.

        After `admit`, one at a time. Raises `StoreError` and its kinds.
        """
        epoch = self._epoch
        try:
            base = self._base(state, generation)
            full, data = await self._threads.upkeep(state.snapshot_since, base and base.batch)
            parts = await self._put(BatchId(state.version), generation, data)
        finally:
            self.waiting -= 1
        written = sum(part.bytes for part in parts)
        if full or base is None:
            stored = Stored(BatchId(state.version), generation, written, len(parts), parts)
        else:
            stored = replace(base, batch=BatchId(state.version), parts=base.parts + parts)
        if epoch == self._epoch:
            self.bases = (*self.bases, stored)[-CHAINS:]
        partitions = tuple(PartitionId(partition) for partition in state.partitions)
        of = state.layout.partitions
        ref = SnapshotRef(self._names.stage, partitions, stored.batch, stored.parts, of)
        return ref, written

    async def _put(
        self, batch: BatchId, generation: Generation, data: Iterator[bytes]
    ) -> tuple[SnapshotPart, ...]:
        """Encode and store, some parts at a time."""
        parts: tuple[SnapshotPart, ...] = ()
        while some := await self._threads.upkeep(_some, data):
            names = (self._names.of(batch, generation, number) for number in count(len(parts)))
            parts += await self._store.put(self._run, generation, [*zip(names, some, strict=False)])
        return parts

    def _base(self, state: StageState, generation: Generation) -> Stored | None:
        if len(self.bases) < CHAINS:
            return None
        base = self.bases[0]
        if base.generation != generation or self.bases[-1].batch > state.version:
            return None
        if len(base.parts) - base.base_parts >= CHAIN_PARTS_MAX or base.delta_bytes > base.base_bytes:
            return None
        return base


def _some(data: Iterator[bytes]) -> list[bytes]:
    """The next parts, of about `PART_BYTES` together; none at the end. Encodes them."""
    some: list[bytes] = []
    held = 0
    for part in data:
        some.append(part)
        held += len(part)
        if held >= PUT_BYTES_MIN:
            break
    return some


async def restored(
    action: OpenCohort, stage: LoadedStage, store: SnapshotStore, threads: Threads
) -> StageState:
    """The state that a cohort opens with; partitions without a snapshot start empty.

    Snapshots may be of another number of partitions than the stage has now: a checkpoint is all of one.
    Raises `CorruptError` for snapshots that are not whole or of another batch, and `StoreError`.
    """
    refs = [ref for ref in action.snapshots if ref.stage == action.stage]
    of = next((ref.of for ref in refs if ref.of), stage.stage.partitions)
    wanted = numbers_before(stage, action.partitions, of)
    shares = _shares(refs, wanted)
    parts = await store.get([part for ref, _ in shares for part in ref.parts])
    return await threads.background(_restore, action, stage, of, wanted, shares, parts)


def numbers_before(stage: LoadedStage, partitions: Iterable[PartitionId], of: int) -> tuple[PartitionId, ...]:
    """The partitions that held what these hold when there were `of`."""
    place = (stage.stage.partitions, of, stage.spec.key_groups)
    return tuple(sorted({old for p in partitions for old in overlapping(p, *place)}))


def _shares(
    refs: Iterable[SnapshotRef], wanted: Iterable[PartitionId]
) -> list[tuple[SnapshotRef, tuple[PartitionId, ...]]]:
    """Which partitions come from which snapshot; each from the first that holds it."""
    left = set(wanted)
    shares: list[tuple[SnapshotRef, tuple[PartitionId, ...]]] = []
    for ref in refs:
        taken = tuple(sorted(left.intersection(ref.partitions)))
        if taken:
            shares.append((ref, taken))
            left -= set(taken)
    return shares


def _restore(
    action: OpenCohort,
    stage: LoadedStage,
    of: int,
    wanted: Sequence[PartitionId],
    shares: Sequence[tuple[SnapshotRef, tuple[PartitionId, ...]]],
    data: Sequence[bytes],
) -> StageState:
    layout = stage.executor.layout
    executor = stage.executor if of == layout.partitions else stage.executor.resized(of)
    found = {partition for _, partitions in shares for partition in partitions}
    fresh = [partition for partition in wanted if partition not in found]
    states: list[StageState] = []
    position = 0
    for ref, partitions in shares:
        own = data[position : position + len(ref.parts)]
        position += len(ref.parts)
        states.append(executor.restore(partitions, action.batch, own))
    if fresh or not states:
        states.append(empty_state(executor.layout, fresh, action.batch))
    state = united(states)
    return state if executor is stage.executor else state.laid_out(layout, action.partitions)

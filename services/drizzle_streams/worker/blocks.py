"""The block store: what this worker computed for later stages, until the checkpoint lies behind it.

Recovery reads surviving blocks instead of computing them again, so a block outlives its use by
its first reader and goes when `DropBlocks` says that it is behind the checkpoint (law 5).

Beside a block lie its shares: the bytes for each worker that was to be told of it, made by the
task's thread so that the event loop never encodes. A share is given out once and then gone;
who asks again gets it encoded anew.

The bound of what is held (`blocks_bytes_max`) is kept by computing no further (`core/pressure.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from drizzle_streams.core.actions import FetchBlocks
from drizzle_streams.engine.frames import Block
from drizzle_streams.model.ids import BatchId, JobId, PartitionId, StageId
from drizzle_streams.protocol.messages import BlocksReady

MARK_BYTES = 32
"""What a block without rows is counted as, per mark."""


@dataclass(frozen=True, slots=True)
class ShareKey:
    """Whose share: of `partitions` of a stage for `wanted` partitions of the stage below."""

    downstream: StageId
    partitions: tuple[PartitionId, ...]
    wanted: tuple[PartitionId, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A block and the upstream partitions that are taken from it."""

    block: Block
    partitions: frozenset[PartitionId]


@dataclass(frozen=True, slots=True)
class Found:
    """Everything held of some partitions of a batch, ascending by partition."""

    parts: tuple[Part, ...]
    sealed_at_ms: float


@dataclass(frozen=True, slots=True)
class _Held:
    block: Block
    partitions: frozenset[PartitionId]
    sealed_at_ms: float
    bytes: int


@dataclass(slots=True)
class _Batch:
    held: list[_Held] = field(default_factory=list[_Held])
    shares: dict[ShareKey, bytes] = field(default_factory=dict[ShareKey, bytes])

    @property
    def bytes(self) -> int:
        return sum(one.bytes for one in self.held) + sum(map(len, self.shares.values()))


class BlockStore:
    """All blocks of one life of a worker. It takes what it is given: who computes minds the bound."""

    def __init__(self) -> None:
        self.bytes = 0
        self.blocks = 0
        self._batches: dict[tuple[JobId, StageId], dict[BatchId, _Batch]] = {}

    def add(
        self,
        job: JobId,
        stage: StageId,
        batch: BatchId,
        block: Block,
        sealed_at_ms: float,
        shares: Iterable[tuple[ShareKey, bytes]] = (),
    ) -> None:
        """Keep a task's block; it replaces what was held of its partitions."""
        partitions = frozenset(PartitionId(partition) for partition, _ in block.marks)
        held = _Held(block, partitions, sealed_at_ms, block_bytes(block))
        kept = self._batches.setdefault((job, stage), {}).setdefault(batch, _Batch())
        self._count(kept, -1)
        kept.held = [one for one in kept.held if not one.partitions <= partitions]
        kept.held.append(held)
        kept.shares.update(shares)
        self._count(kept, +1)

    def find(
        self, job: JobId, stage: StageId, batch: BatchId, partitions: Iterable[PartitionId]
    ) -> Found | None:
        """The blocks of these partitions, each partition once; None unless all are held."""
        kept = self._batches.get((job, stage), {}).get(batch)
        if kept is None:
            return None
        left = frozenset(partitions)
        parts: list[Part] = []
        sealed_at_ms = 0.0
        for held in reversed(kept.held):
            taken = left & held.partitions
            if taken:
                parts.append(Part(held.block, taken))
                sealed_at_ms = max(sealed_at_ms, held.sealed_at_ms)
                left -= taken
        if left:
            return None
        return Found(tuple(sorted(parts, key=lambda part: min(part.partitions))), sealed_at_ms)

    def batches(self, job: JobId, stage: StageId, first: BatchId, last: BatchId) -> Iterator[BatchId]:
        """Which of the batches first..last are held, ascending."""
        kept = self._batches.get((job, stage), {})
        return (batch for batch in sorted(kept) if first <= batch <= last)

    def share_bytes(self, job: JobId, stage: StageId, batch: BatchId, key: ShareKey) -> int | None:
        """How long a share is that can be given out now; None if it must be encoded first."""
        kept = self._batches.get((job, stage), {}).get(batch)
        share = None if kept is None else kept.shares.get(key)
        return None if share is None else len(share)

    def take_share(self, job: JobId, stage: StageId, batch: BatchId, key: ShareKey) -> bytes | None:
        """Give out a share and forget it; None if it must be encoded first."""
        kept = self._batches.get((job, stage), {}).get(batch)
        share = None if kept is None else kept.shares.pop(key, None)
        if share is not None:
            self.bytes -= len(share)
        return share

    def drop(self, job: JobId, through: BatchId) -> None:
        """Let go of a job's blocks up to a batch."""
        for (owner, _), batches in self._batches.items():
            if owner == job:
                for batch in [batch for batch in batches if batch <= through]:
                    self._count(batches.pop(batch), -1)

    def forget(self, job: JobId) -> None:
        """Let go of everything of a job."""
        for key in [key for key in self._batches if key[0] == job]:
            for kept in self._batches.pop(key).values():
                self._count(kept, -1)

    def _count(self, kept: _Batch, sign: int) -> None:
        self.bytes += sign * kept.bytes
        self.blocks += sign * len(kept.held)


def share_key(request: BlocksReady | FetchBlocks) -> ShareKey:
    """The share that a notification announces, or that a fetch asks for."""
    return ShareKey(request.downstream, request.partitions, request.wanted)


def block_bytes(block: Block) -> int:
    """What a block takes in memory."""
    frame_bytes = 0 if block.frame is None else int(block.frame.estimated_size())
    return frame_bytes + MARK_BYTES * len(block.marks)

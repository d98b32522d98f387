"""The local scheduler's dependency sets: what has come for each batch of a stage (section 3.2).

The paper keeps, per inactive task, the set of outstanding upstream dependencies. Here one
table per (stage, batch) serves all partitions of the stage on this worker: for every upstream
partition the set of local partitions it has come for, as bit masks. The rules:

- Early arrivals are kept: a table exists as soon as something comes, launched or not.
- The same data may be announced again, by someone else, or for more partitions; a piece is
  only what is new of it, so that no row enters a task twice.
- Nothing older than what every local cohort has computed is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from drizzle_streams.core.actions import Fragment, Piece
from drizzle_streams.model.ids import BatchId, PartitionId, StageId
from drizzle_streams.protocol.parts import Missing

Upstream = tuple[StageId, PartitionId]


def mask_of(partitions: tuple[PartitionId, ...]) -> int:
    """A set of partitions as bits."""
    mask = 0
    for partition in partitions:
        mask |= 1 << partition
    return mask


def partitions_of(mask: int) -> tuple[PartitionId, ...]:
    """The reverse of `mask_of`, ascending."""
    found: list[PartitionId] = []
    while mask:
        low = mask & -mask
        found.append(PartitionId(low.bit_length() - 1))
        mask ^= low
    return tuple(found)


@dataclass(slots=True)
class BatchArrivals:
    """What has come for one batch: `have[upstream]` is the mask of local partitions covered."""

    have: dict[Upstream, int] = field(default_factory=dict[Upstream, int])
    pieces: list[tuple[Piece, int]] = field(default_factory=list[tuple[Piece, int]])
    sealed_at_ms: float = 0.0


class Arrivals:
    """Everything that has come for one stage on this worker and is not yet computed by all."""

    def __init__(self) -> None:
        self._batches: dict[BatchId, BatchArrivals] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, fragment: Fragment, sealed_at_ms: float) -> bool:
        """Note that a fragment's data is here; False if nothing of it is new."""
        arrived = self._batches.setdefault(fragment.batch, BatchArrivals())
        arrived.sealed_at_ms = max(arrived.sealed_at_ms, sealed_at_ms)
        wanted = mask_of(fragment.wanted)
        if len(fragment.partitions) == 1 and fragment.stage >= 0:
            return _add_one(arrived, fragment, wanted)
        news: dict[int, list[PartitionId]] = {}
        for partition in fragment.partitions:
            upstream = (fragment.stage, partition)
            mine = wanted if fragment.stage >= 0 else 1 << partition
            new = mine & ~arrived.have.get(upstream, 0)
            if new:
                arrived.have[upstream] = arrived.have.get(upstream, 0) | new
                news.setdefault(new if fragment.stage >= 0 else -1, []).append(partition)
        for new, partitions in news.items():
            mask = new if new >= 0 else mask_of(tuple(partitions))
            arrived.pieces.append((Piece(fragment, tuple(partitions), partitions_of(mask)), mask))
        return bool(news)

    def covers(
        self, batch: BatchId, stage: StageId, partitions: tuple[PartitionId, ...], wanted: int
    ) -> bool:
        """Whether all of an announcement is here already."""
        arrived = self._batches.get(batch)
        if arrived is None:
            return False
        return all(arrived.have.get((stage, p), 0) & wanted == wanted for p in partitions)

    def complete(self, batch: BatchId, upstreams: tuple[tuple[StageId, int], ...], wanted: int) -> bool:
        """Whether every upstream partition has come for all `wanted` local partitions."""
        arrived = self._batches.get(batch)
        if arrived is None:
            return False
        have = arrived.have
        if len(have) < sum([count for _, count in upstreams]):
            return False  # as nearly always, and known at once however many there are
        return all(
            have.get((stage, PartitionId(p)), 0) & wanted == wanted
            for stage, count in upstreams
            for p in range(count)
        )

    def complete_input(self, batch: BatchId, stage: StageId, wanted: int) -> bool:
        """Whether the stream partitions in `wanted` have each come for themselves."""
        arrived = self._batches.get(batch)
        if arrived is None:
            return False
        return all(arrived.have.get((stage, p), 0) >> p & 1 for p in partitions_of(wanted))

    def missing(
        self, batch: BatchId, upstreams: tuple[tuple[StageId, int], ...], wanted: int
    ) -> tuple[Missing, ...]:
        """What a task still awaits, per upstream stage."""
        have = self._batches.get(batch, BatchArrivals()).have
        found: list[Missing] = []
        for stage, count in upstreams:
            absent = tuple(
                PartitionId(p)
                for p in range(count)
                if have.get((stage, PartitionId(p)), 0) & wanted != wanted
            )
            if absent:
                found.append(Missing(stage, absent))
        return tuple(found)

    def missing_input(self, batch: BatchId, stage: StageId, wanted: int) -> tuple[Missing, ...]:
        """Stream partitions in `wanted` whose offer has not come."""
        have = self._batches.get(batch, BatchArrivals()).have
        absent = tuple(p for p in partitions_of(wanted) if not have.get((stage, p), 0) >> p & 1)
        return (Missing(stage, absent),) if absent else ()

    def pieces(self, batch: BatchId, wanted: int) -> tuple[Piece, ...]:
        """What a task reads, in the order of upstream partitions (law 4), cut to `wanted`."""
        arrived = self._batches.get(batch, BatchArrivals())
        found = [_cut(piece, mask, mask & wanted) for piece, mask in arrived.pieces if mask & wanted]
        return tuple(sorted(found, key=lambda piece: (piece.fragment.stage, piece.partitions)))

    def sealed_at_ms(self, batch: BatchId) -> float:
        """When the last part of the batch was sealed, cluster time; 0 if nothing has come."""
        arrived = self._batches.get(batch)
        return arrived.sealed_at_ms if arrived else 0.0

    def release(self, through: BatchId) -> bool:
        """Forget batches up to `through`; True if there were any."""
        old = [batch for batch in self._batches if batch <= through]
        for batch in old:
            del self._batches[batch]
        return bool(old)


def _add_one(arrived: BatchArrivals, fragment: Fragment, wanted: int) -> bool:
    """The same for blocks of one upstream partition: where many workers share a stage, that is what comes."""
    upstream = (fragment.stage, fragment.partitions[0])
    before = arrived.have.get(upstream, 0)
    new = wanted & ~before
    if new:
        arrived.have[upstream] = before | new
        arrived.pieces.append((Piece(fragment, fragment.partitions, partitions_of(new)), new))
    return new != 0


def _cut(piece: Piece, of: int, mask: int) -> Piece:
    if piece.fragment.stage < 0:
        kept = tuple(p for p in piece.partitions if mask >> p & 1)
        return Piece(piece.fragment, kept, kept)
    return piece if mask == of else Piece(piece.fragment, piece.partitions, partitions_of(mask))

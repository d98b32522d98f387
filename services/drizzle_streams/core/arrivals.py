"""The local scheduler's dependency sets: what has come for each batch of a stage (section 3.2).

The paper keeps, per inactive task, the set of outstanding upstream dependencies. Here one
table per (stage, batch) serves all partitions of the stage on this worker: for every upstream
partition the set of local partitions it has come for, as bit masks. The rules:

- Early arrivals are kept: a table exists as soon as something comes, launched or not.
- The same data may be announced again, by someone else, or for more partitions; a piece is
  only what is new of it, so that no row enters a task twice.
- Nothing older than what every local cohort has computed is kept.
- What is announced as a range is noted of each batch and named once: with many workers above it is these
  names that a worker would be busy with, and the collector of cycles with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

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


class Share(NamedTuple):
    """What was new of an announcement: of these upstream partitions, for the local ones in `mask`.

    `named` is its fragment of whichever batch came first; in the others it is named alike.
    """

    named: Fragment
    partitions: tuple[PartitionId, ...]
    mask: int


@dataclass(slots=True)
class BatchArrivals:
    """What has come for one batch: `have[upstream]` is the mask of local partitions covered."""

    have: dict[Upstream, int] = field(default_factory=dict[Upstream, int])
    shares: list[Share] = field(default_factory=list[Share])
    sealed_at_ms: float = 0.0


class Arrivals:
    """Everything that has come for one stage on this worker and is not yet computed by all."""

    def __init__(self) -> None:
        self._batches: dict[BatchId, BatchArrivals] = {}

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, fragment: Fragment, sealed_at_ms: float) -> bool:
        """Note that a fragment's data is here; False if nothing of it is new."""
        return self.add_range(fragment, (sealed_at_ms,))

    def add_range(self, first: Fragment, sealed_at_ms: Sequence[float]) -> bool:
        """The same of a fragment and of those that follow it, as many as there are times of sealing."""
        wanted = mask_of(first.wanted)
        offered = first.stage < 0
        upstreams: dict[Upstream, int] = {
            (first.stage, p): 1 << p if offered else wanted for p in first.partitions
        }
        whole = Share(first, first.partitions, wanted)
        new = False
        for batch, sealed in enumerate(sealed_at_ms, first.batch):
            arrived = self._batches.get(BatchId(batch))
            if arrived is None:
                arrived = self._batches[BatchId(batch)] = BatchArrivals()
            arrived.sealed_at_ms = max(arrived.sealed_at_ms, sealed)
            if arrived.have.keys().isdisjoint(upstreams):  # as nearly always
                arrived.have.update(upstreams)
                arrived.shares.append(whole)
                new = True
            else:
                new |= _add_rest(arrived, first, upstreams)
        return new

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
        shares = self._batches.get(batch, BatchArrivals()).shares
        found = [_piece(share, batch, share.mask & wanted) for share in shares if share.mask & wanted]
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


def _add_rest(arrived: BatchArrivals, first: Fragment, upstreams: dict[Upstream, int]) -> bool:
    """What is new where something of it is here: one share for all of which the same is new."""
    news: dict[int, list[PartitionId]] = {}
    for upstream, mine in upstreams.items():
        before = arrived.have.get(upstream, 0)
        new = mine & ~before
        if new:
            arrived.have[upstream] = before | new
            news.setdefault(-1 if first.stage < 0 else new, []).append(upstream[1])
    for new, of in news.items():
        partitions = tuple(of)
        arrived.shares.append(Share(first, partitions, mask_of(partitions) if new < 0 else new))
    return bool(news)


def _piece(share: Share, batch: BatchId, mask: int) -> Piece:
    """What a task of one batch takes of a share, for the partitions in `mask`."""
    named = share.named
    fragment = named
    if batch != named.batch:
        place = (named.job, named.downstream, named.stage, batch, named.sender)
        fragment = Fragment(*place, named.partitions, named.wanted)
    if named.stage >= 0:
        return Piece(fragment, share.partitions, partitions_of(mask))
    kept = tuple(p for p in share.partitions if mask >> p & 1)
    return Piece(fragment, kept, kept)

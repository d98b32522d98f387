"""Map outputs that a worker still holds, and how to speak of them in ranges.

Blocks stay until a checkpoint lies behind them (law 5): whoever adopts a lost partition pulls
them from here instead of having them computed again (lineage reuse, section 3.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drizzle_streams.model.ids import BatchId, PartitionId, StageId


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive batches of which the same partitions are held; when the latest part of each was sealed."""

    first: BatchId
    last: BatchId
    partitions: tuple[PartitionId, ...]
    sealed_at_ms: tuple[float, ...]


class Retained:
    """What is held, per stage, batch and partition, with when the batch was sealed."""

    def __init__(self, stages: int) -> None:
        self._held: list[dict[BatchId, dict[PartitionId, float]]] = [{} for _ in range(stages)]

    def __len__(self) -> int:
        return sum(len(batches) for batches in self._held)

    def keep(
        self, stage: StageId, batch: BatchId, partitions: tuple[PartitionId, ...], sealed_at_ms: float
    ) -> None:
        """Blocks of these partitions were made."""
        held = self._held[stage].setdefault(batch, {})
        for partition in partitions:
            held[partition] = sealed_at_ms

    def drop(self, through: BatchId) -> None:
        """A checkpoint lies behind them."""
        for held in self._held:
            for old in [batch for batch in held if batch <= through]:
                del held[old]

    def forget(self, stage: StageId) -> None:
        """The partitions of a stage are others now."""
        self._held[stage].clear()

    def has(self, stage: StageId, batch: BatchId, partitions: frozenset[PartitionId]) -> bool:
        """Whether the blocks of all these partitions are held of a batch."""
        return partitions <= self._held[stage].get(batch, {}).keys()

    def runs(
        self, stage: StageId, first: BatchId, only: frozenset[PartitionId] | None = None
    ) -> Iterator[Run]:
        """What is held from `first` on, as few lines as say it; `only` some of the partitions."""
        begun, partitions = first, tuple[PartitionId, ...]()
        sealed: list[float] = []
        for batch in sorted(b for b in self._held[stage] if b >= first):
            kept = self._held[stage][batch]
            held = tuple(sorted(p for p in kept if only is None or p in only))
            if not held:
                continue
            if sealed and (begun + len(sealed) != batch or partitions != held):
                yield run_of(partitions, begun, sealed)
                sealed = []
            if not sealed:
                begun, partitions = batch, held
            sealed.append(max(kept[p] for p in held))
        if sealed:
            yield run_of(partitions, begun, sealed)


def run_of(partitions: tuple[PartitionId, ...], first: BatchId, sealed_at_ms: list[float]) -> Run:
    """The run that begins with `first`, by when each of its batches was sealed."""
    return Run(first, BatchId(first + len(sealed_at_ms) - 1), partitions, tuple(sealed_at_ms))

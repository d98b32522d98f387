"""Bounds: exactly which input makes a batch. Persisted before a batch is offered, then for ever the same."""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.model.ids import BatchId, Offset, PartitionId


@dataclass(frozen=True, slots=True)
class Bounds:
    """Records [first, end) of one stream partition belong to `batch` (law 4)."""

    batch: BatchId
    partition: PartitionId
    first: Offset
    end: Offset

    @property
    def records(self) -> int:
        """How many records the batch takes from this partition."""
        return self.end - self.first

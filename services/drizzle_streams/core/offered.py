"""What an offer speaks of, batch by batch: who hears it and who keeps what rode in name it alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from drizzle_streams.core.actions import INPUT, Fragment
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, NodeId
from drizzle_streams.protocol.messages import Offer


@dataclass(frozen=True, slots=True)
class OfferedBatch:
    """One batch of an offer: the name of its records here, when it was sealed, and its bounds."""

    fragment: Fragment
    sealed_at_ms: float
    bounds: tuple[Bounds, ...]


def offered_batches(offer: Offer) -> Iterator[OfferedBatch]:
    """Its batches in order; of an offer that is `well_formed`."""
    count = len(offer.bounds) // len(offer.sealed_at_ms)
    partitions = tuple(bound.partition for bound in offer.bounds[:count])
    for at, sealed_at_ms in enumerate(offer.sealed_at_ms):
        batch = BatchId(offer.first + at)
        place = (offer.job, offer.stage, INPUT, batch, NodeId(offer.source), partitions, partitions)
        yield OfferedBatch(Fragment(*place), sealed_at_ms, offer.bounds[at * count : (at + 1) * count])


def well_formed(offer: Offer) -> bool:
    """Whether the bounds are those of all its batches, each of the same partitions."""
    batches = len(offer.sealed_at_ms)
    if not batches or not offer.bounds or len(offer.bounds) % batches:
        return False
    count = len(offer.bounds) // batches
    return all(
        bound.batch == offer.first + at // count and bound.partition == offer.bounds[at % count].partition
        for at, bound in enumerate(offer.bounds)
    )

"""Records of the newest batches, ready to ride along with their offers.

A batch is offered the moment it is sealed, and its records are then still in the log's memory:
they are taken from there once, at the sealing, because an offer may not wait for a disk. What is
not here any more (large batches, replays) is pulled by its worker.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, JobId, PartitionId, StageId

INLINE_OFFER_BYTES_MAX = 1024 * 1024
"""Entries that ride along with one offer, of all its batches; larger ones are pulled."""
KEPT_BYTES_MAX = 16 * 1024 * 1024
"""Entries kept for offers, of all jobs; the oldest batch goes first."""
KEPT_BATCHES_MAX = 64
"""Batches kept for offers, of all jobs."""

Reader = tuple[JobId, StageId]


class OfferPayloads:
    """Encoded entries by batch and partition; bounded."""

    def __init__(self) -> None:
        self._batches: OrderedDict[tuple[Reader, BatchId], Mapping[PartitionId, bytes]] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Bytes kept."""
        return self._bytes

    def keep(self, reader: Reader, batch: BatchId, entries: Mapping[PartitionId, bytes]) -> None:
        """Hold the entries of a sealed batch; partitions that are too large are left out."""
        key = (reader, batch)
        self._forget(key)
        self._batches[key] = entries
        self._bytes += sum(map(len, entries.values()))
        while len(self._batches) > KEPT_BATCHES_MAX or self._bytes > KEPT_BYTES_MAX:
            self._forget(next(iter(self._batches)))

    def payload(self, reader: Reader, bounds: Iterable[Bounds]) -> bytes | None:
        """The entries of these bounds, in their order; None if they do not fit or are not held."""
        pieces: list[bytes] = []
        for bound in bounds:
            held = self._batches.get((reader, bound.batch), {})
            piece = held.get(bound.partition) if bound.records else b""
            if piece is None:
                return None
            pieces.append(piece)
        payload = b"".join(pieces)
        return payload if len(payload) <= INLINE_OFFER_BYTES_MAX else None

    def forget_job(self, job: JobId) -> None:
        """Nobody will be offered these batches again."""
        for key in [key for key in self._batches if key[0][0] == job]:
            self._forget(key)

    def _forget(self, key: tuple[Reader, BatchId]) -> None:
        self._bytes -= sum(map(len, self._batches.pop(key, {}).values()))

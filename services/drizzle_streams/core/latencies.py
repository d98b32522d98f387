"""How late the latest batches were: a coordinator keeps this for each job, for as long as it runs.

A table of Python's would take some 300 bytes a batch, and grow in leaps until the bound is reached: after
some minutes of short batches that looks like a leak. Three arrays take 24 bytes a batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

from drizzle_streams.model.ids import NO_BATCH, BatchId
from drizzle_streams.protocol.parts import BatchLatency

LATENCIES_KEPT_MAX = 50_000
"""Batches of a job whose latency is known; older ones are forgotten."""


class Latencies(Mapping[BatchId, float]):
    """From sealed to done, in ms, by batch, ascending. A batch is as late as its latest part."""

    def __init__(self, kept_max: int = LATENCIES_KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._newest = NO_BATCH
        self._batches = array("q")
        """A batch's place is its number modulo `kept_max`; who has it now stands here."""
        self._ms = array("d")
        self._sealed_at_ms = array("d")

    def observe(self, part: BatchLatency) -> None:
        """A part of a batch is done."""
        batch = part.batch
        if batch <= self._forgotten:
            return
        self._newest = max(self._newest, batch)
        at = batch % self._kept_max
        if at >= len(self._batches):
            self._make_room(at + 1)
        if self._batches[at] == batch:
            self._ms[at] = max(self._ms[at], part.milliseconds)
            self._sealed_at_ms[at] = max(self._sealed_at_ms[at], part.sealed_at_ms)
        else:
            self._batches[at] = batch
            self._ms[at], self._sealed_at_ms[at] = part.milliseconds, part.sealed_at_ms

    def copy(self) -> Latencies:
        """As it is now, for another thread to read."""
        made = Latencies(self._kept_max)
        made._newest = self._newest
        made._batches, made._ms, made._sealed_at_ms = self._batches[:], self._ms[:], self._sealed_at_ms[:]
        return made

    def newest_first(self) -> list[float]:
        """In ms, without the batches that they are of: what percentiles need, without sorting."""
        if self._newest == NO_BATCH:
            return []
        at, forgotten = self._newest % self._kept_max, self._forgotten
        batches = self._batches[at::-1] + self._batches[:at:-1]
        latencies = self._ms[at::-1] + self._ms[:at:-1]
        return [ms for batch, ms in zip(batches, latencies, strict=True) if batch > forgotten]

    def rows(self) -> list[tuple[BatchId, float, float]]:
        """(batch, when it was sealed (cluster time, ms), its latency in ms), ascending."""
        forgotten = self._forgotten
        found = zip(self._batches, self._sealed_at_ms, self._ms, strict=True)
        return sorted((BatchId(batch), at, ms) for batch, at, ms in found if batch > forgotten)

    def __getitem__(self, batch: BatchId) -> float:
        at = batch % self._kept_max
        if batch <= self._forgotten or at >= len(self._batches) or self._batches[at] != batch:
            raise KeyError(batch)
        return self._ms[at]

    def __iter__(self) -> Iterator[BatchId]:
        return iter([batch for batch, _, _ in self.rows()])

    def __len__(self) -> int:
        return len(self.rows())

    @property
    def _forgotten(self) -> BatchId:
        """The last batch of which nothing is known any more."""
        return BatchId(max(NO_BATCH, self._newest - self._kept_max))

    def _make_room(self, places: int) -> None:
        more = places - len(self._batches)
        self._batches.extend([NO_BATCH] * more)
        self._ms.extend([0.0] * more)
        self._sealed_at_ms.extend([0.0] * more)

"""How late the latest batches were: workers collect it for reports, a coordinator keeps it while a job runs.

Many workers tell of each batch, so a coordinator takes whole runs of them at a time. A table of Python's
would take some 300 bytes a batch, and grow in leaps until the bound is reached: after some minutes of short
batches that looks like a leak. Three arrays take 24 bytes a batch.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from math import inf

from drizzle_streams.model.ids import NO_BATCH, BatchId
from drizzle_streams.protocol.parts import BatchLatencies

LATENCIES_KEPT_MAX = 50_000
"""Batches of a job whose latency is known; older ones are forgotten."""


class Unreported:
    """What a worker has yet to tell of one job."""

    def __init__(self) -> None:
        self._runs: list[tuple[BatchId, list[float], list[float]]] = []

    def add(self, batch: BatchId, ms: float, sealed_at_ms: float) -> None:
        """A batch is done here."""
        if not self._runs or batch != self._runs[-1][0] + len(self._runs[-1][1]):
            self._runs.append((batch, [], []))
        _, milliseconds, sealed = self._runs[-1]
        milliseconds.append(ms)
        sealed.append(sealed_at_ms)

    def take(self) -> tuple[BatchLatencies, ...]:
        """All of it, by runs of batches."""
        runs, self._runs = self._runs, []
        return tuple(BatchLatencies(first, tuple(ms), tuple(sealed)) for first, ms, sealed in runs)


class Latencies(Mapping[BatchId, float]):
    """From sealed to done, in ms, by batch, ascending. A batch is as late as its latest part."""

    def __init__(self, kept_max: int = LATENCIES_KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._newest = NO_BATCH
        self._batches = array("q")
        """A batch's place is its number modulo `kept_max`; who has it now stands here."""
        self._ms = array("d")
        self._sealed_at_ms = array("d")

    def observe(self, run: BatchLatencies) -> None:
        """A part of each of some batches is done; a column that is longer than the other is cut."""
        end = run.first + min(len(run.milliseconds), len(run.sealed_at_ms))
        first = max(run.first, end - self._kept_max, self._forgotten + 1)
        while first < end:
            at = first % self._kept_max
            until = min(end, first + self._kept_max - at)
            mine = slice(first - run.first, until - run.first)
            self._observe(at, range(first, until), run.milliseconds[mine], run.sealed_at_ms[mine])
            self._newest = BatchId(max(self._newest, until - 1))
            first = until

    def _observe(self, at: int, batches: range, ms: Sequence[float], sealed_at_ms: Sequence[float]) -> None:
        """Batches that lie side by side from place `at` on."""
        here = slice(at, at + len(batches))
        if here.stop > len(self._batches):
            self._make_room(here.stop)
        found = array("q", batches)
        if self._batches[here] != found:
            for place, batch in zip(range(here.start, here.stop), batches, strict=True):
                if self._batches[place] != batch:
                    self._batches[place], self._ms[place], self._sealed_at_ms[place] = batch, -inf, -inf
        self._ms[here] = array("d", map(max, self._ms[here], ms))
        self._sealed_at_ms[here] = array("d", map(max, self._sealed_at_ms[here], sealed_at_ms))

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

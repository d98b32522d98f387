"""Copies of straggling tasks: a source offers a batch a second time, to a worker that is on time.

Tasks that read a stream have no state, so anybody can compute them from the source's log, and who waits
for them takes whichever result is here first: results are the same, and what has come is not taken twice
(`core.arrivals`). A source is who knows of a late one: it gave the input and gets credit back, so nobody
is asked, neither inside a group nor at the coordinator. The rules:

- A task is late when its credit is `slow_after_ms` later than the median, as `core.stragglers` has it, and
  another worker has given credit for its part of the very batch. That worker gets the copy, if it has next to
  nothing to do: where batches queue up, tasks are late by how long their queue is, and a copy is only more
  work for who has enough. What delays everybody makes no copy, since nobody could do better.
- A copy gives no credit: its owner still computes the batch, whose blocks a later recovery counts on.
- Each task is copied once at most, and copies are few: `COPIES_PER_TASK` of all tasks, so that a copy can
  never be what makes a cluster slow.
- What was sealed before this generation is catching up and not straggling.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

from drizzle_streams.core.stragglers import SLOW_RATIO, slow_after_ms
from drizzle_streams.model.ids import NO_BATCH, BatchId, PartitionId, WorkerId

TASKS_REMEMBERED = 64
"""Tasks whose lateness makes the median: three seconds of batches."""

TASKS_KNOWN_MIN = 8
"""Before so many there is no median to speak of."""

COPIES_PER_TASK = 0.25
"""What a task that was done by its owner adds to the allowance of copies."""

COPIES_ALLOWED_MAX = 8.0
"""The allowance grows no further: the batches in flight of one partition."""

BACKUP_BATCHES_MAX = 1
"""Who has more batches of its own to compute than that gets no copy."""

ROUNDING_MS = 0.01
"""A deadline goes to seconds and back: without this, rounding could leave it due for ever."""

Task = tuple[BatchId, PartitionId]


@dataclass(frozen=True, slots=True)
class Copy:
    """Offer these partitions of a batch to `to` as well."""

    batch: BatchId
    to: WorkerId
    partitions: tuple[PartitionId, ...]


@dataclass(slots=True)
class Copies:
    """Of one stage at one source. `since`: batches up to it are older than the generation.

    `awaits_backup`: something is late, and whom to ask may show with any message.
    """

    interval_ms: float
    since: BatchId = NO_BATCH
    started: int = 0
    won: int = 0
    wasted: int = 0
    awaits_backup: bool = False
    _late_ms: deque[float] = field(default_factory=lambda: deque[float](maxlen=TASKS_REMEMBERED))
    _allowance: float = 0.0
    _copied: dict[Task, bool] = field(default_factory=dict[Task, bool])

    def begin(self, since: BatchId) -> None:
        """A new generation: what is under way counts no more."""
        self.since = since
        self._copied.clear()

    def owner_took(self, batch: BatchId, partition: PartitionId, late_ms: float) -> None:
        """The owner has computed it, so long after it was sealed."""
        won = self._copied.pop((batch, partition), None)
        self.wasted += won is False
        if batch > self.since:
            self._late_ms.append(late_ms)
            self._allowance = min(COPIES_ALLOWED_MAX, self._allowance + COPIES_PER_TASK)

    def copy_ended(self, batch: BatchId, partition: PartitionId) -> None:
        """Somebody else has computed it; it won if its owner has not yet."""
        if self._copied.get((batch, partition)) is False:
            self._copied[batch, partition] = True
            self.won += 1

    @property
    def late_after_ms(self) -> float | None:
        """After so long a task is late; None while too little is known."""
        if len(self._late_ms) < TASKS_KNOWN_MIN:
            return None
        typical = median(self._late_ms)
        return max(SLOW_RATIO * typical, typical + slow_after_ms(self.interval_ms))

    def due(
        self,
        now_ms: float,
        sealed_at_ms: Mapping[BatchId, float],
        taken: Mapping[PartitionId, BatchId],
        owners: Mapping[PartitionId, WorkerId],
    ) -> tuple[list[Copy], float | None]:
        """The copies to be made now, and when (ms) the next task is late; `owners` of our partitions."""
        after_ms = self.late_after_ms
        self.awaits_backup = False
        if after_ms is None:
            return [], None
        copies: dict[tuple[BatchId, WorkerId], list[PartitionId]] = {}
        next_ms: float | None = None
        idle_from = BatchId(max(sealed_at_ms, default=NO_BATCH) - BACKUP_BATCHES_MAX)
        stands = _stands(taken, owners)
        for batch, partition in self._open(sealed_at_ms, taken):
            late_at_ms = sealed_at_ms[batch] + after_ms
            if late_at_ms > now_ms + ROUNDING_MS:
                next_ms = late_at_ms if next_ms is None else min(next_ms, late_at_ms)
                continue
            to = _backup(batch, partition, idle_from, stands)
            if to is not None and self._allowance >= 1.0:
                self._allowance -= 1.0
                self._copied[batch, partition] = False
                self.started += 1
                copies.setdefault((batch, to), []).append(partition)
            else:
                self.awaits_backup = True
        return [Copy(batch, to, tuple(parts)) for (batch, to), parts in copies.items()], next_ms

    def _open(
        self, sealed_at_ms: Mapping[BatchId, float], taken: Mapping[PartitionId, BatchId]
    ) -> Iterator[Task]:
        """Tasks that their owners have not done and nobody was asked to copy, oldest batch first."""
        for batch in sorted(sealed_at_ms):
            if batch > self.since:
                for partition, last in taken.items():
                    if batch > last and (batch, partition) not in self._copied:
                        yield batch, partition


def _stands(
    taken: Mapping[PartitionId, BatchId], owners: Mapping[PartitionId, WorkerId]
) -> dict[WorkerId, BatchId]:
    """Up to which batch each worker has done its own part."""
    stands: dict[WorkerId, BatchId] = {}
    for partition, last in taken.items():
        owner = owners[partition]
        stands[owner] = min(last, stands.get(owner, last))
    return stands


def _backup(
    batch: BatchId, partition: PartitionId, idle_from: BatchId, stands: Mapping[WorkerId, BatchId]
) -> WorkerId | None:
    """Who has done its own part of that batch, and of all up to `idle_from`; of several, by turns."""
    done = max(batch, idle_from)
    on_time = sorted(worker for worker, last in stands.items() if last >= done)
    return on_time[(batch + partition) % len(on_time)] if on_time else None

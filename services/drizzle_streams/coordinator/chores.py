"""What the coordinator asks of the snapshot store: done in order, beside everything else.

Nobody waits for these, so an outage of the store never holds up the machine. What fails leaves
garbage, never damage: a part means nothing unless a checkpoint names it. It is logged and
counted, and goes when its job ends, for then every part of the run is removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from drizzle_streams.errors import StoreError
from drizzle_streams.model.ids import Generation, JobId
from drizzle_streams.stores.base import SnapshotStore

log = logging.getLogger("drizzle.coordinator")

CHORES_WAITING_MAX = 10_000
"""Chores that wait for the store; at the bound the oldest is given up and counted."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Refuse snapshots of older generations of a run."""

    run: JobId
    generation: Generation


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove parts that no checkpoint needs."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clear:
    """A run has ended: take no more parts of it, and remove all there are."""

    run: JobId
    generation: Generation


Chore = Fence | Delete | Clear


class Chores:
    """The queue and the one who works it off; `run` needs an owner."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._waiting: deque[Chore] = deque()
        self._wake = asyncio.Event()
        self.counters: Counter[str] = Counter()
        """done, failed and given_up. Only grows; telemetry reads it."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, *chores: Chore) -> None:
        """Have these done, after what waits already."""
        for chore in chores:
            if len(self._waiting) >= CHORES_WAITING_MAX:
                self._given_up(self._waiting.popleft())
            self._waiting.append(chore)
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._do(self._waiting.popleft())

    async def _do(self, chore: Chore) -> None:
        try:
            match chore:
                case Fence(run=run, generation=generation):
                    await self._store.fence(run, generation)
                case Delete(keys=keys):
                    await self._store.delete(keys)
                case Clear(run=run, generation=generation):
                    await self._clear(run, generation)
        except StoreError as error:
            self.counters["failed"] += 1
            log.warning("a snapshot chore failed", extra={"chore": repr(chore)[:300], "reason": str(error)})
        else:
            self.counters["done"] += 1

    async def _clear(self, run: JobId, generation: Generation) -> None:
        # The next generation of this run will never be: its fence refuses whoever still writes.
        after = Generation(generation + 1)
        await self._store.fence(run, after)
        parts: Sequence[str] = await self._store.written_before(run, after)
        await self._store.delete(parts)

    def _given_up(self, chore: Chore) -> None:
        self.counters["given_up"] += 1
        log.warning("a snapshot chore was given up: too many wait", extra={"chore": repr(chore)[:300]})

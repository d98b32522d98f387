"""Open loop: an event is due at a time that nothing can move, and lateness counts against whoever causes it.

Why: a generator that waits for the system it measures hides exactly the delays it should show (coordinated
omission).

- A block is handed over when its last event is due, never before, and never later because the system is slow.
- What the generator itself is late by is measured apart (`behind`), so that a run on an overloaded machine
  shows it.
- What is handed over and not yet acknowledged is bounded. At the bound the generator has to wait; that is
  reported as overload, because from there on the loop is closed. Due times stay as they were, so counts
  stay exact and the latency of what waited is still counted from when it was due.

Text is made ahead of its time in a thread (Polars frees the interpreter), several blocks in one
vectorised call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from drizzle_loadgen.clock import Clock
from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.events import RENDER_EVENTS_MAX, Workload
from drizzle_loadgen.report import Histogram

AHEAD_MS = 250  # text made by one call, and as much again while it is being posted
STOP_CHECK_S = 0.1  # longest time between two looks at `stop`


@dataclass(frozen=True, slots=True)
class Block:
    """Events [first, first + events) as NDJSON, due (Unix ms) when the last of them is."""

    number: int
    first: int
    events: int
    due_ms: float
    payload: bytes


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which events go into which block: block k holds `block_events` from k * block_events on."""

    workload: Workload
    events: int
    block_events: int

    @classmethod
    def of(cls, workload: Workload, seconds: float, block_ms: float) -> Schedule:
        """`seconds` of the workload in blocks of about `block_ms`, when most is due; of an event at least."""
        if seconds <= 0 or block_ms <= 0:
            raise UsageError(f"seconds and block-ms: wanted more than 0, found {seconds} and {block_ms}")
        return cls(
            workload=workload,
            events=workload.events(seconds),
            block_events=max(1, round(workload.highest_rate * block_ms / 1000)),
        )

    @property
    def blocks(self) -> int:
        """How many blocks hold all events."""
        return -(-self.events // self.block_events)

    @property
    def blocks_ahead(self) -> int:
        """How many blocks one call makes: about AHEAD_MS of them."""
        wanted = self.workload.highest_rate * AHEAD_MS // 1000 // self.block_events
        return max(1, min(wanted, RENDER_EVENTS_MAX // self.block_events))

    def make(self, number: int, count: int) -> list[Block]:
        """Blocks [number, number + count), as far as there are any."""
        first = number * self.block_events
        events = min(count * self.block_events, self.events - first)
        if events <= 0:
            return []
        payloads = self.workload.blocks(first, events, self.block_events)
        return [self._block(number + k, payload) for k, payload in enumerate(payloads)]

    def _block(self, number: int, payload: bytes) -> Block:
        first = number * self.block_events
        events = min(self.block_events, self.events - first)
        return Block(number, first, events, self.workload.due_ms(first + events - 1), payload)


class Outlet(Protocol):
    """Where blocks go when they are due."""

    def offer(self, block: Block) -> bool:
        """Take the block and return True, or False if as much is outstanding as may be."""
        ...

    async def room(self, block: Block) -> None:
        """Return once `offer(block)` would be True, or when nothing will ever be taken again."""
        ...


@dataclass(slots=True)
class Pace:
    """How well the schedule was kept, by the generator's own doing."""

    sent_events: int = 0
    sent_blocks: int = 0
    sent_bytes: int = 0
    behind_ms: float = 0.0  # of the latest block
    behind: Histogram = field(default_factory=Histogram)  # ms, one value per block
    overloads: int = 0  # how often the bound on outstanding bytes was met
    overload_ms: float = 0.0


class OpenLoop:
    """Hands the blocks of a schedule to an outlet when they are due; one use."""

    def __init__(self, schedule: Schedule, outlet: Outlet, clock: Clock, stop: asyncio.Event) -> None:
        self.pace = Pace()
        self._schedule = schedule
        self._outlet = outlet
        self._clock = clock
        self._stop = stop

    async def run(self) -> None:
        """Return when all blocks are handed over, or at the first block boundary after `stop` is set."""
        async with aclosing(self._blocks()) as blocks:
            async for block in blocks:
                if not await self._until_due(block):
                    return
                behind_ms = max(0.0, self._clock.now_ms() - block.due_ms)
                if not self._outlet.offer(block) and not await self._wait_for_room(block):
                    return
                self._count(block, behind_ms)

    async def _blocks(self) -> AsyncGenerator[Block, None]:
        """All blocks in order; the next ones are made when half of the present ones are handed over.

        Runs begin on a full second, so text would else be made, with all of a processor, at just the moments
        at which windows end and their latency is measured.
        """
        schedule, step = self._schedule, self._schedule.blocks_ahead
        coming = asyncio.create_task(asyncio.to_thread(schedule.make, 0, step))
        try:
            for number in range(step, schedule.blocks + step, step):
                present = await coming
                for place, block in enumerate(present):
                    if place == len(present) // 2:
                        coming = asyncio.create_task(asyncio.to_thread(schedule.make, number, step))
                    yield block
        finally:
            await asyncio.wait([coming])

    async def _until_due(self, block: Block) -> bool:
        while not self._stop.is_set():
            wait_s = (block.due_ms - self._clock.now_ms()) / 1000
            if wait_s <= 0:
                return True
            await asyncio.sleep(min(wait_s, STOP_CHECK_S))
        return False

    async def _wait_for_room(self, block: Block) -> bool:
        """Closed loop from here until there is room again; says so in `pace`. False: stopped instead."""
        self.pace.overloads += 1
        began_ms = self._clock.now_ms()
        stopped = asyncio.create_task(self._stop.wait())
        room = asyncio.create_task(self._outlet.room(block))
        try:
            await asyncio.wait([stopped, room], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            room.cancel()
            await asyncio.wait([stopped, room])
        self.pace.overload_ms += self._clock.now_ms() - began_ms
        return self._outlet.offer(block)

    def _count(self, block: Block, behind_ms: float) -> None:
        pace = self.pace
        pace.sent_events += block.events
        pace.sent_blocks += 1
        pace.sent_bytes += len(block.payload)
        pace.behind_ms = behind_ms
        pace.behind.add(behind_ms)

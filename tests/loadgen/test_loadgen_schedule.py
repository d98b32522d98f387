"""The schedule is open: nothing moves a due time, lateness has an owner, counts stay exact."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_loadgen.clock import Clock
from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.events import Workload
from drizzle_loadgen.schedule import Block, OpenLoop, Schedule


class Basket:
    """An outlet that has room for `room_for` blocks, until `emptied`."""

    def __init__(self, clock: Clock, room_for: int = 10**9) -> None:
        self.clock = clock
        self.room_for = room_for
        self.blocks: list[Block] = []
        self.times_ms: list[float] = []
        self.emptied = asyncio.Event()
        self.asked = asyncio.Event()
        self.filled = asyncio.Event()

    def offer(self, block: Block) -> bool:
        if len(self.blocks) >= self.room_for and not self.emptied.is_set():
            self.asked.set()
            return False
        self.blocks.append(block)
        self.times_ms.append(self.clock.now_ms())
        if len(self.blocks) == 3:
            self.filled.set()
        return True

    async def room(self, block: Block) -> None:
        await self.emptied.wait()


def soon(clock: Clock, rate: int) -> Workload:
    return Workload(5, int(clock.now_ms()) + 50, rate)


@given(
    rate=st.integers(1, 10**6),
    seconds=st.floats(0.001, 5),
    block_ms=st.floats(0.1, 100),
    past=st.integers(0, 3),
)
def test_blocks_hold_every_event_once(rate: int, seconds: float, block_ms: float, past: int) -> None:
    schedule = Schedule.of(Workload(1, 1000, rate), seconds, block_ms)
    assert schedule.events == max(1, round(rate * seconds))
    number = max(0, schedule.blocks - 2)
    made = schedule.make(number, 2 + past)
    assert [block.number for block in made] == list(range(number, schedule.blocks))
    for block in made:
        assert block.first == block.number * schedule.block_events
        assert len(block.payload.splitlines()) == block.events <= schedule.block_events
        assert block.due_ms == schedule.workload.due_ms(block.first + block.events - 1)
    assert made[-1].first + made[-1].events == schedule.events
    assert schedule.make(schedule.blocks, 5) == []


async def test_no_block_is_early_and_all_are_handed_over_in_order() -> None:
    clock = Clock()
    schedule = Schedule.of(soon(clock, 2000), 0.7, 10)
    basket = Basket(clock)
    loop = OpenLoop(schedule, basket, clock, asyncio.Event())
    await loop.run()
    assert [block.number for block in basket.blocks] == list(range(schedule.blocks))
    assert b"".join(block.payload for block in basket.blocks) == schedule.workload.ndjson(0, schedule.events)
    assert all(time >= block.due_ms for time, block in zip(basket.times_ms, basket.blocks, strict=True))
    pace = loop.pace
    assert (pace.sent_events, pace.sent_blocks) == (1400, schedule.blocks)
    assert pace.sent_bytes == sum(len(block.payload) for block in basket.blocks)
    assert (pace.overloads, pace.overload_ms) == (0, 0.0)
    behind = pace.behind.percentiles()
    assert behind is not None
    assert behind.count == schedule.blocks


async def test_text_is_made_between_the_moments_at_which_windows_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run begins on a full second, a call makes a quarter of one: never while its first blocks go out."""
    clock = Clock()
    schedule = Schedule.of(Workload(5, int(clock.now_ms()) - 60_000, 2000), 1.0, 10)
    basket, made_at, to_thread = Basket(clock), list[int](), asyncio.to_thread

    def recorded(make: Callable[..., Any], *arguments: Any) -> Coroutine[Any, Any, Any]:
        made_at.append(len(basket.blocks))
        return to_thread(make, *arguments)

    monkeypatch.setattr(asyncio, "to_thread", recorded)
    await OpenLoop(schedule, basket, clock, asyncio.Event()).run()
    assert schedule.blocks_ahead == 25
    assert made_at == [0, 12, 37, 62, 87]


async def test_a_start_in_the_past_is_caught_up_and_counted_as_late() -> None:
    clock = Clock()
    schedule = Schedule.of(Workload(5, int(clock.now_ms()) - 60_000, 1000), 1, 10)
    loop = OpenLoop(schedule, Basket(clock), clock, asyncio.Event())
    await loop.run()
    assert loop.pace.sent_events == 1000
    assert loop.pace.behind_ms > 58_000


async def test_the_bound_on_outstanding_blocks_is_waited_for_and_reported() -> None:
    clock = Clock()
    schedule = Schedule.of(soon(clock, 1000), 0.1, 10)
    basket = Basket(clock, room_for=3)
    loop = OpenLoop(schedule, basket, clock, asyncio.Event())
    running = asyncio.create_task(loop.run())
    await basket.asked.wait()
    assert loop.pace.sent_blocks == 3
    basket.emptied.set()
    await running
    assert loop.pace.overloads == 1
    assert loop.pace.overload_ms > 0
    assert [block.number for block in basket.blocks] == list(range(schedule.blocks))


@pytest.mark.parametrize("room_for", [2, 10**9])
async def test_it_stops_at_a_block_boundary_also_while_it_waits_for_room(room_for: int) -> None:
    clock = Clock()
    stop = asyncio.Event()
    basket = Basket(clock, room_for)
    loop = OpenLoop(Schedule.of(soon(clock, 1000), 3600, 5), basket, clock, stop)
    running = asyncio.create_task(loop.run())
    await (basket.asked if room_for == 2 else basket.filled).wait()
    stop.set()
    await asyncio.wait_for(running, 10)
    assert loop.pace.sent_blocks == len(basket.blocks)
    assert loop.pace.sent_events == sum(block.events for block in basket.blocks)


@pytest.mark.parametrize(("seconds", "block_ms"), [(0, 5), (-1, 5), (1, 0)])
def test_impossible_schedules_are_refused(seconds: float, block_ms: float) -> None:
    with pytest.raises(UsageError, match="more than 0"):
        Schedule.of(Workload(1, 0, 10), seconds, block_ms)

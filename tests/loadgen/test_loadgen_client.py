"""Every event is acknowledged exactly once and in order, whatever a real server does to the client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drizzle_loadgen.client import Client, SourceLink
from drizzle_loadgen.clock import Clock
from drizzle_loadgen.delivery import Bounds
from drizzle_loadgen.discovery import fixed
from drizzle_loadgen.errors import DeliveryError
from drizzle_loadgen.schedule import Block
from tests.loadgen.misbehaving_source import (
    BROKEN,
    CLOSE,
    GARBAGE,
    NO_LENGTH,
    RESET_AFTER,
    RESET_BEFORE,
    THROTTLE,
    Behaviour,
    MisbehavingSource,
    Script,
)

PATIENT = Bounds(in_flight_max=4, answer_timeout_s=10, give_up_after_s=30)


def block(number: int, size: int = 20) -> Block:
    return Block(number, number * 10, 10, 0.0, f"{number:0{size - 1}d}\n".encode())


BLOCKS = [block(number) for number in range(40)]


@dataclass
class Scene:
    source: MisbehavingSource
    link: SourceLink

    async def deliver(self, blocks: list[Block] = BLOCKS) -> None:
        """Offer all blocks, then run the link to its end."""
        for each in blocks:
            assert self.link.offer(each)
        self.link.no_more()
        await asyncio.wait_for(self.link.run(), 60)


def link_to(url: str, bounds: Bounds = PATIENT, headers: dict[str, str] | None = None) -> SourceLink:
    (locate,) = fixed([url])
    return SourceLink(locate, "/streams/ad-events/records", headers or {}, "tester", bounds, Clock())


@asynccontextmanager
async def scene(
    script: Script | Mapping[int, Behaviour] | None = None, bounds: Bounds = PATIENT
) -> AsyncIterator[Scene]:
    source = MisbehavingSource(script)
    url = await source.start()
    try:
        yield Scene(source, link_to(url, bounds))
    finally:
        source.go_on.set()
        await source.stop()


def assert_all_taken_in_order(set_up: Scene, blocks: list[Block] = BLOCKS) -> None:
    delivery = set_up.link.delivery
    assert set_up.source.taken == [each.payload for each in blocks]
    assert set_up.source.numbers == [("tester", 1 + k) for k in range(len(blocks))]
    assert delivery.taken_blocks == len(blocks)
    assert delivery.taken_beyond == {}
    assert delivery.acknowledged_events == sum(each.events for each in blocks)
    assert delivery.posts == len(blocks) + delivery.retries
    assert delivery.posts >= set_up.source.requests  # what is behind a broken request is never read
    late = delivery.acknowledged_late.percentiles()
    assert late is not None
    assert late.count == len(blocks)
    assert set_up.link.unanswered_events == 0
    assert set_up.link.oldest_due_ms is None


async def test_a_good_server_gets_each_block_once_on_one_connection() -> None:
    async with scene() as set_up:
        await set_up.deliver()
        assert_all_taken_in_order(set_up)
        assert set_up.link.delivery.connections == 1
        assert set_up.link.delivery.retries == 0
        seen = set_up.source.seen_headers[0]
        assert seen["Content-Type"] == "application/x-ndjson"
        assert set_up.source.paths[0] == "/streams/ad-events/records"


async def test_the_token_and_the_path_of_a_proxy_are_sent() -> None:
    source = MisbehavingSource()
    url = await source.start()
    link = link_to(url + "/behind/proxy/", headers={"Authorization": "Bearer secret"})
    assert link.offer(BLOCKS[0])
    link.no_more()
    await link.run()
    await source.stop()
    assert source.seen_headers[0]["Authorization"] == "Bearer secret"
    assert source.paths == ["/behind/proxy/streams/ad-events/records"]


@pytest.mark.parametrize(
    ("behaviour", "counter"),
    [
        (THROTTLE, "throttled"),
        (BROKEN, "refused"),
        (Behaviour(500, take=True), "refused"),
        (Behaviour(408, take=False), "refused"),
        (RESET_BEFORE, None),
        (RESET_AFTER, None),
        (CLOSE, None),
        (Behaviour(429, {"Retry-After": "0"}, take=False, close=True), "throttled"),
        (GARBAGE, None),
        (NO_LENGTH, None),
        (Behaviour(200, take=True), None),
    ],
    ids=[
        "429",
        "503",
        "500-taken",
        "408",
        "reset",
        "answer-lost",
        "close",
        "429-close",
        "garbage",
        "chunked",
        "good",
    ],
)
@pytest.mark.parametrize("at", [0, 17, 39])
async def test_one_misbehaviour_loses_nothing(behaviour: Behaviour, counter: str | None, at: int) -> None:
    async with scene({at: behaviour}, Bounds(in_flight_max=1)) as set_up:
        await set_up.deliver()
        assert_all_taken_in_order(set_up)
        assert set_up.link.delivery.overtaken == 0
        if counter is not None:
            assert getattr(set_up.link.delivery, counter) == 1


@pytest.mark.parametrize("behaviour", [RESET_BEFORE, RESET_AFTER, CLOSE, GARBAGE])
async def test_a_broken_connection_keeps_the_order_with_many_in_flight(behaviour: Behaviour) -> None:
    async with scene(dict.fromkeys((0, 1, 9, 20, 21), behaviour)) as set_up:
        await set_up.deliver()
        assert_all_taken_in_order(set_up)
        assert set_up.link.delivery.connections > 3


async def test_a_source_that_refuses_for_a_while_gets_everything_in_order() -> None:
    async with scene(lambda number: THROTTLE if 10 <= number < 30 else None) as set_up:
        await set_up.deliver()
        assert_all_taken_in_order(set_up)
        assert set_up.link.delivery.throttled == 20
        assert set_up.link.delivery.overtaken == 0


async def test_a_block_that_overtakes_a_refused_one_is_counted_and_still_taken_once() -> None:
    # Request 10 is refused while 11 to 13 are already on the wire behind it, and taken.
    async with scene({10: THROTTLE}) as set_up:
        await set_up.deliver()
        delivery, source = set_up.link.delivery, set_up.source
        assert delivery.overtaken == 3
        assert sorted(source.taken) == [each.payload for each in BLOCKS]
        assert (delivery.taken_blocks, delivery.acknowledged_events) == (40, 400)
        assert (delivery.retries, source.duplicates) == (1, 0)


_BEHAVIOURS = st.sampled_from([THROTTLE, BROKEN, RESET_BEFORE, RESET_AFTER, CLOSE, GARBAGE, None, None, None])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(behaviours=st.lists(_BEHAVIOURS, max_size=25), in_flight=st.integers(1, 6), count=st.integers(0, 20))
def test_any_misbehaviour_ends_with_every_block_taken_once(
    behaviours: list[Behaviour | None], in_flight: int, count: int
) -> None:
    async def check() -> None:
        async with scene(
            lambda number: behaviours[number] if number < len(behaviours) else None,
            Bounds(in_flight_max=in_flight),
        ) as set_up:
            blocks = BLOCKS[:count]
            await set_up.deliver(blocks)
            assert sorted(set_up.source.taken) == [each.payload for each in blocks]
            assert set_up.link.delivery.taken_blocks == count
            assert set_up.link.delivery.acknowledged_events == 10 * count
            if in_flight == 1 or not {THROTTLE, BROKEN} & set(behaviours):
                assert set_up.source.taken == [each.payload for each in blocks]

    asyncio.run(check())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the state of a counter, which sets no event
            await asyncio.sleep(0.002)


async def test_no_more_blocks_are_in_flight_than_allowed() -> None:
    async with scene(lambda number: Behaviour(wait=True) if number == 5 else None) as set_up:
        delivering = asyncio.create_task(set_up.deliver())
        await until(lambda: set_up.source.requests == 6)  # 5 are answered, the 6th waits, 3 are behind it
        assert set_up.link.delivery.taken_blocks == 5
        assert set_up.link.delivery.posts == 5 + 4
        assert set_up.link.unanswered_events == 40
        set_up.source.go_on.set()
        await delivering
        assert_all_taken_in_order(set_up)


async def test_a_source_that_does_not_answer_in_time_is_asked_again() -> None:
    async with scene({3: Behaviour(wait=True)}, Bounds(answer_timeout_s=0.2)) as set_up:
        await set_up.deliver()
        assert_all_taken_in_order(set_up)
        assert set_up.source.duplicates == 1
        assert set_up.link.delivery.connections == 2


async def test_a_killed_source_is_found_again_on_its_port() -> None:
    first = MisbehavingSource(lambda number: Behaviour(wait=True) if number == 7 else None)
    link = link_to(await first.start())
    port = first.port
    for each in BLOCKS:
        assert link.offer(each)
    running = asyncio.create_task(link.run())
    await until(lambda: first.requests == 8)
    first.go_on.set()
    await first.stop()
    second = MisbehavingSource()
    second.numbers, second.taken = first.numbers, first.taken  # its log
    await second.start(port)
    link.no_more()
    await asyncio.wait_for(running, 60)
    await second.stop()
    assert second.taken == [each.payload for each in BLOCKS]
    assert link.delivery.taken_blocks == 40
    assert link.delivery.connections >= 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 301])
async def test_a_refusal_for_good_stops_with_its_reason(status: int) -> None:
    script = {2: Behaviour(status, take=False)}
    async with scene(script, Bounds(in_flight_max=1)) as set_up:
        with pytest.raises(DeliveryError, match=f"refused block 2: {status} .*request"):
            await set_up.deliver()
        assert set_up.link.delivery.taken_blocks == 2
        assert set_up.source.taken == [each.payload for each in BLOCKS[:2]]
        assert not set_up.link.offer(block(99))
        await asyncio.wait_for(set_up.link.room(block(99)), 5)  # nobody waits for room that never comes


async def test_nothing_new_is_posted_while_a_refused_block_waits() -> None:
    script = {0: Behaviour(429, {"Retry-After": "0.3"}, take=False)}
    async with scene(script) as set_up:
        began = time.monotonic()
        running = asyncio.create_task(set_up.link.run())
        assert set_up.link.offer(BLOCKS[0])
        await until(lambda: set_up.link.delivery.throttled == 1)
        for each in BLOCKS[1:3]:
            assert set_up.link.offer(each)
        assert set_up.link.delivery.posts == 1
        set_up.link.no_more()
        await asyncio.wait_for(running, 30)
        assert time.monotonic() - began >= 0.3
        assert_all_taken_in_order(set_up, BLOCKS[:3])


async def test_a_source_that_takes_a_block_now_and_then_is_not_given_up() -> None:
    def script(number: int) -> Behaviour | None:
        return Behaviour(429, {"Retry-After": "0.2"}, take=False) if number % 2 else None

    async with scene(script, Bounds(give_up_after_s=0.5)) as set_up:
        await set_up.deliver(BLOCKS[:6])  # waits for a second in all
        assert_all_taken_in_order(set_up, BLOCKS[:6])


async def test_a_source_that_never_takes_anything_is_given_up() -> None:
    async with scene(lambda _: THROTTLE, Bounds(give_up_after_s=0.3)) as set_up:
        with pytest.raises(DeliveryError, match="took nothing for 0.3 s. Its last reason: 429"):
            await set_up.deliver()
        assert set_up.link.delivery.acknowledged_events == 0
        assert set_up.link.unanswered_events > 0


async def test_a_source_that_is_not_there_is_given_up() -> None:
    source = MisbehavingSource()
    url = await source.start()
    await source.stop()
    link = link_to(url, Bounds(give_up_after_s=0.3))
    assert link.offer(BLOCKS[0])
    with pytest.raises(DeliveryError, match="took nothing for 0.3 s.*Connect"):
        await asyncio.wait_for(link.run(), 30)


async def test_a_source_that_is_not_there_yet_is_waited_for() -> None:
    source = MisbehavingSource()
    url = await source.start()
    port = source.port
    await source.stop()
    link = link_to(url)
    running = asyncio.create_task(link.run())
    assert link.offer(BLOCKS[0])
    await asyncio.sleep(0)
    later = MisbehavingSource()
    await later.start(port)
    link.no_more()
    await asyncio.wait_for(running, 30)
    await later.stop()
    assert later.taken == [BLOCKS[0].payload]


async def test_outstanding_bytes_are_bounded_and_room_comes_back() -> None:
    async with scene({0: Behaviour(wait=True)}, Bounds(outstanding_bytes_max=50)) as set_up:
        link = set_up.link
        running = asyncio.create_task(link.run())
        assert link.offer(BLOCKS[0])
        assert link.offer(BLOCKS[1])
        assert not link.offer(BLOCKS[2])  # 60 bytes
        await until(lambda: set_up.source.requests == 1)
        room = asyncio.create_task(link.room(BLOCKS[2]))
        await asyncio.sleep(0)
        assert not room.done()
        set_up.source.go_on.set()
        await asyncio.wait_for(room, 10)
        assert link.offer(BLOCKS[2])
        link.no_more()
        await asyncio.wait_for(running, 10)
        assert_all_taken_in_order(set_up, BLOCKS[:3])


async def test_a_block_larger_than_the_bound_goes_alone() -> None:
    large = block(0, size=1000)
    async with scene(bounds=Bounds(outstanding_bytes_max=50)) as set_up:
        assert set_up.link.offer(large)
        assert not set_up.link.offer(BLOCKS[1])
        set_up.link.no_more()
        await set_up.link.run()
        assert_all_taken_in_order(set_up, [large])


async def test_blocks_go_round_robin_and_stay_with_their_source() -> None:
    sources = [MisbehavingSource({3: THROTTLE}), MisbehavingSource({2: RESET_AFTER}), MisbehavingSource()]
    client = Client([link_to(await source.start(), Bounds(in_flight_max=1)) for source in sources])
    for each in BLOCKS:
        assert client.offer(each)
    client.no_more()
    await asyncio.wait_for(asyncio.gather(*(link.run() for link in client.links)), 60)
    for number, source in enumerate(sources):
        assert source.taken == [each.payload for each in BLOCKS[number::3]]
        await source.stop()

"""What every transport promises, asked of each of them in the same words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import pytest

from drizzle_streams.errors import BackPressureError, ConfigError, ProtocolError, UnreachableError
from drizzle_streams.model.ids import NodeId
from drizzle_streams.transport.base import DropReason, LinkLimits, NotFoundError, RefuseReason
from tests.transport.transport_worlds import HttpWorld, MemoryWorld, Node, World, join, packed, until

QUICK = LinkLimits(backoff_first_s=0.02, backoff_max_s=0.05)
SMALL = LinkLimits(frame_bytes_max=1_000, message_bytes_max=2_000)


@pytest.fixture(params=[HttpWorld, MemoryWorld], ids=["http", "memory"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    world: World = request.param()
    yield world
    await asyncio.gather(*(node.transport.close() for node in world.nodes))
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks outlived their transport: {left}"


async def pair(world: World, limits: LinkLimits | None = None) -> tuple[Node, Node]:
    return await join(world, "a", limits=limits), await join(world, "b", limits=limits)


# Frames


async def test_frames_arrive_in_order_with_their_sender(world: World) -> None:
    a, b = await pair(world)
    for number in range(50):
        a.send(b, b"%d" % number)
        if number % 7 == 0:
            await asyncio.sleep(0)
    assert await b.received(50) == [b"%d" % number for number in range(50)]
    assert {sender for sender, _ in b.frames} == {a.id}


async def test_both_ways_use_one_connection(world: World) -> None:
    a, b = await pair(world)
    a.send(b, b"there")
    await b.received(1)
    b.send(a, b"back")
    assert await a.received(1) == [b"back"]
    assert a.transport.counters.links_opened == b.transport.counters.links_opened == 1
    assert b.transport.counters.dials == 0


async def test_what_waits_for_a_link_is_one_message(world: World) -> None:
    a, b = await pair(world)
    a.send(b, *(b"%d" % number for number in range(100)))
    await b.received(100)
    counters = b.transport.counters
    assert (counters.messages_received, counters.frames_received) == (1, 100)
    assert a.transport.counters.bytes_sent == counters.bytes_received


async def test_messages_keep_to_their_bounds(world: World) -> None:
    limits = LinkLimits(message_frames_max=10, message_bytes_max=1_000, frame_bytes_max=900)
    a, b = await pair(world, limits)
    a.send(b, *(b"%d" % number for number in range(25)))
    assert len(await b.received(25)) == 25
    assert b.transport.counters.messages_received == 3
    a.send(b, *(bytes([number]) * 300 for number in range(7)))
    assert (await b.received(32))[25:] == [bytes([number]) * 300 for number in range(7)]
    written = b.transport.counters.messages_received - 3
    assert 3 <= written <= 7, "three fit in one; an open link may take each at once"


async def test_a_longest_frame_arrives_whole(world: World) -> None:
    a, b = await pair(world)
    longest = bytes(range(256)) * (LinkLimits().frame_bytes_max // 256)
    a.send(b, longest, b"after")
    assert await b.received(2) == [longest, b"after"]


async def test_a_node_can_write_to_itself(world: World) -> None:
    a = await join(world, "a")
    a.send(a, b"1", b"2")
    assert await a.received(2) == [b"1", b"2"]
    a.send(a, b"3")
    assert await a.received(3) == [b"1", b"2", b"3"]


async def test_two_that_dial_each_other_at_once_lose_nothing(world: World) -> None:
    a, b = await pair(world)
    for number in range(20):
        a.send(b, b"a%d" % number)
        b.send(a, b"b%d" % number)
        await asyncio.sleep(0)
    assert sorted(await b.received(20)) == sorted(b"a%d" % number for number in range(20))
    assert sorted(await a.received(20)) == sorted(b"b%d" % number for number in range(20))
    await b.transport.close()
    await until(lambda: bool(a.unreachable), "a sees that b left")
    assert a.unreachable == [b.id]


async def test_a_peer_s_frames_are_held_until_they_leave(world: World) -> None:
    a, b = await pair(world)
    at = b.transport.address
    assert not a.transport.holds(b.id, at)
    a.send(b, b"x")
    assert a.transport.holds(b.id, at)
    assert not b.transport.holds(a.id, a.transport.address)
    assert await b.received(1) == [b"x"]
    await until(lambda: not a.transport.holds(b.id, at), "it has left")


# Bounds


async def test_beyond_the_frames_of_a_queue_the_newest_is_dropped(world: World) -> None:
    a, b = await pair(world, LinkLimits(queue_frames_max=5))
    a.send(b, *(b"%d" % number for number in range(8)))
    assert (a.transport.queued_frames, a.transport.queued_bytes) == (5, 5)
    assert a.transport.counters.dropped == {DropReason.QUEUE_FULL: 3}
    assert await b.received(5) == [b"0", b"1", b"2", b"3", b"4"]
    a.send(b, b"again")
    assert (await b.received(6))[-1] == b"again"
    assert a.transport.queued_frames == a.transport.queued_bytes == 0


async def test_beyond_the_bytes_of_a_queue_the_newest_is_dropped(world: World) -> None:
    a, b = await pair(world, LinkLimits(queue_bytes_max=100))
    a.send(b, b"x" * 60, b"y" * 60, b"z" * 40)
    assert a.transport.counters.dropped == {DropReason.QUEUE_FULL: 1}
    assert await b.received(2) == [b"x" * 60, b"z" * 40]


@pytest.mark.parametrize("frame", [b"", b"x" * 1_001], ids=["empty", "too long"])
async def test_a_frame_that_can_never_arrive_is_an_error(world: World, frame: bytes) -> None:
    a, b = await pair(world, SMALL)
    with pytest.raises(ProtocolError, match="1 to 1000 bytes"):
        a.send(b, frame)


async def test_peers_are_bounded(world: World) -> None:
    limits = LinkLimits(peers_max=1)
    a = await join(world, "a", limits=limits)
    b, c = await pair(world)
    a.send(b, b"first")
    a.send(c, b"second")
    await b.received(1)
    assert a.transport.counters.dropped == {DropReason.PEERS_MAX: 1}
    c.send(a, b"third")
    await until(lambda: bool(c.unreachable), "c is refused")
    assert a.transport.counters.refused == {RefuseReason.PEERS_MAX: 1}
    assert (a.transport.peers, a.frames, c.frames) == (1, [], [])


async def test_a_peer_that_is_gone_is_forgotten(world: World) -> None:
    a = await join(world, "a", limits=QUICK)
    b = await join(world, "b")
    a.send(b, b"x")
    await b.received(1)
    await b.transport.close()
    a.send(b, b"y")
    await until(lambda: a.transport.peers == 0, "a forgets b")
    assert a.transport.queued_bytes == 0


# Peers that are not there


async def test_a_failed_dial_drops_what_waited_and_is_told_once(world: World) -> None:
    a, b = await pair(world)
    await b.transport.close()
    a.send(b, b"1", b"2", b"3")
    await until(lambda: bool(a.unreachable), "a is told")
    assert a.unreachable == [b.id]
    assert a.transport.counters.dropped == {DropReason.UNREACHABLE: 3}
    assert (a.transport.counters.dials, a.transport.counters.dials_failed) == (1, 1)


async def test_dials_back_off_while_frames_keep_coming(world: World) -> None:
    a = await join(world, "a", limits=LinkLimits(backoff_first_s=0.04, backoff_max_s=0.08))
    b = await join(world, "b")
    await b.transport.close()
    began, sent = time.monotonic(), 0
    while len(a.unreachable) < 4:
        a.send(b, b"x")
        sent += 1
        await asyncio.sleep(0.001)
    # Rests of at least half of 40, 80 and 80 ms lie between four dials.
    assert time.monotonic() - began >= 0.1
    assert a.transport.counters.dials_failed == 4
    assert a.transport.counters.dials <= 5
    assert sent >= 8


async def test_a_peer_that_restarts_on_its_address_is_found_again(world: World) -> None:
    a = await join(world, "a", limits=QUICK)
    b = await join(world, "b")
    a.send(b, b"before")
    await b.received(1)
    await b.transport.close()
    await until(lambda: bool(a.unreachable), "a sees that b left")
    assert a.unreachable == [b.id]

    again = await join(world, "b", address=b.address)
    async with asyncio.timeout(20):
        while not again.frames:
            a.send(again, b"after")
            await asyncio.sleep(0.01)
    assert set(again.frames) == {(a.id, b"after")}
    again.send(a, b"hello")
    assert await a.received(1) == [b"hello"]


async def test_another_life_on_the_same_address_gets_nothing_meant_for_the_last(world: World) -> None:
    a = await join(world, "a", limits=QUICK)
    old = await join(world, "w1")
    await old.transport.close()
    new = await join(world, "w2", address=old.address)
    a.send(old, b"for the dead")
    await until(lambda: bool(a.unreachable), "a is told")
    a.send(new, b"for the living")
    assert await new.received(1) == [b"for the living"]
    assert a.unreachable == [old.id]
    assert new.transport.counters.refused == {RefuseReason.NODE: 1}


async def test_a_node_that_moves_is_reached_where_it_is(world: World) -> None:
    a = await join(world, "a")
    leader, standby = await join(world, "coordinator"), await join(world, "coordinator")
    a.send(leader, b"1")
    a.send(standby, b"2")
    assert await leader.received(1) == [b"1"]
    assert await standby.received(1) == [b"2"]


async def test_a_wrong_token_is_refused(world: World) -> None:
    a = await join(world, "a", token="another-token")
    b = await join(world, "b")
    a.send(b, b"let me in")
    await until(lambda: bool(a.unreachable), "a is told")
    assert b.transport.counters.refused == {RefuseReason.TOKEN: 1}
    assert b.frames == []


# Garbage


@pytest.mark.parametrize(
    "message",
    [b"", b"\x01", packed(b"whole") + b"\x01\x00", b"\xff\xff\xff\xff", packed(b"x") + packed(b"")],
    ids=["empty", "torn length", "torn tail", "absurd length", "empty frame"],
)
async def test_garbage_ends_the_connection_and_nothing_else(world: World, message: bytes) -> None:
    a, b = await pair(world)
    await world.say(b, message)
    await until(lambda: RefuseReason.GARBAGE in b.transport.counters.refused, "b counts it")
    assert b.transport.counters.refused == {RefuseReason.GARBAGE: 1}
    assert b.failures == b.frames == []
    a.send(b, b"still here?")
    assert await b.received(1) == [b"still here?"]


async def test_a_frame_beyond_the_receivers_limit_ends_the_connection(world: World) -> None:
    a = await join(world, "a")
    b = await join(world, "b", limits=SMALL)
    a.send(b, b"x" * 1_500)
    await until(lambda: bool(a.unreachable), "b hangs up on a")
    a.send(b, b"x" * 5_000)
    await until(lambda: len(a.unreachable) == 2, "b hangs up on a again")
    assert sum(b.transport.counters.refused.values()) == 2
    assert b.failures == b.frames == []
    a.send(b, b"short")
    assert await b.received(1) == [b"short"]


async def test_a_frame_the_service_rejects_ends_the_connection(world: World) -> None:
    a, b = await pair(world)

    def reject(sender: NodeId, frame: bytes) -> None:
        raise ProtocolError("not a message of this version")

    b.transport.on_frame = reject
    a.send(b, b"x")
    await until(lambda: bool(a.unreachable), "b hangs up on a")
    assert b.transport.counters.refused == {RefuseReason.GARBAGE: 1}
    assert b.failures == []


@pytest.mark.parametrize("dialler_fails", [True, False])
async def test_a_failing_service_is_told_and_not_hidden(world: World, dialler_fails: bool) -> None:
    a, b = await pair(world)
    a.send(b, b"hello")
    await b.received(1)
    failing, other = (a, b) if dialler_fails else (b, a)
    fault = RuntimeError("a bug of the service")

    def fail(sender: NodeId, frame: bytes) -> None:
        raise fault

    failing.transport.on_frame = fail
    other.send(failing, b"x")
    await until(lambda: bool(failing.failures), "the service is told")
    assert failing.failures == [fault]
    await until(lambda: bool(other.unreachable), "the link is gone")
    assert other.failures == []


# Fetches


async def echo(params: Mapping[str, str]) -> bytes:
    return repr(sorted(params.items())).encode()


async def big(params: Mapping[str, str]) -> bytes:
    return bytes(int(params["size"]))


async def gone(params: Mapping[str, str]) -> bytes:
    raise NotFoundError("dropped behind the checkpoint")


async def busy(params: Mapping[str, str]) -> bytes:
    raise BackPressureError("enough for now")


async def broken(params: Mapping[str, str]) -> bytes:
    raise KeyError("a bug of the handler")


async def slow(params: Mapping[str, str]) -> bytes:
    await asyncio.get_running_loop().create_future()
    return b""


async def server(world: World) -> Node:
    node = world.make("server")
    for handler in (echo, big, gone, busy, broken, slow):
        node.transport.serve(f"/{handler.__name__}", handler)
    await node.transport.start()
    return node


async def test_a_fetch_answers_with_what_the_handler_returned(world: World) -> None:
    s, a = await server(world), await join(world, "a")
    echoed = await a.fetch(s, "/echo", block="7", who="ä&=?")
    assert echoed.decode() == "[('block', '7'), ('who', 'ä&=?')]"
    assert await a.fetch(s, "/echo") == b"[]"
    bodies = await asyncio.gather(*(a.fetch(s, "/big", size=str(size)) for size in (0, 1, 1 << 20)))
    assert [len(body) for body in bodies] == [0, 1, 1 << 20]
    counters = a.transport.counters
    assert (counters.fetches, counters.fetched_bytes) == (5, len(echoed) + 2 + 1 + (1 << 20))


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/gone", NotFoundError),
        ("/nowhere", NotFoundError),
        ("/busy", BackPressureError),
        ("/broken", ProtocolError),
    ],
)
async def test_a_refused_fetch_says_why(world: World, path: str, error: type[Exception]) -> None:
    s, a = await server(world), await join(world, "a")
    with pytest.raises(error) as raised:
        await a.fetch(s, path)
    assert type(raised.value) is error
    assert await a.fetch(s, "/echo") == b"[]"


async def test_a_fetch_longer_than_agreed_is_refused(world: World) -> None:
    s, a = await server(world), await join(world, "a")
    with pytest.raises(ProtocolError, match="at most 1000 bytes"):
        await a.fetch(s, "/big", bytes_max=1_000, size="1001")
    assert await a.fetch(s, "/big", bytes_max=1_000, size="1000") == bytes(1_000)


async def test_a_fetch_without_answer_ends_in_time(world: World) -> None:
    s, a = await server(world), await join(world, "a")
    with pytest.raises(UnreachableError, match="0.05 s"):
        await a.fetch(s, "/slow", timeout_s=0.05)


async def test_a_fetch_from_nobody_is_unreachable(world: World) -> None:
    a, b = await pair(world)
    await b.transport.close()
    with pytest.raises(UnreachableError):
        await a.fetch(b, "/echo")


async def test_a_fetch_with_a_wrong_token_is_refused(world: World) -> None:
    s, a = await server(world), await join(world, "a", token="another-token")
    with pytest.raises(ProtocolError, match="token"):
        await a.fetch(s, "/echo")
    assert s.transport.counters.refused == {RefuseReason.TOKEN: 1}


# Beginning and end


async def test_what_waits_is_written_before_a_close(world: World) -> None:
    a, b = await pair(world)
    a.send(b, b"hello")
    await b.received(1)
    a.send(b, b"good", b"bye")
    await a.transport.close()
    assert await b.received(3) == [b"hello", b"good", b"bye"]
    await until(lambda: bool(b.unreachable), "b sees that a left")
    assert b.unreachable == [a.id]
    assert a.unreachable == []


async def test_after_a_close_frames_are_dropped_and_counted(world: World) -> None:
    a, b = await pair(world)
    await a.transport.close()
    await a.transport.close()
    a.send(b, b"x")
    assert a.transport.counters.dropped == {DropReason.CLOSED: 1}


async def test_a_close_does_not_wait_for_a_peer_that_is_not_there(world: World) -> None:
    a, b = await pair(world)
    await b.transport.close()
    a.send(b, b"x")
    await asyncio.sleep(0)
    await a.transport.close()
    assert sum(a.transport.counters.dropped.values()) == 1


async def test_a_taken_address_is_a_clear_error(world: World) -> None:
    a = await join(world, "a")
    b = world.make("b", address=a.address)
    with pytest.raises(ConfigError, match="wanted to listen there"):
        await b.transport.start()

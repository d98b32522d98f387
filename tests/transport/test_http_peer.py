"""One peer alone, with links that do what the test says."""

from __future__ import annotations

import asyncio
from typing import cast

from drizzle_streams.errors import UnreachableError
from drizzle_streams.model.ids import NodeId
from drizzle_streams.transport.base import LinkCounters, LinkLimits
from drizzle_streams.transport.framing import unpack
from drizzle_streams.transport.http_link import AcceptedSocket, Link
from drizzle_streams.transport.http_peer import Peer


class BrokenLink:
    """Open as far as anybody knows, until the first write."""

    retired = False

    def __init__(self) -> None:
        self.tried: list[bytes] = []

    def takes(self, message_bytes: int) -> bool:
        return False

    async def write(self, message: bytes) -> None:
        self.tried.append(message)
        raise ConnectionResetError("gone")


async def nobody(peer: Peer, within_s: float) -> Link:
    raise UnreachableError("nobody there")


async def test_a_break_seen_by_writer_and_reader_is_told_once() -> None:
    unreachable: list[NodeId] = []
    counters = LinkCounters()
    peer = Peer(
        NodeId("b"),
        "http://b:1",
        LinkLimits(backoff_first_s=0.01, backoff_max_s=0.01),
        counters,
        dial=nobody,
        on_unreachable=unreachable.append,
    )
    link = BrokenLink()
    peer.attach(cast("Link", link), accepted=True)
    peer.offer(b"x")
    async with asyncio.timeout(20):
        await peer.run()
    peer.detach(cast("Link", link))
    assert len(link.tried) == 1
    assert unreachable == [NodeId("b")]
    assert counters.links_broken == 1
    assert counters.dials == 0


async def test_a_dial_that_failed_gets_more_time_up_to_a_bound() -> None:
    """Whoever is too busy to answer in time must not be asked anew all the time."""
    given: list[float] = []

    async def busy(peer: Peer, within_s: float) -> Link:
        given.append(within_s)
        peer.offer(b"again")
        raise UnreachableError("no answer in time")

    limits = LinkLimits(
        dial_timeout_s=1.0, dial_timeout_s_max=5.0, backoff_first_s=0.001, backoff_max_s=0.001
    )
    peer = Peer(NodeId("b"), "http://b:1", limits, LinkCounters(), dial=busy, on_unreachable=lambda _: None)
    peer.offer(b"x")
    running = asyncio.ensure_future(peer.run())
    async with asyncio.timeout(20):
        while len(given) < 6:
            peer.offer(b"again")
            await asyncio.sleep(0)
    await peer.flush()
    await running
    assert given[:6] == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


async def test_a_link_that_breaks_while_a_ping_is_answered_is_broken_and_no_failure() -> None:
    class Pinged:
        aborted = False

        async def receive(self) -> None:
            raise ConnectionResetError("Cannot write to closing transport")

        def abort(self) -> None:
            self.aborted = True

    socket = Pinged()
    link = Link(cast("AcceptedSocket", socket), NodeId("b"), LinkLimits(), LinkCounters())
    await link.receive(lambda _sender, _frame: None)
    assert socket.aborted


class OpenLink:
    """Takes what is small; writes the rest when it is let."""

    retired = False

    def __init__(self, *, gone: bool = False) -> None:
        self.gone = gone
        self.let = asyncio.Event()
        self.through = asyncio.Event()
        self.written: list[bytes] = []

    def takes(self, message_bytes: int) -> bool:
        return message_bytes < 10

    def write_at_once(self, message: bytes) -> None:
        if self.gone:
            raise ConnectionResetError("gone")
        self.written += unpack(message, LinkLimits())

    async def write(self, message: bytes) -> None:
        await self.let.wait()
        self.written += unpack(message, LinkLimits())
        if self.written[-1] == b"fourth":
            self.through.set()


def linked(link: OpenLink, unreachable: list[NodeId]) -> Peer:
    peer = Peer(
        NodeId("b"),
        "http://b:1",
        LinkLimits(),
        LinkCounters(),
        dial=nobody,
        on_unreachable=unreachable.append,
    )
    peer.attach(cast("Link", link), accepted=True)
    return peer


async def test_what_a_link_takes_is_written_at_once_and_in_order_with_what_it_does_not() -> None:
    link = OpenLink()
    peer = linked(link, [])
    peer.offer(b"first")
    assert link.written == [b"first"], "without a task, before anybody else runs"
    running = asyncio.ensure_future(peer.run())
    peer.offer(b"too long for that")
    peer.offer(b"third")
    assert link.written == [b"first"], "nothing overtakes what waits"
    await asyncio.sleep(0)
    peer.offer(b"fourth")
    assert peer.holds
    link.let.set()
    async with asyncio.timeout(20):
        await link.through.wait()
    assert link.written == [b"first", b"too long for that", b"third", b"fourth"]
    await peer.flush()
    await running
    assert not peer.holds


async def test_a_break_seen_by_writing_at_once_is_told_once() -> None:
    unreachable: list[NodeId] = []
    link = OpenLink(gone=True)
    peer = linked(link, unreachable)
    peer.offer(b"x")
    peer.detach(cast("Link", link))
    assert unreachable == [NodeId("b")]
    assert not peer.holds

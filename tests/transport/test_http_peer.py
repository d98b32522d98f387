"""One peer alone, with links that do what the test says."""

from __future__ import annotations

import asyncio
from typing import cast

from drizzle_streams.errors import UnreachableError
from drizzle_streams.model.ids import NodeId
from drizzle_streams.transport.base import LinkCounters, LinkLimits
from drizzle_streams.transport.http_link import Link
from drizzle_streams.transport.http_peer import Peer


class BrokenLink:
    """Open as far as anybody knows, until the first write."""

    retired = False

    def __init__(self) -> None:
        self.tried: list[bytes] = []

    async def write(self, message: bytes) -> None:
        self.tried.append(message)
        raise ConnectionResetError("gone")


async def nobody(peer: Peer) -> Link:
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

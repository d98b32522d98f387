"""Worlds of two workers, over memory or over HTTP, with a coordinator that hands out one program."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import pytest
import uvloop

from drizzle_streams.api.compile import CompiledJob
from drizzle_streams.connectors.memory import MemoryResults
from drizzle_streams.model.ids import COORDINATOR, NodeId, WorkerId
from drizzle_streams.model.placement import Placement
from drizzle_streams.stores.memory import MemorySnapshotStore
from drizzle_streams.transport.base import Address, Transport
from drizzle_streams.transport.http import HttpTransport
from drizzle_streams.transport.http_server import HttpServer, ServerLimits
from drizzle_streams.transport.memory import MemoryNetwork, MemoryTransport
from tests.worker.worker_worlds import Hand, compiled, job_bytes, serve_program


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Workers are tested on the loop they run on."""
    return {"uvloop": uvloop.new_event_loop}


TOKEN = "token-of-the-tests"


PLACEMENT = Placement(((WorkerId("a"), WorkerId("a"), WorkerId("b"), WorkerId("b")),) * 2)


@dataclass
class World:
    """Workers `a` and `b`; `a` holds map partitions 0, 1 and reduce 0, 1, `b` the others."""

    results: MemoryResults
    job: CompiledJob
    snapshots: MemorySnapshotStore
    over_http: bool
    network: MemoryNetwork = field(default_factory=MemoryNetwork)
    hands: list[Hand] = field(default_factory=list)
    doors: list[Transport] = field(default_factory=list)
    address: Address = ""
    placement: Placement = field(default=PLACEMENT)

    def transport(self, name: str) -> Transport:
        if not self.over_http:
            return MemoryTransport(NodeId(name), self.network, TOKEN)
        server = HttpServer("127.0.0.1", 0, TOKEN, limits=ServerLimits(close_timeout_s=0.2))
        return HttpTransport(NodeId(name), server, TOKEN)

    async def start(self) -> None:
        self.address = await self.program_door(self.job)

    async def program_door(self, job: CompiledJob) -> Address:
        """A coordinator that hands out one program."""
        door = self.transport(f"{COORDINATOR}-{len(self.doors)}")
        serve_program(door, job.spec, job_bytes(job))
        await door.start()
        self.doors.append(door)
        return door.address

    async def hand(
        self, name: str, *, held_bytes_max: int = 1 << 26, load: bool = True, slots: int = 2
    ) -> Hand:
        """A started worker with the job's program."""
        transport = self.transport(name)
        hand = Hand(transport, self.snapshots, self.address, held_bytes_max=held_bytes_max, slots=slots)
        await hand.transport.start()
        self.hands.append(hand)
        if load:
            await hand.load(self.job, self.placement)
        return hand

    async def pair(self) -> tuple[Hand, Hand]:
        """Both workers, each with the other's address."""
        a, b = await self.hand("a"), await self.hand("b")
        a.bench.addresses = {COORDINATOR: self.address, b.node: b.transport.address}
        b.bench.addresses = {COORDINATOR: self.address, a.node: a.transport.address}
        return a, b

    async def close(self) -> None:
        for hand in self.hands:
            await hand.close()
        for door in self.doors:
            await door.close()


async def made(over_http: bool) -> World:
    results = MemoryResults()
    world = World(results, compiled(results), MemorySnapshotStore(), over_http)
    await world.start()
    return world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Two workers in memory."""
    found = await made(over_http=False)
    yield found
    await found.close()


@pytest.fixture
async def http_world() -> AsyncIterator[World]:
    """Two workers on loopback."""
    found = await made(over_http=True)
    yield found
    await found.close()

"""The same small world over each transport, for the conformance suite."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp

from drizzle_streams.model.ids import NodeId
from drizzle_streams.transport.base import Address, LinkLimits, Transport
from drizzle_streams.transport.http import ADDRESS_HEADER, LINK_PATH, NODE_HEADER, TO_HEADER, HttpTransport
from drizzle_streams.transport.http_server import HttpServer, ServerLimits
from drizzle_streams.transport.memory import MemoryNetwork, MemoryTransport
from drizzle_streams.transport.releases import RELEASE_HEADER, own_release
from tests.bearer import bearer

TOKEN = "token-of-the-tests"
WAIT_S = 20.0
"""Only ever reached by a failing test."""


async def until(condition: Callable[[], bool], what: str) -> None:
    """Turn the loop until `condition` holds."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - a condition is any fact of a test; few of them have an event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


@dataclass
class Node:
    """A transport and everything it told its owner."""

    transport: Transport
    frames: list[tuple[NodeId, bytes]] = field(default_factory=list)
    unreachable: list[NodeId] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.transport.on_frame = lambda sender, frame: self.frames.append((sender, frame))
        self.transport.on_unreachable = self.unreachable.append
        self.transport.on_failure = self.failures.append

    @property
    def id(self) -> NodeId:
        return self.transport.node

    @property
    def address(self) -> Address:
        return self.transport.address

    def send(self, to: Node, *frames: bytes) -> None:
        for frame in frames:
            self.transport.send(to.id, to.address, frame)

    async def received(self, count: int) -> list[bytes]:
        await until(lambda: len(self.frames) >= count, f"{self.id} has {count} frames")
        return [frame for _, frame in self.frames]

    async def fetch(
        self, source: Node, path: str, timeout_s: float = WAIT_S, bytes_max: int = 1 << 20, **params: str
    ) -> bytes:
        return await self.transport.fetch(source.address, path, params, timeout_s, bytes_max)


class World(Protocol):
    """Makes nodes that can reach each other, and closes them."""

    nodes: list[Node]

    def make(
        self, name: str, *, token: str = TOKEN, address: Address = "", limits: LinkLimits | None = None
    ) -> Node: ...

    async def say(self, to: Node, message: bytes) -> None:
        """Something with a valid token sends `message` as it is; returns when it was hung up on."""
        ...


async def join(world: World, name: str, **options: object) -> Node:
    """A started node."""
    node = world.make(name, **options)  # type: ignore[arg-type]
    await node.transport.start()
    return node


class HttpWorld:
    """Real sockets on loopback."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def make(
        self, name: str, *, token: str = TOKEN, address: Address = "", limits: LinkLimits | None = None
    ) -> Node:
        port = int(address.rpartition(":")[2]) if address else 0
        server = HttpServer("127.0.0.1", port, token, limits=ServerLimits(close_timeout_s=0.2))
        node = Node(HttpTransport(NodeId(name), server, token, limits=limits))
        self.nodes.append(node)
        return node

    async def say(self, to: Node, message: bytes) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(to.address + LINK_PATH, headers=introduction(to)) as socket,
        ):
            await socket.send_bytes(message)
            async with asyncio.timeout(WAIT_S):
                await socket.receive()


class MemoryWorld:
    """No sockets."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._network = MemoryNetwork()

    def make(
        self, name: str, *, token: str = TOKEN, address: Address = "", limits: LinkLimits | None = None
    ) -> Node:
        node = Node(MemoryTransport(NodeId(name), self._network, token, address=address, limits=limits))
        self.nodes.append(node)
        return node

    async def say(self, to: Node, message: bytes) -> None:
        stranger = await join(self, "stranger")
        assert isinstance(to.transport, MemoryTransport)
        assert isinstance(stranger.transport, MemoryTransport)
        to.transport.accept(stranger.transport, bearer(TOKEN), to.id)
        to.transport.arrive(stranger.transport.wire, message)
        await stranger.transport.close()


def introduction(to: Node, node: str = "stranger") -> dict[str, str]:
    """What a dialling service says."""
    return {
        "Authorization": bearer(TOKEN),
        NODE_HEADER: node,
        ADDRESS_HEADER: "http://127.0.0.1:1",
        TO_HEADER: to.id,
        RELEASE_HEADER: own_release(),
    }


def packed(*frames: bytes) -> bytes:
    """A message as the wire has it."""
    return b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)

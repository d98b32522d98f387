"""What only real sockets can get wrong: dead hosts, stalled readers, TLS, hostile dials."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
import pytest

from drizzle_streams.errors import ProtocolError, UnreachableError
from drizzle_streams.model.ids import NodeId
from drizzle_streams.tls import TlsFiles
from drizzle_streams.transport.base import DropReason, LinkLimits, RefuseReason
from drizzle_streams.transport.http import ADDRESS_HEADER, LINK_PATH, NODE_HEADER, TO_HEADER, HttpTransport
from drizzle_streams.transport.http_link import DialledSocket
from drizzle_streams.transport.http_server import HttpServer
from drizzle_streams.transport.releases import RELEASE_HEADER
from tests.transport.transport_worlds import TOKEN, WAIT_S, HttpWorld, Node, introduction, join, packed, until


@pytest.fixture
async def world() -> AsyncIterator[HttpWorld]:
    world = HttpWorld()
    yield world
    await asyncio.gather(*(node.transport.close() for node in world.nodes))
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks outlived their transport: {left}"


class Statue:
    """A service that accepts links and then neither reads nor writes: a host that froze."""

    def __init__(self) -> None:
        self.id = NodeId("statue")
        self.address = ""
        self.upgrade = b""
        self._transports: list[asyncio.Transport] = []
        self._server: asyncio.Server | None = None
        self._stopped = False

    async def start(self) -> None:
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        door.bind(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{door.getsockname()[1]}"
        self._server = await asyncio.get_running_loop().create_server(lambda: Frozen(self), sock=door)

    def connected(self, transport: asyncio.Transport) -> None:
        self._transports.append(transport)
        if self._stopped:
            transport.abort()

    async def stop(self) -> None:
        self._stopped = True
        if self._server is not None:
            self._server.close()
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0.01)


class Frozen(asyncio.Protocol):
    """Answers the upgrade and stops reading."""

    def __init__(self, statue: Statue) -> None:
        self._statue = statue
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._statue.connected(self._transport)

    def data_received(self, data: bytes) -> None:
        self._request += data
        if b"\r\n\r\n" not in self._request:
            return
        self._statue.upgrade = self._request
        lines = self._request.split(b"\r\n")
        keys = [line.split()[1] for line in lines if line.lower().startswith(b"sec-websocket-key")]
        answer = hashlib.sha1(b"".join(keys) + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(answer) + b"\r\n\r\n"
        )
        self._transport.pause_reading()


@pytest.fixture
async def statue() -> AsyncIterator[Statue]:
    statue = Statue()
    await statue.start()
    yield statue
    await statue.stop()


async def test_a_host_that_froze_is_noticed(world: HttpWorld, statue: Statue) -> None:
    a = await join(world, "a", limits=LinkLimits(heartbeat_s=0.1))
    a.transport.send(statue.id, statue.address, b"hello?")
    await until(lambda: bool(a.unreachable), "a notices")
    assert a.unreachable == [statue.id]
    assert a.transport.counters.links_broken == 1


async def test_a_reader_that_stalls_costs_a_bounded_queue_and_is_cut(
    world: HttpWorld, statue: Statue
) -> None:
    limits = LinkLimits(queue_bytes_max=1 << 20, heartbeat_s=0.5, backoff_first_s=30, backoff_max_s=30)
    a = await join(world, "a", limits=limits)
    frame, most = bytes(64 * 1024), 0
    while not a.unreachable:
        a.transport.send(statue.id, statue.address, frame)
        most = max(most, a.transport.queued_bytes)
        await asyncio.sleep(0)
    assert limits.queue_bytes_max - len(frame) < most <= limits.queue_bytes_max
    assert a.transport.counters.dropped[DropReason.QUEUE_FULL] > 0
    assert a.unreachable == [statue.id]


async def test_a_close_towards_a_frozen_host_is_bounded(world: HttpWorld, statue: Statue) -> None:
    a = await join(world, "a", limits=LinkLimits(close_timeout_s=0.1))
    for _ in range(200):
        a.transport.send(statue.id, statue.address, bytes(64 * 1024))
        await asyncio.sleep(0)
    began = time.monotonic()
    await a.transport.close()
    # Three bounded steps (write, close, cut); the bound is far below the heartbeat, which would also end it.
    assert time.monotonic() - began < 3.0
    assert a.unreachable == []


async def test_a_close_leaves_nothing_in_the_buffers_of_a_frozen_host(
    world: HttpWorld, statue: Statue
) -> None:
    a = await join(world, "a", limits=LinkLimits(close_timeout_s=0.1))
    assert isinstance(a.transport, HttpTransport)
    a.transport.send(statue.id, statue.address, b"hello")
    await until(lambda: a.transport.counters.frames_sent == 1, "a has a link")
    (peer,) = a.transport._peers.values()
    assert peer.link is not None
    assert isinstance(peer.link._socket, DialledSocket)
    wire = peer.link._socket._writer.transport
    while wire.get_write_buffer_size() == 0:
        a.transport.send(statue.id, statue.address, bytes(4096))
        await asyncio.sleep(0)
    await a.transport.close()
    # A close in good order would wait for ever to have the rest read.
    assert wire.is_closing()
    await until(lambda: wire.get_write_buffer_size() == 0, "the rest is thrown away")


async def test_links_ask_for_no_compression_and_say_who_they_are(world: HttpWorld, statue: Statue) -> None:
    a = await join(world, "a")
    a.transport.send(statue.id, statue.address, b"x")
    await until(lambda: bool(statue.upgrade), "a dials")
    headers = statue.upgrade.decode().lower()
    assert "sec-websocket-extensions" not in headers
    assert f"{NODE_HEADER}: a\r\n".lower() in headers
    assert f"{TO_HEADER}: {statue.id}\r\n".lower() in headers
    assert f"{ADDRESS_HEADER}: {a.address}\r\n".lower() in headers


async def test_both_ends_send_without_delay(world: HttpWorld) -> None:
    a, b = await join(world, "a"), await join(world, "b")
    a.send(b, b"x")
    await b.received(1)
    for node in (a, b):
        assert isinstance(node.transport, HttpTransport)
        (peer,) = node.transport._peers.values()
        assert peer.link is not None
        sock = peer.link._socket.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_fetch_from_a_frozen_host_ends_in_time(world: HttpWorld, statue: Statue) -> None:
    a = await join(world, "a")
    with pytest.raises((UnreachableError, ProtocolError)):
        await a.transport.fetch(statue.address, "/x", {}, 0.1, 100)


async def test_a_dial_that_gets_no_connection_is_not_given_more_time(world: HttpWorld) -> None:
    """A cut network swallows packets: once it is whole, a new dial is sooner than a repeat."""
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    port = full.getsockname()[1]
    callers = [socket.socket() for _ in range(3)]
    for caller in callers:  # nobody accepts: with its queue full, the kernel drops what comes
        caller.setblocking(False)
        caller.connect_ex(("127.0.0.1", port))
    limits = LinkLimits(
        dial_timeout_s=0.05, dial_timeout_s_max=3600.0, backoff_first_s=0.01, backoff_max_s=0.01
    )
    a = await join(world, "a", limits=limits)

    def failed_often() -> bool:
        a.transport.send(NodeId("b"), f"http://127.0.0.1:{port}", b"x")
        return a.transport.counters.dials_failed >= 14  # by doubling alone that takes 0.05 * 2**13 s

    await until(failed_often, "dials fail one after the other")
    for one in (*callers, full):
        one.close()


async def test_a_dial_to_a_host_that_never_answers_ends_in_time(world: HttpWorld) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    mute = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{mute.sockets[0].getsockname()[1]}"
    a = await join(world, "a", limits=LinkLimits(dial_timeout_s=0.1))
    a.transport.send(NodeId("mute"), address, b"x")
    await until(lambda: bool(a.unreachable), "a gives up")
    assert a.transport.counters.dials_failed == 1
    mute.close()


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:1", "nonsense", "http://host.invalid:1", "ftp://127.0.0.1:1"]
)
async def test_an_address_that_is_none_is_unreachable_or_wrong(world: HttpWorld, address: str) -> None:
    a = await join(world, "a")
    a.transport.send(NodeId("b"), address, b"x")
    await until(lambda: bool(a.unreachable), "a is told")
    with pytest.raises((UnreachableError, ProtocolError)):
        await a.transport.fetch(address, "/x", {}, 5.0, 100)
    assert a.failures == []


async def test_text_ends_the_connection(world: HttpWorld) -> None:
    a = await join(world, "a")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(a.address + LINK_PATH, headers=introduction(a)) as link,
    ):
        await link.send_str("hello")
        message = await link.receive()
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert "binary" in str(message.extra)
    assert a.transport.counters.refused == {RefuseReason.GARBAGE: 1}


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        (NODE_HEADER, "", 400),
        (NODE_HEADER, "n" * 257, 400),
        (ADDRESS_HEADER, "", 400),
        (TO_HEADER, "somebody else", 421),
        (TO_HEADER, "", 421),
        (RELEASE_HEADER, "0.0.1", 409),
        (RELEASE_HEADER, "", 409),
        ("Authorization", "Bearer wrong", 401),
    ],
)
async def test_a_dial_that_does_not_say_who_and_for_whom_is_refused(
    world: HttpWorld, name: str, value: str, status: int
) -> None:
    a = await join(world, "a")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await session.ws_connect(a.address + LINK_PATH, headers=introduction(a) | {name: value})
    assert raised.value.status == status
    assert sum(a.transport.counters.refused.values()) == 1
    assert a.transport.peers == 0


async def test_a_second_link_from_one_end_replaces_the_first_silently(world: HttpWorld) -> None:
    a = await join(world, "a")
    async with aiohttp.ClientSession() as session:
        first = await session.ws_connect(a.address + LINK_PATH, headers=introduction(a))
        await first.send_bytes(packed(b"1"))
        await a.received(1)
        second = await session.ws_connect(a.address + LINK_PATH, headers=introduction(a))
        await second.send_bytes(packed(b"2"))
        await a.received(2)
        assert (await first.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
        assert a.unreachable == []
        await first.close()
        await second.close()
    await until(lambda: bool(a.unreachable), "a sees the last one go")
    assert a.unreachable == [NodeId("stranger")]


async def test_a_peer_that_dies_in_the_middle_of_an_answer_is_unreachable(world: HttpWorld) -> None:
    async def torn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    liar = await asyncio.start_server(torn, "127.0.0.1", 0)
    a = await join(world, "a")
    with pytest.raises(UnreachableError):
        await a.transport.fetch(
            f"http://127.0.0.1:{liar.sockets[0].getsockname()[1]}", "/x", {}, WAIT_S, 1_000
        )
    liar.close()


async def test_an_endless_answer_is_cut_at_its_bound(world: HttpWorld) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"400\r\n" + bytes(0x400) + b"\r\n")
                await writer.drain()
        except ConnectionError:
            writer.close()

    liar = await asyncio.start_server(endless, "127.0.0.1", 0)
    a = await join(world, "a", limits=LinkLimits(fetch_buffer_bytes=4096))
    with pytest.raises(ProtocolError, match="at most 10000 bytes"):
        await a.transport.fetch(
            f"http://127.0.0.1:{liar.sockets[0].getsockname()[1]}", "/x", {}, WAIT_S, 10_000
        )
    liar.close()
    await until(lambda: len(asyncio.all_tasks()) == 1, "the liar was hung up on")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=drizzle-tests", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(path), "-out", str(path) + ".crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(str(path) + ".crt").read_text())
    return path


async def test_links_and_fetches_over_tls(world: HttpWorld, certificate: Path) -> None:
    async def echo(params: object) -> bytes:
        return b"over tls"

    def make(name: str) -> Node:
        server = HttpServer("127.0.0.1", 0, TOKEN, tls=TlsFiles(certificate, certificate, certificate))
        node = Node(HttpTransport(NodeId(name), server, TOKEN))
        node.transport.serve("/echo", echo)
        world.nodes.append(node)
        return node

    a, b = make("a"), make("b")
    await a.transport.start()
    await b.transport.start()
    assert a.address.startswith("https://")
    a.send(b, b"there")
    await b.received(1)
    b.send(a, b"back")
    await a.received(1)
    assert await a.fetch(b, "/echo") == b"over tls"

    stranger = await join(world, "stranger")
    stranger.send(a, b"who trusts nobody")
    await until(lambda: bool(stranger.unreachable), "an unknown certificate is not trusted")


async def test_a_process_that_dies_is_noticed_without_waiting_for_a_heartbeat(
    world: HttpWorld, statue: Statue
) -> None:
    a = await join(world, "a", limits=LinkLimits(heartbeat_s=3600))
    a.transport.send(statue.id, statue.address, b"hello")
    await until(lambda: a.transport.counters.frames_sent == 1, "a has a link")
    await statue.stop()
    await until(lambda: bool(a.unreachable), "a notices")
    assert a.unreachable == [statue.id]
    await until(lambda: a.transport.peers == 0, "a forgets")

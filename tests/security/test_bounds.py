"""What a stranger, or a producer gone wrong, can make a service hold: each bound, and what happens at it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import msgpack
import pytest
from aiohttp import web

from drizzle_streams.errors import ProtocolError
from drizzle_streams.model.ids import NodeId
from drizzle_streams.protocol.codec import decode_envelope
from drizzle_streams.protocol.jobfile import JobFile, unpack_job
from drizzle_streams.tls import NO_TLS, TlsFiles
from drizzle_streams.transport.base import LinkLimits, RefuseReason
from drizzle_streams.transport.http import ADDRESS_HEADER, LINK_PATH, NODE_HEADER, TO_HEADER, HttpTransport
from drizzle_streams.transport.http_server import HttpServer, ServerLimits
from drizzle_streams.transport.releases import RELEASE_HEADER, own_release
from tests.bearer import bearer
from tests.security.certificates import Authority
from tests.services.service_worlds import TOKEN, until

WAIT_S = 20.0
LIMITS = ServerLimits(body_bytes_max=1_000, headers_max=8, headers_timeout_s=0.2, close_timeout_s=0.2)
HEAD = f"GET /hello HTTP/1.1\r\nHost: h\r\nAuthorization: {bearer(TOKEN)}\r\n".encode()


async def hello(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


@asynccontextmanager
async def serving(
    limits: ServerLimits, *routes: web.RouteDef, tls: TlsFiles = NO_TLS
) -> AsyncIterator[HttpServer]:
    found = HttpServer("127.0.0.1", 0, TOKEN, limits=limits, tls=tls)
    found.add_routes(routes)
    await found.start()
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
async def server() -> AsyncIterator[HttpServer]:
    async with serving(LIMITS, web.get("/hello", hello), web.post("/hello", hello)) as found:
        yield found


async def answered(server: HttpServer, *parts: bytes) -> bytes:
    """What a raw connection gets for these bytes, until it is hung up on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for part in parts:
            writer.write(part)
        async with asyncio.timeout(WAIT_S):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


# --- connections that do not speak -----------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", b"G", HEAD, HEAD + b"X: y"])
async def test_headers_that_never_end_are_hung_up_on(server: HttpServer, said: bytes) -> None:
    assert await answered(server, said) == b""
    assert server.refused == {RefuseReason.HEADERS_TIMEOUT: 1}


async def test_dripping_does_not_help(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    ended = asyncio.create_task(reader.read())
    writer.write(HEAD)
    async with asyncio.timeout(WAIT_S):
        while not ended.done():
            writer.write(b"x")
            await asyncio.wait({ended}, timeout=0.01)
    writer.close()
    assert server.refused[RefuseReason.HEADERS_TIMEOUT] == 1


async def test_a_kept_connection_that_drips_its_next_request_goes_with_the_idle_ones() -> None:
    limits = ServerLimits(headers_timeout_s=WAIT_S, idle_timeout_s=0.2, close_timeout_s=0.2)
    async with serving(limits, web.get("/hello", hello)) as server:
        got = await answered(server, HEAD + b"\r\n", HEAD)
        assert got.startswith(b"HTTP/1.1 200")
        assert not server.refused


async def test_who_has_spoken_is_left_alone() -> None:
    release = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response(text="done")

    async with serving(LIMITS, web.get("/slow", slow)) as server:
        patient = HEAD.replace(b"/hello", b"/slow") + b"Connection: close\r\n\r\n"
        asking = asyncio.create_task(answered(server, patient))
        assert await answered(server, b"GET") == b""
        release.set()
        assert (await asking).endswith(b"done")
        assert server.refused == {RefuseReason.HEADERS_TIMEOUT: 1}


async def test_closed_connections_leave_nothing_behind(server: HttpServer) -> None:
    for _ in range(50):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()
        await writer.wait_closed()
    await until(lambda: not server._silent and not server._spoke, "nothing is remembered")
    assert not server.refused


async def test_a_tls_handshake_that_never_ends_is_hung_up_on(authority: Authority) -> None:
    files = authority.sign("server")
    async with serving(LIMITS, tls=TlsFiles(files.cert, files.key)) as server:
        assert b"HTTP" not in await answered(server, b"\x16\x03\x01")


# --- what they say ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("thing", "head"),
    [
        ("a long line", b"GET /" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a long header", HEAD + b"X: " + b"x" * 9_000 + b"\r\n\r\n"),
        ("many headers", HEAD + b"".join(b"X%d: y\r\n" % number for number in range(20)) + b"\r\n"),
    ],
)
async def test_headers_are_bounded(server: HttpServer, thing: str, head: bytes) -> None:
    assert (await answered(server, head)).split(b"\r\n")[0].endswith(b"400 Bad Request"), thing


@pytest.mark.parametrize("announced", [True, False])
async def test_bodies_are_bounded_whether_announced_or_not(server: HttpServer, announced: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    async with aiohttp.ClientSession(headers={"Authorization": bearer(TOKEN)}) as session:
        body = b"x" * 2_000 if announced else parts()
        async with session.post(f"{server.address}/hello", data=body) as answer:
            assert answer.status == 413
        async with session.post(f"{server.address}/hello", data=b"x" * 1_000) as answer:
            assert answer.status == 200


async def test_a_body_that_unpacks_to_more_is_bounded_too(server: HttpServer) -> None:
    import zlib

    bomb = zlib.compress(bytes(1_000_000))
    assert len(bomb) < 1_000 + 20
    headers = {"Authorization": bearer(TOKEN), "Content-Encoding": "deflate"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{server.address}/hello", data=bomb[:1_000]) as answer,
    ):
        assert answer.status in (400, 413)


@pytest.mark.parametrize(("size", "taken"), [(1_000, True), (5_000, False)])
async def test_messages_on_a_link_are_bounded(size: int, taken: bool) -> None:
    limits = LinkLimits(frame_bytes_max=2_000, message_bytes_max=4_000, close_timeout_s=0.2)
    transport = HttpTransport(NodeId("a"), HttpServer("127.0.0.1", 0, TOKEN), TOKEN, limits=limits)
    heard: list[bytes] = []
    transport.on_frame = lambda sender, frame: heard.append(frame)
    await transport.start()
    headers = {
        "Authorization": bearer(TOKEN),
        NODE_HEADER: "b",
        ADDRESS_HEADER: "http://127.0.0.1:1",
        TO_HEADER: "a",
        RELEASE_HEADER: own_release(),
    }
    oversized = transport.counters.refused
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(transport.address + LINK_PATH, headers=headers) as socket,
        ):
            await socket.send_bytes(size.to_bytes(4, "little") + bytes(size))
            await until(lambda: bool(heard) or bool(oversized), "it was taken or refused")
    finally:
        await transport.close()
    assert (len(heard), oversized[RefuseReason.OVERSIZED]) == ((1, 0) if taken else (0, 1))


# --- depth -----------------------------------------------------------------------------------------


def nested_msgpack(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


@pytest.mark.parametrize("depth", [10, 1_000, 100_000, 4_000_000])
@pytest.mark.parametrize("reads", [decode_envelope, lambda data: unpack_job(b"DRZJOB\x00\x01" + data)])
def test_depth_of_messages_is_bounded(depth: int, reads: Callable[[bytes], object]) -> None:
    with pytest.raises(ProtocolError):
        reads(nested_msgpack(depth))


def test_a_length_that_is_a_lie_allocates_nothing() -> None:
    for lie in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
    ):
        with pytest.raises(ProtocolError):
            decode_envelope(lie)


def test_what_is_tested_is_deep() -> None:
    assert msgpack.unpackb(nested_msgpack(3)) == [[[None]]]
    assert JobFile.__slots__ == ("spec", "program"), "a job file is read by its declared shape"
    assert json.loads("[[[]]]") == [[[]]]

"""The HTTP that the client speaks: addresses, heads, and answers that are none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from drizzle_loadgen.errors import AnswerError, UsageError
from drizzle_loadgen.http1 import BODY_BYTES_MAX, HEAD_BYTES_MAX, Connection, Target


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://source-1:8002", "http://source-1:8002"),
        ("http://source-1", "http://source-1:80"),
        ("https://host/base/", "https://host:443/base"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_addresses(url: str, shown: str) -> None:
    assert str(Target.parse(url)) == shown


@pytest.mark.parametrize(
    "url", ["", "host:80", "ftp://x", "http://", "http://h:99999", "http://h/?q=1", "http://h#f"]
)
def test_addresses_that_cannot_be_posted_to(url: str) -> None:
    with pytest.raises(UsageError, match="source address"):
        Target.parse(url)


def test_the_head_of_a_post() -> None:
    head = Target.parse("http://h:8/base").post_head("/streams/a b/records", {"A": "1", "B": "2"})
    assert head == b"POST /base/streams/a%20b/records HTTP/1.1\r\nHost: h:8\r\nA: 1\r\nB: 2\r\n"


@pytest.mark.parametrize("value", ["x\r\nEvil: 1", "é"])
def test_a_header_cannot_smuggle_another(value: str) -> None:
    with pytest.raises(UsageError, match="headers"):
        Target.parse("http://h").post_head("/", {"Authorization": value})


@asynccontextmanager
async def answering(data: bytes) -> AsyncIterator[Connection]:
    """A connection to a peer that says `data` and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = await Connection.open(Target("127.0.0.1", port), 5)
    try:
        yield connection
    finally:
        await connection.close()
        server.close()
        await server.wait_closed()


async def test_answers_come_in_order_and_an_announcement_is_passed_over() -> None:
    said = (
        b"HTTP/1.1 100 Continue\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After:  3 \r\n\r\nhi"
        b"HTTP/1.1 204 No Content\r\n\r\n"
        b"HTTP/1.0 503 \r\ncontent-length: 0\r\nConnection: close\r\n\r\n"
    )
    async with answering(said) as connection:
        first, second, third = [await connection.answer(5) for _ in range(3)]
        assert (first.status, first.body, first.headers["retry-after"]) == (200, b"hi", "3")
        assert (first.reason, first.closing) == ("200 hi", False)
        assert second.status == 204
        assert (third.status, third.closing) == (503, True)
        with pytest.raises(EOFError):
            await connection.answer(5)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "status line"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "Content-Length"),
        (b"HTTP/2 200\r\n\r\n", "status line"),
        (b"HTTP/1.1 abc\r\n\r\n", "status line"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "Content-Length, found 'none'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1), "at most"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * HEAD_BYTES_MAX + b"\r\n\r\n", "longer than"),
    ],
)
async def test_an_answer_that_is_not_understood_says_why(said: bytes, match: str) -> None:
    async with answering(said) as connection:
        with pytest.raises(AnswerError, match=match):
            await connection.answer(5)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"])
async def test_a_connection_that_ends_early_is_an_end_of_file(said: bytes) -> None:
    async with answering(said) as connection:
        with pytest.raises(EOFError):
            await connection.answer(5)

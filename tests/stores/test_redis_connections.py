"""Connections to a real Redis: whose reply is whose, what is closed from there, what fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.stores import redis_connections
from drizzle_streams.stores.redis_connections import Connections

SOON_S = 0.2


@pytest.fixture
async def connections(server: EmbeddedRedis) -> AsyncIterator[Connections]:
    made = Connections(server.url, most=2, connect_timeout_s=1.0, reply_timeout_s=5.0)
    yield made
    await made.close()


async def _hang_up_on_all(server: EmbeddedRedis) -> None:
    async with Redis.from_url(server.url) as client:
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def test_everybody_gets_their_own_replies(connections: Connections) -> None:
    exchanges = (connections.exchange([("ECHO", f"{n}"), ("ECHO", f"{n}+")]) for n in range(50))
    assert await asyncio.gather(*exchanges) == [[b"%d" % n, b"%d+" % n] for n in range(50)]


async def test_an_error_reply_is_raised_after_all_were_read(connections: Connections) -> None:
    with pytest.raises(ResponseError, match="not an integer"):
        await connections.exchange([("SET", "word", "x"), ("INCR", "word"), ("ECHO", "after")])
    assert await connections.exchange([("ECHO", "next")]) == [b"next"]


async def test_who_was_hung_up_on_while_resting_is_opened_anew(
    connections: Connections, server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_connections, "RESTED_S", 0.0)
    await connections.exchange([("PING",)])
    await _hang_up_on_all(server)
    assert await connections.exchange([("ECHO", "again")]) == [b"again"]


async def test_a_failure_has_the_resting_ones_opened_anew_too(
    connections: Connections, server: EmbeddedRedis
) -> None:
    await asyncio.gather(*(connections.exchange([("BLPOP", "nothing", "0.05")]) for _ in range(2)))
    await _hang_up_on_all(server)
    with pytest.raises((RedisConnectionError, OSError)):
        await connections.exchange([("PING",)])
    both = (connections.exchange([("BLPOP", "nothing", "0.05")]) for _ in range(2))
    assert await asyncio.gather(*both) == [[None], [None]]


async def test_a_reply_that_does_not_come_and_a_connection_that_does_not_get_free_are_timeouts(
    server: EmbeddedRedis,
) -> None:
    connections = Connections(server.url, most=1, connect_timeout_s=1.0, reply_timeout_s=SOON_S)
    try:
        ends = await asyncio.gather(
            connections.exchange([("BLPOP", "nothing", "60")]),
            connections.exchange([("BLPOP", "nothing", "60")]),
            return_exceptions=True,
        )
        assert [type(end) for end in ends] == [TimeoutError, TimeoutError]
        assert await connections.exchange([("ECHO", "free")]) == [b"free"]
    finally:
        await connections.close()


async def test_who_is_cancelled_leaves_nothing_behind_for_the_next(connections: Connections) -> None:
    waiting = asyncio.ensure_future(connections.exchange([("BLPOP", "list", "60")]))
    while not await _blocked(connections):
        continue  # asking lets it go on
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    echoes = (connections.exchange([("ECHO", f"{n}")]) for n in range(4))
    assert await asyncio.gather(*echoes) == [[b"0"], [b"1"], [b"2"], [b"3"]]


async def _blocked(connections: Connections) -> bool:
    (found,) = await connections.exchange([("INFO", "clients")])
    return b"blocked_clients:1" in found


async def test_closing_ends_what_is_under_way(connections: Connections) -> None:
    waiting = asyncio.ensure_future(connections.exchange([("BLPOP", "list", "60")]))
    while not await _blocked(connections):
        continue  # asking lets it go on
    await connections.close()
    with pytest.raises((RedisConnectionError, OSError, asyncio.CancelledError)):
        await asyncio.wait_for(waiting, 5.0)

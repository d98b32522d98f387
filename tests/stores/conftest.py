"""One real Redis for all tests of this folder; each test starts with it empty and alive."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis

from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.local.redis_config import AppendFsync, RedisConfig


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """The server of the session; `no` is as safe against SIGKILL as `always` and faster."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), config=RedisConfig(AppendFsync.NO))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def server(embedded: EmbeddedRedis) -> EmbeddedRedis:
    """The server, started again if the test before killed it, and empty."""
    await embedded.start()
    async with Redis.from_url(embedded.url) as client:
        await client.flushall()
    return embedded

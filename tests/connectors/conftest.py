"""One real Redis for all tests of this folder; each test that asks for it finds it alive and empty."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from redis.asyncio import Redis

from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.local.redis_config import AppendFsync, RedisConfig

LazyServer = Callable[[], Awaitable[EmbeddedRedis]]


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """The server of the session; `no` is as safe against SIGKILL as `always` and faster."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), config=RedisConfig(AppendFsync.NO))
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def lazy_server(embedded: EmbeddedRedis) -> LazyServer:
    """For suites over several sinks, of which only one needs a server."""

    async def started_empty() -> EmbeddedRedis:
        await embedded.start()
        async with Redis.from_url(embedded.url) as client:
            await client.flushall()
        return embedded

    return started_empty


@pytest.fixture
async def server(lazy_server: LazyServer) -> EmbeddedRedis:
    """The server, started again if the test before killed it, and empty."""
    return await lazy_server()

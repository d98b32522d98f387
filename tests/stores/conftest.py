"""One real Redis for all tests of this folder; each test starts with it empty and alive."""

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
    yield server  # `server` starts it: this may be asked for inside a running event loop
    asyncio.run(server.stop())


@pytest.fixture
async def server(embedded: EmbeddedRedis) -> EmbeddedRedis:
    """The server, started again if the test before killed it, and empty."""
    return await started_empty(embedded)


async def started_empty(embedded: EmbeddedRedis) -> EmbeddedRedis:
    """The same server, alive and without data."""
    await embedded.start()
    async with Redis.from_url(embedded.url) as client:
        await client.flushall()
    return embedded


@pytest.fixture
def lazy_server(embedded: EmbeddedRedis) -> LazyServer:
    """For suites over several implementations, of which only one needs a server."""
    return lambda: started_empty(embedded)

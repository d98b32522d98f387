"""The loadgen shares no code with the system, so the two interfaces between them are tried for real.

A run posts to the doors of real sources; the oracle reads what the real Redis sink wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import polars as pl
import pytest

from drizzle_loadgen.clock import Clock
from drizzle_loadgen.discovery import fixed
from drizzle_loadgen.errors import SinkError
from drizzle_loadgen.events import Workload
from drizzle_loadgen.oracle import Coverage, compare, expected_counts
from drizzle_loadgen.run import RunSettings, run
from drizzle_loadgen.sink import RedisSink as SinkReader
from drizzle_streams.connectors.base import SinkSettings, SinkToken
from drizzle_streams.connectors.redis import RedisSink
from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.source.ingest import Ingest
from drizzle_streams.source.log import LogSettings
from drizzle_streams.source.streams import Streams
from drizzle_streams.transport.http_server import HttpServer

INGEST_TOKEN = "only-for-records"


def fail(error: BaseException) -> None:
    raise AssertionError(error)


@pytest.fixture
async def sources(tmp_path: Path) -> AsyncIterator[list[tuple[Ingest, str]]]:
    """Two real doors for records, with real logs behind them: the door and its address."""
    async with AsyncExitStack() as stack:
        started: list[tuple[Ingest, str]] = []
        for name in ("one", "two"):
            streams = await Streams.open(
                tmp_path / name, LogSettings(), on_appended=lambda *_: None, on_failure=fail
            )
            stack.push_async_callback(streams.close)
            ingest = Ingest(streams, tokens={"ad-events": (INGEST_TOKEN,)})
            server = HttpServer("127.0.0.1", 0, "cluster-token-of-the-test")
            server.add_routes(ingest.routes(), auth=ingest.auth)
            await server.start()
            stack.push_async_callback(server.close)
            started.append((ingest, server.address))
        yield started


def settings(seconds: float) -> RunSettings:
    return RunSettings(Workload(1, int(Clock().now_ms()) + 100, 5000), seconds, "ad-events")


async def test_sources_take_every_event_once(sources: list[tuple[Ingest, str]]) -> None:
    headers = {"Authorization": f"Bearer {INGEST_TOKEN}"}
    locators = fixed([address for _, address in sources])
    result = await run(settings(0.5), locators, headers, asyncio.Event())
    assert (result.stopped, result.acknowledged) == (None, 2500)
    assert [ingest.counters["records"] for ingest, _ in sources] == [1250, 1250]
    assert [ingest.counters["posts"] for ingest, _ in sources] == [50, 50]
    assert sum(ingest.counters["duplicates"] for ingest, _ in sources) == 0


async def test_without_the_token_nothing_is_taken_and_the_run_says_why(
    sources: list[tuple[Ingest, str]],
) -> None:
    result = await run(settings(0.2), fixed([address for _, address in sources]), {}, asyncio.Event())
    assert result.failed
    assert "401" in str(result.stopped)
    assert result.acknowledged == 0


async def test_the_oracle_reads_what_the_redis_sink_writes(redis_server: EmbeddedRedis) -> None:
    workload = Workload(1, 1_700_000_000_000, 1000)
    expected = expected_counts(workload, Coverage.of_first(3000), 1000)
    rows = expected.select(
        "window_start",
        (pl.col("window_start") + 1000).alias("window_end"),
        "campaign_id",
        pl.col("expected").alias("clicks"),
    )
    writer = RedisSink("ysb").create(SinkSettings(("campaign_id",), redis_server.url))
    await writer.open()
    before_ms = Clock().now_ms()
    await writer.write(
        [(SinkToken("ysb", 1, batch, 0), rows[50 * batch : 50 * batch + 50]) for batch in range(6)]
    )
    after_ms = Clock().now_ms()
    await writer.close()
    async with SinkReader(redis_server.url, "ysb", "clicks") as reader:
        found = await reader.read()
    assert compare(expected, found, 1000, float("inf")).exact
    assert all(before_ms - 2 <= updated_ms <= after_ms + 2 for updated_ms in found["updated_ms"])
    async with SinkReader(redis_server.url, "ysb", "views") as reader:
        with pytest.raises(SinkError, match="whole numbers views"):
            await reader.read()

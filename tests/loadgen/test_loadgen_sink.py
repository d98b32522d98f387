"""Reading the sink: from a real Redis, in the layout of the Redis connector."""

from __future__ import annotations

import asyncio
from collections import Counter

import polars as pl
import pytest
from redis.asyncio import Redis

from drizzle_loadgen import sink as sink_module
from drizzle_loadgen.errors import SinkError, UsageError
from drizzle_loadgen.events import Workload
from drizzle_loadgen.oracle import Coverage, Verdict, compare, expected_counts
from drizzle_loadgen.sink import RedisSink, wait_exact
from drizzle_streams.local.redis import EmbeddedRedis
from tests.loadgen.naive import Counts, as_counts, write_rows

WORKLOAD = Workload(3, 1_700_000_000_000, 1000)
EXPECTED = expected_counts(WORKLOAD, Coverage.of_first(3000), 1000)
TRUTH = as_counts(EXPECTED, "expected")


def judge(found: pl.DataFrame) -> Verdict:
    return compare(EXPECTED, found, 1000, float("inf"))


async def test_all_rows_of_the_prefix_are_read(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "PIPELINE_COMMANDS", 7)
    await write_rows(redis_server.url, "mine", TRUTH, updated_ms=123)
    await write_rows(redis_server.url, "other", Counter({("c", 5): 1}))
    async with RedisSink(redis_server.url, "mine", "clicks") as sink:
        found = await sink.read()
    assert as_counts(found, "counted") == TRUTH
    assert set(found["updated_ms"]) == {123}
    assert judge(found).exact


async def test_an_empty_sink_has_no_rows(redis_server: EmbeddedRedis) -> None:
    async with RedisSink(redis_server.url, "ysb", "clicks") as sink:
        assert (await sink.read()).is_empty()


async def test_a_row_that_only_the_index_names_is_missing(redis_server: EmbeddedRedis) -> None:
    await write_rows(redis_server.url, "ysb", TRUTH)
    campaign, start = next(iter(TRUTH))
    async with (
        Redis.from_url(redis_server.url) as redis,
        RedisSink(redis_server.url, "ysb", "clicks") as sink,
    ):
        await redis.delete(f"ysb:{campaign}:{start}")
        verdict = judge(await sink.read())
    assert (verdict.exact, verdict.missing) == (False, 1)


@pytest.mark.parametrize(
    ("key", "fields", "match"),
    [
        ("ysb:c:5", {"clicks": "many", "updated_ms": 1}, "whole numbers clicks and updated_ms"),
        ("ysb:c:5", {"clicks": 3}, "whole numbers clicks and updated_ms"),
        ("ysb:c:6", {"clicks": 3, "updated_ms": 1}, "row keys ysb:<campaign>:5"),
        ("else:c:5", {"clicks": 3, "updated_ms": 1}, "row keys ysb:<campaign>:5"),
    ],
)
async def test_another_layout_is_an_error_and_not_a_count(
    redis_server: EmbeddedRedis, key: str, fields: dict[str, str | int], match: str
) -> None:
    async with Redis.from_url(redis_server.url) as redis:
        await redis.zadd("ysb:windows", {"5": 5})
        await redis.sadd("ysb:window:5", key)
        for field, value in fields.items():
            await redis.hset(key, field, value)
    async with RedisSink(redis_server.url, "ysb", "clicks") as sink:
        with pytest.raises(SinkError, match=match):
            await sink.read()


async def test_the_bound_on_rows_is_an_error(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "ROWS_MAX", 10)
    await write_rows(redis_server.url, "ysb", TRUTH)
    async with RedisSink(redis_server.url, "ysb", "clicks") as sink:
        with pytest.raises(SinkError, match="at most 10"):
            await sink.read()


async def test_waiting_ends_as_soon_as_the_counts_are_exact(redis_server: EmbeddedRedis) -> None:
    halves: list[Counts] = [Counter(dict(list(TRUTH.items())[:50])), TRUTH]
    reads = 0

    async def read() -> pl.DataFrame:
        nonlocal reads
        await write_rows(redis_server.url, "ysb", halves[min(reads, 1)])
        reads += 1
        return await sink.read()

    async with RedisSink(redis_server.url, "ysb", "clicks") as sink:
        verdict = await wait_exact(read, judge, timeout_s=60, poll_s=0.01)
    assert verdict.exact
    assert reads == 2


async def test_waiting_ends_with_the_last_verdict(redis_server: EmbeddedRedis) -> None:
    async with RedisSink(redis_server.url, "ysb", "clicks") as sink:
        for timeout_s in (0.0, 0.1):
            verdict = await wait_exact(sink.read, judge, timeout_s, poll_s=0.01)
            assert (verdict.exact, verdict.missing) == (False, EXPECTED.height)


async def test_waiting_survives_a_restart_of_redis(redis_server: EmbeddedRedis) -> None:
    await write_rows(redis_server.url, "ysb", TRUTH)
    await redis_server.kill()
    async with RedisSink(redis_server.url, "ysb", "clicks") as sink:
        waiting = asyncio.create_task(wait_exact(sink.read, judge, timeout_s=60, poll_s=0.01))
        await asyncio.sleep(0.05)  # some tries fail
        assert not waiting.done()
        await redis_server.start()
        assert (await waiting).exact


async def test_a_redis_that_stays_away_is_an_error() -> None:
    async with RedisSink("redis://127.0.0.1:1", "ysb", "clicks") as sink:
        with pytest.raises(SinkError, match="127.0.0.1:1"):
            await wait_exact(sink.read, judge, timeout_s=0.1, poll_s=0.01)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="redis address"):
        RedisSink("http://here", "ysb", "clicks")

"""What only the real Redis can do to its sink, and what a reader finds there."""

from __future__ import annotations

import asyncio
import datetime
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from redis.asyncio import Redis

from drizzle_streams.connectors import redis_rows, redis_writer
from drizzle_streams.connectors.base import SinkSettings, SinkToken
from drizzle_streams.connectors.redis import COLUMNS_MAX, RedisSink, redis
from drizzle_streams.connectors.redis_writer import RedisWriter
from drizzle_streams.errors import BuildError, ConfigError, StoreError
from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.local.redis_config import AppendFsync, RedisConfig
from drizzle_streams.stores.redis_link import LinkBounds
from tests.stores.flaky_proxy import FlakyProxy, flaky_proxy

PARTITIONS = 3
ROWS = 20


def token(batch: int, partition: int = 0) -> SinkToken:
    return SinkToken("job", 1, batch, partition)


def frame(batch: int, partition: int = 0) -> pl.DataFrame:
    """Every row of a batch says which batch it is of, twice."""
    return pl.DataFrame(
        {
            "key": [f"p{partition}r{i}" for i in range(ROWS)],
            "window_start": [0] * ROWS,
            "batch": [batch] * ROWS,
            "again": [batch] * ROWS,
        }
    )


@asynccontextmanager
async def writer(url: str, bounds: LinkBounds | None = None, keys: str = "key") -> AsyncIterator[RedisWriter]:
    sink = RedisWriter(url, "p", (keys,), bounds)
    await sink.open()
    try:
        yield sink
    finally:
        await sink.close()


@asynccontextmanager
async def reader(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    async with Redis.from_url(server.url, decode_responses=True) as client:
        yield client


async def fields_of(client: Redis, name: str) -> dict[str, str]:
    found: Any = await client.execute_command("HGETALL", name)
    return found


async def members(client: Redis, name: str) -> set[str]:
    found: Any = await client.execute_command("SMEMBERS", name)
    return found


async def consistent_batches(server: EmbeddedRedis) -> list[int]:
    """The batch each partition is at; fails if its rows are not all of the batch its token says."""
    batches: list[int] = []
    names = [[f"p:p{partition}r{i}:0" for i in range(ROWS)] for partition in range(PARTITIONS)]
    async with reader(server) as client, client.pipeline(transaction=True) as moment:
        moment.execute_command("HGETALL", "p:tokens")
        moment.execute_command("SMEMBERS", "p:window:0")
        for name in chain.from_iterable(names):
            moment.execute_command("HGETALL", name)
        tokens, indexed, *found = await moment.execute()
    for partition, named in enumerate(names):
        rows = found[partition * ROWS : (partition + 1) * ROWS]
        batch = tokens.get(f"job:1:{partition}")
        batches.append(-1 if batch is None else int(batch))
        if batch is None:
            assert not any(rows)
            assert not indexed & set(named)
        else:
            assert {(row["batch"], row["again"]) for row in rows} == {(batch, batch)}
            assert indexed >= set(named)
    return batches


@pytest.fixture
async def proxy(server: EmbeddedRedis) -> AsyncIterator[FlakyProxy]:
    async with flaky_proxy(server.port) as proxy:
        yield proxy


# -- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("call_bytes_max", [1, 10**9])
async def test_a_writer_that_dies_anywhere_in_a_write_leaves_whole_tokens(
    server: EmbeddedRedis, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch, call_bytes_max: int
) -> None:
    """Its heir writes the same batches again and ends at the same rows, wherever the cut was."""
    monkeypatch.setattr(redis_writer, "CALL_BYTES_MAX", call_bytes_max)
    no_retry = LinkBounds(outage_s_max=0)
    async with writer(proxy.url) as sink:
        proxy.disarm()
        await sink.write([(token(0, p), frame(0, p)) for p in range(PARTITIONS)])
        await sink.write([(token(0, p), frame(0, p)) for p in range(PARTITIONS)])
    write_bytes = proxy.seen // 2
    seen: set[tuple[int, ...]] = set()
    for batch, cut in enumerate(range(0, write_bytes, write_bytes // 25), start=1):
        writes = [(token(batch, p), frame(batch, p)) for p in range(PARTITIONS)]
        async with writer(proxy.url, no_retry) as dying:
            proxy.cut_requests(cut)
            with pytest.raises(StoreError):
                await dying.write(writes)
        proxy.disarm()
        left = await consistent_batches(server)
        assert set(left) <= {batch - 1, batch}
        seen.add(tuple(value - batch for value in left))
        async with writer(server.url) as heir:
            await heir.write(writes)
            assert heir.tokens_skipped == left.count(batch)
        assert await consistent_batches(server) == [batch] * PARTITIONS
    apart = {(0, -1, -1), (0, 0, -1)} if call_bytes_max == 1 else set[tuple[int, ...]]()
    assert seen == {(-1, -1, -1)} | apart, "the cuts fell into every call"


async def test_a_lost_answer_is_asked_for_again_and_nothing_is_written_twice(
    server: EmbeddedRedis, proxy: FlakyProxy
) -> None:
    async with writer(proxy.url) as sink:
        proxy.cut_replies(0)
        await sink.write([(token(4, p), frame(4, p)) for p in range(PARTITIONS)])
        assert sink.link.retries == 1
        assert sink.tokens_skipped == PARTITIONS
    assert await consistent_batches(server) == [4] * PARTITIONS


async def test_writes_go_on_through_kills_of_redis(server: EmbeddedRedis) -> None:
    written = -1
    enough = asyncio.Event()
    stop = asyncio.Event()
    async with writer(server.url) as sink:

        async def write() -> None:
            nonlocal written
            while not stop.is_set():
                await sink.write([(token(written + 1, p), frame(written + 1, p)) for p in range(PARTITIONS)])
                written += 1
                if written % 30 == 29:
                    enough.set()

        writing = asyncio.create_task(write())
        for _ in range(3):
            enough.clear()
            await enough.wait()
            await server.kill()
            acknowledged = written
            await server.start()
            assert min(await consistent_batches(server)) >= acknowledged
        stop.set()
        await writing
    assert await consistent_batches(server) == [written] * PARTITIONS


async def test_a_batch_that_failed_is_not_passed_over_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they share a call or not: a token past rows that were never written loses them for good."""
    config = RedisConfig(AppendFsync.NO, memory_bytes_max=24 * 1024 * 1024)
    large = pl.DataFrame({"key": ["a", "b"], "text": ["x" * 15_000_000] * 2})
    small = pl.DataFrame({"key": ["a", "b"], "text": ["small"] * 2})
    async with EmbeddedRedis(tmp_path, config=config) as small_server, reader(small_server) as client:
        for call_bytes_max in (1, 10**9):
            monkeypatch.setattr(redis_writer, "CALL_BYTES_MAX", call_bytes_max)
            async with writer(small_server.url) as sink:
                await sink.write([(token(0), small)])
                with pytest.raises(StoreError, match="Raise Redis's maxmemory"):
                    await sink.write([(token(1), large), (token(2), small)])
            assert await fields_of(client, "p:tokens") == {"job:1:0": "0"}
            assert (await fields_of(client, "p:a"))["text"] == "small"


async def test_a_call_that_fails_half_way_has_not_advanced_the_token(server: EmbeddedRedis) -> None:
    """Somebody else's key under a row's name: what was before it stays written, the token does not move."""
    async with writer(server.url) as sink, reader(server) as client:
        await client.set("p:p1r5:0", "not a hash")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await sink.write(
                [(token(0, 0), frame(0, 0)), (token(0, 1), frame(0, 1)), (token(1, 1), frame(1, 1))]
            )
        assert await fields_of(client, "p:tokens") == {"job:1:0": "0"}
        await client.delete("p:p1r5:0")
        await sink.write([(token(0, p), frame(0, p)) for p in range(PARTITIONS)])
    assert await consistent_batches(server) == [0] * PARTITIONS


async def test_an_outage_beyond_the_bound_is_an_error(server: EmbeddedRedis) -> None:
    async with writer(server.url, LinkBounds(outage_s_max=0.1)) as sink:
        await server.kill()
        with pytest.raises(StoreError, match="writing results"):
            await sink.write([(token(0), frame(0))])


# -- bounds -----------------------------------------------------------------------------------


async def test_calls_are_bounded_and_keep_the_order(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_writer, "CALL_BYTES_MAX", 2_000)
    monkeypatch.setattr(redis_rows, "ROWS_PER_CHUNK", 7)
    async with writer(server.url) as sink:
        sizes: list[int] = []
        run = sink.link.run

        async def spy(what: str, commands: list) -> list:
            replies = await run(what, commands)
            sizes.append(len(replies[0]))
            return replies

        monkeypatch.setattr(sink.link, "run", spy)
        await sink.write([(token(b, p), frame(b, p)) for b in range(10) for p in range(PARTITIONS)])
        assert 1 < len(sizes) < sum(sizes) == 10 * PARTITIONS
        assert sink.tokens_skipped == 0
    assert await consistent_batches(server) == [9] * PARTITIONS


@pytest.mark.parametrize(("bound", "value"), [("TOKEN_ROWS_MAX", ROWS - 1), ("TOKEN_BYTES_MAX", 100)])
async def test_a_token_above_its_bound_is_refused_before_anything_is_written(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    async with writer(server.url) as sink:
        monkeypatch.setattr(redis_writer, bound, value)
        with pytest.raises(StoreError, match="Rows of batch 0, partition 2: wanted at most.*more partitions"):
            await sink.write([(token(0, 1), frame(0).head(1)), (token(0, 2), frame(0, 2))])
    assert await consistent_batches(server) == [-1] * PARTITIONS


# -- what a reader finds ----------------------------------------------------------------------


async def test_values_read_back_exactly_and_nulls_are_fields_that_are_not_there(
    server: EmbeddedRedis,
) -> None:
    values: dict[str, list] = {
        "large": [2**63 - 1, -(2**63), None],
        "real": [0.1, 5e-324, None],
        "odd": [math.inf, math.nan, None],
        "text": ['é\r\n"\x00', "", None],
        "flag": [True, False, None],
        "day": [datetime.date(2024, 2, 29), datetime.date(1, 1, 1), None],
        "money": [Decimal("1.20"), Decimal("-0.01"), None],
        "raw": [b"\xff\x00", b"", None],
    }
    table = pl.DataFrame({"key": ["a", "b", "c"], **values})
    async with writer(server.url) as sink, Redis.from_url(server.url) as client:
        await sink.write([(token(0), table)])
        found: list[Any] = [await client.execute_command("HGETALL", f"p:{key}") for key in "abc"]
        assert [int(row[b"large"]) for row in found[:2]] == values["large"][:2]
        assert [float(row[b"real"]) for row in found[:2]] == values["real"][:2]
        assert [row[b"odd"] for row in found[:2]] == [b"inf", b"NaN"]
        assert [row[b"text"].decode() for row in found[:2]] == values["text"][:2]
        assert [row[b"flag"] for row in found[:2]] == [b"true", b"false"]
        assert [row[b"day"] for row in found[:2]] == [b"2024-02-29", b"0001-01-01"]
        assert [Decimal(row[b"money"].decode()) for row in found[:2]] == values["money"][:2]
        assert [row[b"raw"] for row in found[:2]] == values["raw"][:2]
        assert list(found[2]) == [b"updated_ms"]
        assert await client.execute_command("SMEMBERS", "p:keys") == {b"p:a", b"p:b", b"p:c"}


async def test_a_value_that_becomes_null_goes_and_comes_back(server: EmbeddedRedis) -> None:
    async with writer(server.url) as sink, reader(server) as client:
        for batch, (x, y) in enumerate([(1, 2), (None, 3), (4, None), (5, 6)]):
            table = pl.DataFrame({"key": ["a"], "x": [x], "y": [y]}, schema_overrides={"x": pl.Int64})
            await sink.write([(token(batch), table)])
            found = await fields_of(client, "p:a")
            expected = {name: str(value) for name, value in (("x", x), ("y", y)) if value is not None}
            assert {name: value for name, value in found.items() if name != "updated_ms"} == expected


async def test_different_keys_never_share_a_name(server: EmbeddedRedis) -> None:
    parts = [
        "a",
        "a:b",
        "b",
        "a%3Ab",
        "",
        None,
        "%null",
        "null",
        "window",
        "%window",
        "windows",
        "tokens",
        "keys",
    ]
    table = pl.DataFrame([(x, y, i) for i, (x, y) in enumerate((x, y) for x in parts for y in parts)],
                         schema={"x": pl.String, "y": pl.String, "i": pl.Int64}, orient="row")  # fmt: skip
    sink = RedisWriter(server.url, "p", ("x", "y"))
    await sink.open()
    async with reader(server) as client:
        await sink.write([(token(0), table.with_columns(window_start=pl.lit(123)))])
        names = await members(client, "p:window:123")
        found = sorted([int((await fields_of(client, name))["i"]) for name in names])
        assert found == list(range(table.height))
        assert await fields_of(client, "p:a%3Ab:%null:123") != {}
    await sink.close()


async def test_a_key_may_be_a_word_that_the_sink_uses_itself(server: EmbeddedRedis) -> None:
    words = ["window", "windows", "keys", "tokens"]
    async with writer(server.url) as sink, reader(server) as client:
        for batch, extra in enumerate([{}, {"window_start": [5] * 4}]):
            await sink.write([(token(batch), pl.DataFrame({"key": words, "n": [1, 2, 3, 4], **extra}))])
        assert await members(client, "p:keys") == {f"p:%{word}" for word in words}
        assert await members(client, "p:window:5") == {f"p:%{word}:5" for word in words}


async def test_integer_and_date_keys_have_plain_names(server: EmbeddedRedis) -> None:
    table = pl.DataFrame({"key": [7, None], "n": [1, 2]})
    times = pl.DataFrame({"key": [datetime.datetime(2024, 1, 1, 12, 30, tzinfo=datetime.UTC)], "n": [3]})
    async with writer(server.url) as sink, reader(server) as client:
        for number, rows in enumerate([table, times, times.with_columns(key=b"\xff:")]):
            await sink.write([(token(number), rows)])
        assert await members(client, "p:keys") == {
            "p:7",
            "p:%null",
            "p:2024-01-01 12%3A30%3A00.000000+00%3A00",
            "p:ff3a",
        }


async def test_updated_ms_is_the_moment_of_writing_and_rewriting_does_not_move_it(
    server: EmbeddedRedis,
) -> None:
    async with writer(server.url) as sink, reader(server) as client:
        before = time.time() * 1000 - 1
        await sink.write([(token(0), frame(0))])
        after = time.time() * 1000
        first = (await fields_of(client, "p:p0r0:0"))["updated_ms"]
        assert before <= int(first) <= after
        await sink.write([(token(0), frame(0))])
        assert (await fields_of(client, "p:p0r0:0"))["updated_ms"] == first


async def test_the_number_of_redis_keys_grows_with_results_only(server: EmbeddedRedis) -> None:
    async with writer(server.url) as sink, reader(server) as client:
        sizes: set[int] = set()
        for batch in range(60):
            await sink.write([(token(batch, p), frame(batch, p)) for p in range(PARTITIONS)])
            sizes.add(await client.dbsize())
        assert sizes == {PARTITIONS * ROWS + 3}


# -- the spec ---------------------------------------------------------------------------------

SCHEMA: dict[str, pl.DataType] = {"key": pl.String(), "window_start": pl.Int64(), "clicks": pl.UInt32()}


def test_a_sound_job_is_accepted() -> None:
    redis("ysb").validate(SCHEMA, ("key",))
    redis("{ysb}:counts", "rediss://host:1").validate(SCHEMA, ("key",))
    redis("ysb", keys="key").validate(SCHEMA, ())


@pytest.mark.parametrize(
    ("spec", "schema", "keys", "message"),
    [
        (redis("ysb"), SCHEMA, (), "key columns.*found a job without group_by.*keys="),
        (redis("ysb", keys=["nokey"]), SCHEMA, (), "no column 'nokey'"),
        (redis(""), SCHEMA, ("key",), "found prefix ''"),
        (redis("drizzle:x"), SCHEMA, ("key",), "found prefix 'drizzle:x'"),
        (redis("ysb", "localhost:6379"), SCHEMA, ("key",), "found an address that starts with 'localhost'"),
        (redis("ysb"), SCHEMA | {"l": pl.List(pl.Int64)}, ("key",), r"column 'l'.*List\(Int64\)"),
        (redis("ysb"), SCHEMA | {"d": pl.Duration()}, ("key",), "column 'd'.*Duration"),
        (redis("ysb"), SCHEMA | {"updated_ms": pl.Int64()}, ("key",), "updated_ms"),
        (redis("ysb"), SCHEMA | {f"c{i}": pl.Int8() for i in range(COLUMNS_MAX)}, ("key",), "1003 columns"),
    ],
)
def test_a_job_that_could_not_be_written_is_refused_when_it_is_built(
    spec: RedisSink, schema: dict[str, pl.DataType], keys: tuple[str, ...], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        spec.validate(schema, keys)


def test_the_clusters_redis_is_the_default_and_none_at_all_is_a_config_error() -> None:
    sink = redis("ysb").create(SinkSettings(("key",), "redis://cluster:1/0"))
    assert isinstance(sink, RedisWriter)
    assert sink.link.place == "Redis at cluster:1"
    own = redis("ysb", "redis://mine:2").create(SinkSettings(("key",), "redis://cluster:1/0"))
    assert isinstance(own, RedisWriter)
    assert own.link.place == "Redis at mine:2"
    with pytest.raises(ConfigError, match="address of a Redis"):
        redis("ysb").create(SinkSettings(("key",)))


def test_a_spec_does_not_show_the_password_it_may_hold() -> None:
    assert "secret" not in repr(redis("ysb", "redis://:secret@host:1"))


async def test_as_many_columns_as_are_allowed_can_be_written(server: EmbeddedRedis) -> None:
    table = pl.DataFrame({"key": ["a"], **{f"c{i}": [i] for i in range(COLUMNS_MAX - 1)}})
    async with writer(server.url) as sink, reader(server) as client:
        await sink.write([(token(0), table)])
        assert len(await fields_of(client, "p:a")) == COLUMNS_MAX

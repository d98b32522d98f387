"""The contract of sinks, held by every one that can be asked what it holds."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import polars as pl
import pytest
from redis.asyncio import Redis

from drizzle_streams.connectors.base import Sink, SinkSettings, SinkSpec, SinkToken
from drizzle_streams.connectors.memory import MemoryResults, MemorySink
from drizzle_streams.connectors.redis import RedisSink
from drizzle_streams.local.redis import EmbeddedRedis

LazyServer = Callable[[], Awaitable[EmbeddedRedis]]
Rows = dict[tuple[str, int], int]


@dataclass
class Place:
    """Where a sink writes: new live sinks for it, and what a reader finds there."""

    open: Callable[[], Awaitable[Sink]]
    rows: Callable[[], Awaitable[Rows]]


def frame(value: int, campaigns: int = 3, window: int = 0) -> pl.DataFrame:
    """Rows as the engine gives them, the engine's own column included."""
    names = [f"c{i}" for i in range(campaigns)]
    return pl.DataFrame(
        {
            "__key_group": pl.Series([0] * campaigns, dtype=pl.UInt16),
            "campaign": names,
            "window_start": [window] * campaigns,
            "window_end": [window + 10] * campaigns,
            "clicks": [value] * campaigns,
        }
    )


def rows(value: int, campaigns: int = 3, window: int = 0) -> Rows:
    """What a reader should find after `frame` with the same arguments."""
    return {(f"c{i}", window): value for i in range(campaigns)}


def token(batch: int, partition: int = 0, stage: int = 1, job: str = "job") -> SinkToken:
    return SinkToken(job, stage, batch, partition)


async def _live(stack: AsyncExitStack, spec: SinkSpec, settings: SinkSettings) -> Sink:
    """A sink as a worker gets it: from a spec that was pickled with its program."""
    sink = pickle.loads(pickle.dumps(spec)).create(settings)
    await sink.open()
    stack.push_async_callback(sink.close)
    return sink


def _memory(stack: AsyncExitStack) -> Place:
    results = MemoryResults()

    async def found() -> Rows:
        latest = results.latest(["campaign", "window_start"])
        assert not any(name.startswith("__") for name in latest.columns)
        return {(row[0], row[1]): row[3] for row in latest.iter_rows()}

    return Place(lambda: _live(stack, MemorySink(results), SinkSettings(("campaign",))), found)


def _redis(stack: AsyncExitStack, server: EmbeddedRedis) -> Place:
    async def found() -> Rows:
        read: Rows = {}
        async with Redis.from_url(server.url, decode_responses=True) as client:
            for window in await client.zrange("ysb:windows", 0, -1):
                names = [str(name) for name in await client.smembers(f"ysb:window:{window}")]
                async with client.pipeline(transaction=False) as pipeline:
                    for name in names:
                        pipeline.hgetall(name)
                    hashes = await pipeline.execute()
                for name, fields in zip(names, hashes, strict=True):
                    prefix, campaign, start = name.split(":")
                    assert (prefix, start, sorted(fields)) == ("ysb", window, ["clicks", "updated_ms"])
                    read[campaign, int(start)] = int(fields["clicks"])
        return read

    settings = SinkSettings(("campaign",), server.url)
    return Place(lambda: _live(stack, RedisSink("ysb"), settings), found)


@pytest.fixture(params=["memory", "redis"])
async def place(request: pytest.FixtureRequest, lazy_server: LazyServer) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield _memory(stack) if request.param == "memory" else _redis(stack, await lazy_server())


@pytest.fixture
async def sink(place: Place) -> Sink:
    return await place.open()


async def test_rows_are_there_when_write_returns(place: Place, sink: Sink) -> None:
    await sink.write([(token(0), frame(7))])
    assert await place.rows() == rows(7)


async def test_a_later_batch_replaces_and_other_windows_stay(place: Place, sink: Sink) -> None:
    await sink.write([(token(0), frame(1, window=0))])
    await sink.write([(token(1), frame(2, campaigns=2, window=0)), (token(2), frame(3, window=10))])
    expected = {**rows(1, window=0), **rows(2, campaigns=2, window=0), **rows(3, window=10)}
    assert await place.rows() == expected


async def test_writing_twice_is_writing_once(place: Place, sink: Sink) -> None:
    """The second time with other rows, which a deterministic batch never has: they must not appear."""
    await sink.write([(token(0), frame(1)), (token(1), frame(2))])
    await sink.write([(token(0), frame(91)), (token(1), frame(92))])
    await sink.write([(token(1), frame(93))])
    assert await place.rows() == rows(2)


async def test_a_replay_joins_on_where_the_last_writer_stopped(place: Place, sink: Sink) -> None:
    await sink.write([(token(batch), frame(batch)) for batch in range(5)])
    await sink.close()
    heir = await place.open()
    await heir.write([(token(batch), frame(batch if batch > 4 else 90)) for batch in range(2, 7)])
    assert await place.rows() == rows(6)
    await heir.write([(token(6), frame(96))])
    assert await place.rows() == rows(6)


async def test_a_token_out_of_date_is_skipped(place: Place, sink: Sink) -> None:
    late = await place.open()
    await sink.write([(token(8), frame(8))])
    await late.write([(token(3), frame(3)), (token(8), frame(80)), (token(7), frame(7))])
    assert await place.rows() == rows(8)
    await late.write([(token(9), frame(9))])
    assert await place.rows() == rows(9)


async def test_gaps_between_batches_are_normal(place: Place, sink: Sink) -> None:
    await sink.write([(token(2), frame(2)), (token(40), frame(40))])
    await sink.write([(token(1_000_000), frame(5))])
    assert await place.rows() == rows(5)


async def test_batches_of_one_call_are_written_in_the_order_given(place: Place, sink: Sink) -> None:
    await sink.write([(token(b, partition=p), frame(b, window=10 * p)) for b in range(20) for p in range(3)])
    assert await place.rows() == {key: 19 for p in range(3) for key in rows(0, window=10 * p)}


async def test_partitions_stages_and_jobs_have_tokens_of_their_own(place: Place, sink: Sink) -> None:
    tokens = [
        token(5),
        token(1, partition=1),
        token(1, stage=2),
        token(1, job="other"),
        token(1, job="job:1", stage=0),
    ]
    await sink.write([(each, frame(i, window=10 * i)) for i, each in enumerate(tokens)])
    assert await place.rows() == {key: i for i in range(5) for key in rows(i, window=10 * i)}


async def test_no_rows_are_no_work(place: Place, sink: Sink) -> None:
    await sink.write([])
    await sink.write([(token(0), frame(0, campaigns=0)), (token(1), frame(1)), (token(2), frame(0, 0))])
    assert await place.rows() == rows(1)


async def test_a_large_token_is_written_whole(place: Place, sink: Sink) -> None:
    await sink.write([(token(0), frame(3, campaigns=12_345))])
    assert await place.rows() == rows(3, campaigns=12_345)


async def test_closing_twice_is_closing_once(place: Place, sink: Sink) -> None:
    await sink.write([(token(0), frame(1))])
    await sink.close()
    await sink.close()
    assert await place.rows() == rows(1)

"""Dead letters: bounded, never awaited, and each of them in the stream once, on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from drizzle_streams.engine.records import DeadLetter
from drizzle_streams.errors import StoreError
from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.local.redis_config import AppendFsync, RedisConfig
from drizzle_streams.model.ids import BatchId, JobId
from drizzle_streams.stores.redis_link import Command, RedisLink
from drizzle_streams.transport.tasks import OwnedTasks
from drizzle_streams.worker import deadletters
from drizzle_streams.worker.deadletters import CommandLink, DeadLetters, Origin
from drizzle_streams.worker.execution import LATE_REASON
from tests.worker.worker_worlds import MAP, REDUCE, Letters, letters_in

TASK = Origin(JobId("j"), "j@3", MAP, BatchId(4))
NEXT = replace(TASK, batch=BatchId(5))


def letters(count: int, first: int = 0) -> list[DeadLetter]:
    return [DeadLetter(1, offset, "bad", b"record") for offset in range(first, first + count)]


def late(*records: bytes) -> list[DeadLetter]:
    return [DeadLetter(-1, -1, LATE_REASON, record) for record in records]


@asynccontextmanager
async def writing(link: CommandLink) -> AsyncIterator[DeadLetters]:
    """A writer at work; at the end nothing waits."""
    dead = DeadLetters(link, "space")
    tasks = OwnedTasks(lambda error: pytest.fail(str(error)))
    tasks.start(dead.run(), "letters")
    yield dead
    await dead.flush()
    await tasks.close()
    assert dead.waiting == 0


async def test_letters_are_written_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletters, "WAITING_MAX", 1_200)
    link = Letters()
    async with writing(link) as dead:
        dead.add(TASK, letters(1_500))
        assert (dead.waiting, dead.dropped) == (1_200, 300)
    assert dead.written == 1_200
    assert [len(letters_in(command)) for command in link.commands] == [500, 500, 200]
    assert link.commands[0][2:7] == (2, "space:j:dead", "space:j@3:dead:marks", 10_000, 86_400)
    assert letters_in(link.commands[0])[7] == ("0/1/7", 4, 0, 1, 7, "bad", b"record")


async def test_letters_that_cannot_be_written_are_counted() -> None:
    class Broken(Letters):
        async def run(self, what: str, commands: object) -> list[object]:
            raise StoreError("Redis is away")

    async with writing(Broken()) as dead:
        dead.add(TASK, letters(3))
        await dead.flush()
        dead.add(NEXT, letters(2))
    assert (dead.dropped, dead.written, dead.repeated) == (5, 0, 0)


# --- in a real Redis --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), config=RedisConfig(AppendFsync.NO))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def redis(embedded: EmbeddedRedis) -> AsyncIterator[Redis]:
    async with Redis.from_url(embedded.url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def link(embedded: EmbeddedRedis) -> AsyncIterator[RedisLink]:
    link = RedisLink(embedded.url)
    await link.open()
    yield link
    await link.close()


async def kept(redis: Redis) -> list[tuple[int, int, bytes]]:
    """Batch, offset and record of each letter there is, oldest first."""
    found: Any = await redis.xrange("space:j:dead")
    rows = [fields for _, fields in found]
    return [(int(row[b"batch"]), int(row[b"offset"]), row[b"record"]) for row in rows]


async def test_a_batch_that_is_computed_again_writes_no_letter_twice(redis: Redis, link: RedisLink) -> None:
    async with writing(link) as first:
        first.add(TASK, letters(3))
        first.add(NEXT, letters(2, first=3))
    async with writing(link) as successor:  # computes both again, and goes on
        successor.add(TASK, letters(3))
        successor.add(NEXT, letters(3, first=3))
    assert await kept(redis) == [(4, n, b"record") for n in range(3)] + [
        (5, n, b"record") for n in range(3, 6)
    ]
    assert (successor.written, successor.repeated, successor.dropped) == (1, 5, 0)


async def test_late_groups_are_told_apart_by_what_they_hold_and_how_often(
    redis: Redis, link: RedisLink
) -> None:
    task = replace(TASK, stage=REDUCE)
    for _ in range(2):
        async with writing(link) as dead:
            dead.add(task, late(b"x", b"y", b"x"))
            dead.add(replace(task, batch=BatchId(5)), late(b"x"))
    assert await kept(redis) == [(4, -1, b"x"), (4, -1, b"y"), (4, -1, b"x"), (5, -1, b"x")]


async def test_another_run_of_the_job_writes_its_own(redis: Redis, link: RedisLink) -> None:
    async with writing(link) as dead:
        dead.add(NEXT, letters(2))
        dead.add(replace(TASK, run="j@9", batch=BatchId(0)), letters(2))
    assert [batch for batch, _, _ in await kept(redis)] == [5, 5, 0, 0]


async def test_marks_are_bounded_and_go_after_a_while(
    redis: Redis, link: RedisLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadletters, "STREAM_LETTERS_MAX", 10)
    async with writing(link) as dead:
        for batch in range(50):
            dead.add(replace(TASK, batch=BatchId(batch)), letters(1, first=batch))
            await dead.flush()
        written = dead.written
        dead.add(replace(TASK, batch=BatchId(3)), letters(1, first=3))  # its mark has gone long ago
        await dead.flush()
        dead.add(replace(TASK, batch=BatchId(49)), letters(1, first=49))
    assert (written, dead.written, dead.repeated) == (50, 50, 2)
    assert await redis.zcard("space:j@3:dead:marks") == 10
    assert 0 < await redis.ttl("space:j@3:dead:marks") <= deadletters.MARKS_KEPT_S


async def test_an_answer_that_was_lost_writes_nothing_twice(redis: Redis, link: RedisLink) -> None:
    """The link sends a call again whose answer did not come; the first may have been done."""

    class Repeats:
        async def open(self) -> None: ...

        async def close(self) -> None: ...

        async def run(self, what: str, commands: Sequence[Command]) -> list[Any]:
            await link.run(what, commands)
            return await link.run(what, commands)

    async with writing(Repeats()) as dead:
        dead.add(TASK, letters(4))
    assert len(await kept(redis)) == 4

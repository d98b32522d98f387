"""The snapshot store's contract, held by every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from drizzle_streams.errors import CorruptError, FencedError, StoreError
from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.model.ids import Generation, JobId
from drizzle_streams.stores import base
from drizzle_streams.stores import redis as redis_stores
from drizzle_streams.stores.base import SnapshotStore
from drizzle_streams.stores.files import FileSnapshotStore
from drizzle_streams.stores.memory import MemorySnapshotStore
from drizzle_streams.stores.redis import RedisSnapshotStore

LazyServer = Callable[[], Awaitable[EmbeddedRedis]]

JOB = JobId("ysb")
ODD_JOBS = [JobId(name) for name in ("ysb:parts", "a/b", "..", "größe %2F", "fences")]
G1, G2, G3 = Generation(1), Generation(2), Generation(3)


@dataclass
class Storage:
    """One storage, and ways to get at it: another handle, and a damaged or lost part."""

    open: Callable[[], Awaitable[SnapshotStore]]
    damage: Callable[[str, bytes | None], Awaitable[None]]


async def _memory(stack: AsyncExitStack) -> Storage:
    shared = MemorySnapshotStore()

    async def handle() -> SnapshotStore:
        return shared

    async def damage(key: str, data: bytes | None) -> None:
        del shared.parts[key]
        if data is not None:
            shared.parts[key] = data

    return Storage(handle, damage)


async def _files(stack: AsyncExitStack, directory: Path) -> Storage:
    async def handle() -> SnapshotStore:
        store = FileSnapshotStore(directory)
        await store.open()
        stack.push_async_callback(store.close)
        return store

    async def damage(key: str, data: bytes | None) -> None:
        (path,) = directory.glob("job-*/*.part")
        path.unlink()
        if data is not None:
            path.write_bytes(bytes(8) + data)

    return Storage(handle, damage)


async def _redis(stack: AsyncExitStack, server: EmbeddedRedis) -> Storage:
    async def handle() -> SnapshotStore:
        store = RedisSnapshotStore(server.url)
        await store.open()
        stack.push_async_callback(store.close)
        return store

    async def damage(key: str, data: bytes | None) -> None:
        async with Redis.from_url(server.url) as client:
            name = f"drizzle:snapshot:parts:{base.job_of(key)}"
            if data is None:
                await client.execute_command("HDEL", name, key)
            else:
                await client.execute_command("HSET", name, key, data)

    return Storage(handle, damage)


@pytest.fixture(params=["memory", "files", "redis"])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, lazy_server: LazyServer
) -> AsyncIterator[Storage]:
    async with AsyncExitStack() as stack:
        match request.param:
            case "memory":
                yield await _memory(stack)
            case "files":
                yield await _files(stack, tmp_path)
            case _:
                yield await _redis(stack, await lazy_server())


@pytest.fixture
async def store(storage: Storage) -> SnapshotStore:
    return await storage.open()


async def test_parts_come_back_byte_for_byte_in_the_order_asked_for(storage: Storage) -> None:
    data = [b"", bytes(range(256)), b"\r\n$-1\r\n" * 1000, b"x" * 2_000_000]
    parts = await (await storage.open()).put(JOB, G1, [(f"w1/{i}", d) for i, d in enumerate(data)])
    assert [part.bytes for part in parts] == [len(d) for d in data]
    other = await storage.open()
    assert await other.get(parts) == data
    assert await other.get(parts[::-1]) == data[::-1]
    assert await other.get([]) == []


async def test_more_than_a_pipeline_holds(store: SnapshotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_stores, "PIPELINE_BYTES_MAX", 1000)
    monkeypatch.setattr(redis_stores, "DELETES_PER_COMMAND_MAX", 3)
    data = [bytes([i]) * (i * 37 % 1500) for i in range(50)]
    parts = await store.put(JOB, G1, [(f"p{i}", d) for i, d in enumerate(data)])
    assert await store.get(parts) == data
    await store.delete([part.key for part in parts])
    assert await store.written_before(JOB, G2) == ()


async def test_putting_again_is_putting_once(store: SnapshotStore) -> None:
    first = await store.put(JOB, G1, [("a", b"same")])
    assert await store.put(JOB, G1, [("a", b"same")]) == first
    assert await store.get(first) == [b"same"]
    assert await store.written_before(JOB, G2) == (first[0].key,)


async def test_jobs_and_odd_names_do_not_meet(store: SnapshotStore) -> None:
    names = ["part", "a/b", "../up", "a:b %2F", "ü" * 30, "fence", "fence.lock"]
    stored = {job: await store.put(job, G1, [(n, f"{job} {n}".encode()) for n in names]) for job in ODD_JOBS}
    for job, parts in stored.items():
        assert await store.get(parts) == [f"{job} {name}".encode() for name in names]
        assert await store.written_before(job, G2) == tuple(sorted(part.key for part in parts))
    gone, *left = ODD_JOBS
    await store.delete([part.key for part in stored[gone]])
    assert await store.written_before(gone, G2) == ()
    for job in left:
        assert len(await store.get(stored[job])) == len(names)


@pytest.mark.parametrize("found", [b"other bytes", b"state?", b"", b"state and more", None])
async def test_what_is_not_what_was_put_is_corrupt(storage: Storage, found: bytes | None) -> None:
    store = await storage.open()
    parts = await store.put(JOB, G1, [("a", b"state!")])
    await storage.damage(parts[0].key, found)
    with pytest.raises(CorruptError, match="Snapshot part 'ysb/a'"):
        await store.get(parts)


async def test_a_reference_with_another_checksum_is_corrupt(store: SnapshotStore) -> None:
    (part,) = await store.put(JOB, G1, [("a", b"state")])
    with pytest.raises(CorruptError):
        await store.get([replace(part, checksum=part.checksum ^ 1)])


async def test_deleted_parts_are_gone_and_deleting_again_is_fine(store: SnapshotStore) -> None:
    kept, gone = await store.put(JOB, G1, [("kept", b"1"), ("gone", b"2")])
    for _ in range(2):
        await store.delete([gone.key, "ysb/never there", "no such job/x"])
    await store.delete([])
    assert await store.get([kept]) == [b"1"]
    with pytest.raises(CorruptError, match="found nothing"):
        await store.get([gone])


async def test_the_fence_is_per_job_and_never_lowered(storage: Storage) -> None:
    old, new = await storage.open(), await storage.open()
    other_job = JobId("other")
    (mine,) = await old.put(JOB, G1, [("mine", b"before")])
    await new.fence(JOB, G3)
    await new.fence(JOB, G2)
    for late in (G1, G2):
        with pytest.raises(FencedError, match="wanted generation 3 or higher"):
            await old.put(JOB, late, [("late", b"late"), ("mine", b"late")])
    assert await new.get([mine]) == [b"before"]
    assert await new.written_before(JOB, G3) == (mine.key,), "what was refused left nothing"
    await new.put(JOB, G3, [("new", b"new")])
    await old.put(other_job, G1, [("free", b"1")])


async def test_a_put_of_a_higher_generation_raises_the_fence(store: SnapshotStore) -> None:
    await store.put(JOB, G2, [("a", b"2")])
    with pytest.raises(FencedError):
        await store.put(JOB, G1, [("b", b"1")])


async def test_what_earlier_generations_left_can_be_found(store: SnapshotStore) -> None:
    (first,) = await store.put(JOB, G1, [("w1", b"1")])
    (second,) = await store.put(JOB, G2, [("w2", b"2")])
    assert await store.written_before(JOB, G1) == ()
    assert await store.written_before(JOB, G2) == (first.key,)
    assert await store.written_before(JOB, G3) == tuple(sorted([first.key, second.key]))
    assert await store.written_before(JobId("nobody's"), G3) == ()


async def test_a_part_above_the_bound_is_refused(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "PART_BYTES_MAX", 100)
    with pytest.raises(StoreError, match="'large': wanted at most 100 bytes, found 101 bytes"):
        await store.put(JOB, G1, [("fits", b"x" * 100), ("large", b"x" * 101)])
    assert await store.written_before(JOB, G2) == ()


async def test_many_writers_at_once(storage: Storage) -> None:
    handles = [await storage.open() for _ in range(3)]

    async def put(i: int) -> bytes:
        store, data = handles[i % 3], bytes([i]) * 10_000
        parts = await store.put(JOB, G1, [(f"w{i}/{n}", data) for n in range(3)])
        return b"".join(await handles[(i + 1) % 3].get(parts))

    assert await asyncio.gather(*map(put, range(12))) == [bytes([i]) * 30_000 for i in range(12)]

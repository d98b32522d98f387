"""The ledger's contract, held by every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from drizzle_streams.errors import CorruptError, FencedError, StoreError
from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.model.ids import Generation
from drizzle_streams.stores import base
from drizzle_streams.stores.base import Ledger
from drizzle_streams.stores.files import FileLedger
from drizzle_streams.stores.memory import MemoryLedger
from drizzle_streams.stores.redis import RedisLedger

LazyServer = Callable[[], Awaitable[EmbeddedRedis]]

G1, G2, G3 = Generation(1), Generation(2), Generation(3)


@dataclass
class Storage:
    """One storage, and ways to get at it: another handle, and a damaged value."""

    open: Callable[[], Awaitable[Ledger]]
    damage: Callable[[str], Awaitable[None]]


async def _memory(stack: AsyncExitStack) -> Storage:
    shared = MemoryLedger()

    async def handle() -> Ledger:
        return shared

    async def damage(name: str) -> None:
        shared.sealed[name] = shared.sealed[name][:-1] + b"?"

    return Storage(handle, damage)


async def _files(stack: AsyncExitStack, directory: Path) -> Storage:
    async def handle() -> Ledger:
        ledger = FileLedger(directory)
        await ledger.open()
        stack.push_async_callback(ledger.close)
        return ledger

    async def damage(name: str) -> None:
        path = directory / "ledger"
        path.write_bytes(path.read_bytes()[:-1] + b"?")

    return Storage(handle, damage)


async def _redis(stack: AsyncExitStack, server: EmbeddedRedis) -> Storage:
    async def handle() -> Ledger:
        ledger = RedisLedger(server.url)
        await ledger.open()
        stack.push_async_callback(ledger.close)
        return ledger

    async def damage(name: str) -> None:
        async with Redis.from_url(server.url) as client:
            await client.execute_command("HSET", "drizzle:ledger", name, b"1234?")

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
async def ledger(storage: Storage) -> Ledger:
    return await storage.open()


async def test_an_unused_ledger_is_empty_and_of_generation_zero(ledger: Ledger) -> None:
    assert await ledger.read() == {}
    assert await ledger.generation() == 0


async def test_values_come_back_byte_for_byte_through_another_handle(storage: Storage) -> None:
    puts = {"empty": b"", "bytes": bytes(range(256)), "größe": b"x" * 3_000_000, "a/b:c": b"\r\n$1"}
    await (await storage.open()).write(G1, puts, [])
    other = await storage.open()
    assert await other.read() == puts
    assert await other.generation() == 1


async def test_puts_replace_and_deletes_remove(ledger: Ledger) -> None:
    await ledger.write(G1, {"a": b"1", "b": b"1", "c": b"1"}, [])
    await ledger.write(G1, {"a": b"2", "c": b"2", "d": b"2"}, ["b", "c", "never there"])
    assert await ledger.read() == {"a": b"2", "d": b"2"}


async def test_an_empty_write_is_a_check_of_the_fence(ledger: Ledger) -> None:
    await ledger.write(G2, {}, [])
    assert await ledger.generation() == 2
    with pytest.raises(FencedError):
        await ledger.write(G1, {}, [])


async def test_no_two_callers_raise_to_the_same_generation(storage: Storage) -> None:
    handles = [await storage.open() for _ in range(3)]
    raised = await asyncio.gather(*(handles[i % 3].raise_generation() for i in range(30)))
    assert sorted(raised) == list(range(1, 31))
    assert await handles[0].generation() == 30


async def test_a_raise_jumps_over_what_is_known_from_elsewhere(ledger: Ledger) -> None:
    assert await ledger.raise_generation(at_least=7) == 8
    assert await ledger.raise_generation(at_least=3) == 9


async def test_an_older_generation_is_refused_and_changes_nothing(storage: Storage) -> None:
    old, new = await storage.open(), await storage.open()
    mine = await old.raise_generation()
    await old.write(mine, {"plan": b"old"}, [])
    await new.raise_generation()
    with pytest.raises(FencedError, match="wanted generation 2 or higher, found generation 1"):
        await old.write(mine, {"plan": b"late", "more": b"late"}, ["plan"])
    assert await new.read() == {"plan": b"old"}


async def test_a_higher_generation_raises_the_fence_by_writing(ledger: Ledger) -> None:
    await ledger.write(G3, {"a": b"3"}, [])
    assert await ledger.generation() == 3
    with pytest.raises(FencedError):
        await ledger.write(G2, {"a": b"2"}, [])
    assert await ledger.raise_generation() == 4


async def test_readers_never_see_half_a_write(storage: Storage) -> None:
    writer, reader = await storage.open(), await storage.open()
    names = [f"n{i}" for i in range(20)]
    await writer.write(G1, dict.fromkeys(names, b"0"), [])

    async def write() -> None:
        for i in range(1, 25):
            await writer.write(G1, dict.fromkeys(names, b"%d" % i), [])

    writing = asyncio.create_task(write())
    while not writing.done():
        assert len(set((await reader.read()).values())) == 1
        await asyncio.sleep(0)
    await writing
    assert await reader.read() == dict.fromkeys(names, b"24")


async def test_writes_take_effect_in_the_order_of_the_calls(ledger: Ledger) -> None:
    """Large and small in turn, so that whatever could overtake would; and none is taken for a repetition."""
    sizes = [300_000 if i % 4 == 0 else 1 for i in range(24)]
    await asyncio.gather(
        *(ledger.write(G1, {"last": b"%d" % i, f"n{i}": b"x" * size}, []) for i, size in enumerate(sizes))
    )
    found = await ledger.read()
    assert found.pop("last") == b"23"
    assert {name: len(value) for name, value in found.items()} == {f"n{i}": s for i, s in enumerate(sizes)}


async def test_two_writers_of_one_generation_do_not_silence_each_other(storage: Storage) -> None:
    one, two = await storage.open(), await storage.open()
    for i in range(3):
        await one.write(G1, {f"one{i}": b""}, [])
    await two.write(G1, {"two": b""}, [])
    await one.write(G1, {"one3": b""}, [])
    assert sorted(await two.read()) == ["one0", "one1", "one2", "one3", "two"]


async def test_a_cancelled_write_never_comes_after_a_later_one(ledger: Ledger) -> None:
    for turns in range(6):
        early = asyncio.create_task(ledger.write(G1, {"value": b"early" * 1000}, []))
        for _ in range(turns):
            await asyncio.sleep(0)
        early.cancel()
        await ledger.write(G1, {"value": b"late"}, [])
        await asyncio.wait({early})
        assert await ledger.read() == {"value": b"late"}


async def test_a_write_above_the_bound_is_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "LEDGER_WRITE_BYTES_MAX", 100)
    await ledger.write(G1, {"fits": b"x" * 90}, [])
    with pytest.raises(StoreError, match="at most 100 bytes"):
        await ledger.write(G1, {"large": b"x" * 100}, [])
    assert sorted(await ledger.read()) == ["fits"]


async def test_a_damaged_value_is_an_error_and_never_a_value(storage: Storage, ledger: Ledger) -> None:
    await ledger.write(G1, {"plan": b"a plan"}, [])
    await storage.damage("plan")
    with pytest.raises(CorruptError, match="checksum"):
        await ledger.read()


async def test_the_lease_has_one_holder(storage: Storage) -> None:
    handles = [await storage.open() for _ in range(4)]
    got = await asyncio.gather(*(handle.acquire_lease(f"c{i}", 60_000) for i, handle in enumerate(handles)))
    assert got.count(True) == 1
    holder, other = f"c{got.index(True)}", f"c{got.index(False)}"
    assert await handles[0].acquire_lease(holder, 60_000), "asking again is no mistake"
    assert await handles[0].renew_lease(holder, 60_000)
    assert not await handles[0].renew_lease(other, 60_000)
    await handles[0].release_lease(other)
    assert not await handles[0].acquire_lease(other, 60_000), "only its holder can release it"
    await handles[0].release_lease(holder)
    assert not await handles[0].renew_lease(holder, 60_000), "a released lease cannot be renewed"
    assert await handles[0].acquire_lease(other, 60_000)


async def test_a_lease_runs_out_unless_it_is_renewed(ledger: Ledger) -> None:
    assert await ledger.acquire_lease("old", 1)
    await eventually(lambda: ledger.acquire_lease("new", 60_000))
    assert not await ledger.renew_lease("old", 60_000)
    assert await ledger.renew_lease("new", 1)
    await eventually(lambda: ledger.acquire_lease("old", 1))
    await eventually(lambda: ledger.acquire_lease("new", 60_000))


async def test_the_lease_says_who_leads_and_where(storage: Storage, ledger: Ledger) -> None:
    assert await ledger.lease() is None
    assert await ledger.acquire_lease("one", 60_000, "http://one:7070")
    other = await storage.open()
    lease = await other.lease()
    assert lease is not None
    assert (lease.holder, lease.address) == ("one", "http://one:7070")
    assert 0 < lease.left_ms <= 60_000
    assert await ledger.renew_lease("one", 90_000)
    renewed = await other.lease()
    assert renewed is not None
    assert (renewed.holder, renewed.address, renewed.term) == ("one", "http://one:7070", lease.term)
    assert renewed.left_ms > 60_000
    await ledger.release_lease("one")
    assert await other.lease() is None


async def test_every_taking_of_the_lease_has_a_higher_term(ledger: Ledger) -> None:
    async def term_of(holder: str) -> int:
        assert await ledger.acquire_lease(holder, 60_000)
        lease = await ledger.lease()
        assert lease is not None
        return lease.term

    terms = [await term_of("one"), await term_of("one")]
    await ledger.release_lease("one")
    terms.append(await term_of("two"))
    assert terms[0] < terms[1] < terms[2], "also when the same one takes it again"


async def test_a_generation_is_raised_only_on_its_condition(storage: Storage, ledger: Ledger) -> None:
    """A leader that was paused and replaced wakes up: it must not fence its successor out."""
    assert await ledger.acquire_lease("old", 60_000)
    mine = await ledger.raise_generation(holder="old")
    mine = await ledger.raise_generation(above=mine)
    assert mine == 2

    successor = await storage.open()
    await ledger.release_lease("old")
    assert await successor.acquire_lease("new", 60_000)
    theirs = await successor.raise_generation(holder="new")
    with pytest.raises(FencedError, match="stands by"):
        await ledger.raise_generation(above=mine)
    with pytest.raises(FencedError, match="old to have the lease"):
        await ledger.raise_generation(holder="old")
    assert await ledger.generation() == theirs, "nothing changed"
    assert await successor.raise_generation(above=theirs) == theirs + 1
    await successor.release_lease("new")
    with pytest.raises(FencedError):
        await successor.raise_generation(holder="new")


async def eventually(attempt: Callable[[], Awaitable[bool]]) -> None:
    """Try until it succeeds; the test fails after 5 s."""
    async with asyncio.timeout(5):
        while not await attempt():  # noqa: ASYNC110 - a lease runs out without telling
            await asyncio.sleep(0.005)


async def test_a_closed_store_says_so(storage: Storage, ledger: Ledger) -> None:
    if isinstance(ledger, MemoryLedger):
        pytest.skip("the memory of a process has nothing to close")
    await ledger.write(G1, {"a": b"1"}, [])
    await ledger.close()
    await ledger.close()
    with pytest.raises(StoreError, match=r"Await open\(\) first"):
        await ledger.read()
    await ledger.open()
    assert await ledger.read() == {"a": b"1"}

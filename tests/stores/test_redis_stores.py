"""What only the real Redis can do to its stores: die, come back, lose an answer, be full, refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from drizzle_streams.errors import ConfigError, FencedError, StoreError
from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.local.redis_config import AppendFsync, RedisConfig
from drizzle_streams.model.ids import Generation, JobId
from drizzle_streams.stores.redis import RedisLedger, RedisSnapshotStore
from drizzle_streams.stores.redis_link import LinkBounds, RedisLink
from tests.stores.flaky_proxy import FlakyProxy, flaky_proxy

G1, G2 = Generation(1), Generation(2)
JOB = JobId("ysb")


@asynccontextmanager
async def opened_ledger(url: str, bounds: LinkBounds | None = None) -> AsyncIterator[RedisLedger]:
    ledger = RedisLedger(url, bounds=bounds)
    await ledger.open()
    try:
        yield ledger
    finally:
        await ledger.close()


@asynccontextmanager
async def opened_snapshots(url: str) -> AsyncIterator[RedisSnapshotStore]:
    store = RedisSnapshotStore(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def proxy(server: EmbeddedRedis) -> AsyncIterator[FlakyProxy]:
    async with flaky_proxy(server.port) as proxy:
        yield proxy


async def test_ledger_writes_go_on_through_kills_and_stay_whole(server: EmbeddedRedis) -> None:
    names = ["a", "b", "c"]
    written = 0
    enough = asyncio.Event()
    async with opened_ledger(server.url) as ledger:
        stop = asyncio.Event()

        async def write() -> None:
            nonlocal written
            while not stop.is_set():
                await ledger.write(G1, dict.fromkeys(names, b"%d" % (written + 1)), [])
                written += 1
                if written % 50 == 0:
                    enough.set()

        writing = asyncio.create_task(write())
        for _ in range(3):
            enough.clear()
            await enough.wait()
            await server.kill()
            acknowledged = written
            await server.start()
            found = await ledger.read()
            assert len(set(found.values())) == 1, "never half a write"
            assert int(found["a"]) >= acknowledged, "what was acknowledged is there"
        stop.set()
        await writing
        assert await ledger.read() == dict.fromkeys(names, b"%d" % written)
        assert ledger.link.retries >= 3


async def test_snapshots_go_on_through_a_kill(server: EmbeddedRedis) -> None:
    async with opened_snapshots(server.url) as store:
        first = await store.put(JOB, G1, [("before", b"1" * 100_000)])
        await server.kill()
        late = asyncio.create_task(store.put(JOB, G1, [(f"p{i}", b"2" * 100_000) for i in range(20)]))
        reading = asyncio.create_task(store.get(first))
        await asyncio.sleep(0)
        assert not late.done()
        await server.start()
        assert await reading == [b"1" * 100_000]
        assert await store.get(await late) == [b"2" * 100_000] * 20


async def test_a_lost_answer_does_not_raise_the_generation_twice(proxy: FlakyProxy) -> None:
    async with opened_ledger(proxy.url) as ledger:
        proxy.cut_replies(0)
        assert await ledger.raise_generation() == 1
        assert proxy.cuts == 1
        assert await ledger.generation() == 1


async def test_a_request_cut_anywhere_is_done_once_and_whole(proxy: FlakyProxy) -> None:
    async with opened_ledger(proxy.url) as ledger:
        proxy.disarm()
        await ledger.write(G1, {"a": b"-1", "b": b"-1"}, [])
        request_bytes = proxy.seen
        cuts = list(range(0, request_bytes, request_bytes // 40))
        for i, cut in enumerate(cuts):
            proxy.cut_requests(cut)
            await ledger.write(G1, {"a": b"%d" % i, "b": b"%d" % i}, [])
            assert await ledger.read() == {"a": b"%d" % i, "b": b"%d" % i}
        assert proxy.cuts == len(cuts)


async def test_a_stale_repetition_does_not_undo_a_later_write(
    server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_ledger(server.url) as ledger:
        sent: list[Any] = []
        run = ledger.link.run

        async def spy(what: str, commands: Any, **options: Any) -> list[Any]:
            sent.append(commands)
            return await run(what, commands, **options)

        monkeypatch.setattr(ledger.link, "run", spy)
        await ledger.write(G1, {"plan": b"early"}, [])
        await ledger.write(G1, {"plan": b"late"}, [])
        assert await run("a delayed packet", sent[0]) == [-1]
        assert await ledger.read() == {"plan": b"late"}
        await ledger.raise_generation()
        with pytest.raises(FencedError):
            await ledger.write(G1, {"plan": b"fenced"}, [])


async def test_an_outage_longer_than_the_bound_is_an_error_that_says_so(server: EmbeddedRedis) -> None:
    async with opened_ledger(server.url, LinkBounds(outage_s_max=0.3)) as ledger:
        await server.kill()
        started = time.monotonic()
        with pytest.raises(StoreError, match=r"writing the ledger: wanted an answer within 0\.3 s"):
            await ledger.write(G1, {"a": b"1"}, [])
        assert time.monotonic() - started >= 0.25
        assert ledger.link.retries >= 2
        await server.start()
        await ledger.write(G1, {"a": b"2"}, [])
        assert await ledger.read() == {"a": b"2"}


async def test_a_server_that_hangs_is_an_outage() -> None:
    silent: list[asyncio.StreamWriter] = []
    listener = await asyncio.start_server(lambda reader, writer: silent.append(writer), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    link = RedisLink(f"redis://127.0.0.1:{port}", LinkBounds(reply_timeout_s=0.1, outage_s_max=0.2))
    with pytest.raises(StoreError, match="connecting: wanted an answer within"):
        await link.open()
    assert len(silent) == 1 + link.retries >= 2
    for writer in silent:
        writer.close()
    listener.close()
    await listener.wait_closed()


async def test_no_server_at_all_is_found_at_open(server: EmbeddedRedis) -> None:
    url = server.url
    await server.kill()
    with pytest.raises(StoreError, match="connecting"):
        await RedisLedger(url, bounds=LinkBounds(outage_s_max=0.1)).open()


async def test_a_full_redis_refuses_whole_writes_and_says_what_to_do(tmp_path: Path) -> None:
    config = RedisConfig(AppendFsync.NO, memory_bytes_max=32 * 1024 * 1024)
    async with EmbeddedRedis(tmp_path, config=config) as small, opened_ledger(small.url) as ledger:
        await ledger.write(G1, {"plan": b"kept", "large": b"x" * 5_000_000}, [])
        with pytest.raises(StoreError, match="Raise Redis's maxmemory"):
            await ledger.write(G1, {"plan": b"lost", "more": b"x" * 30_000_000}, ["large"])
        assert (await ledger.read())["plan"] == b"kept"
        assert ledger.link.retries == 0, "an error reply is not repeated"


async def test_a_refused_password_is_a_config_error_and_stays_secret(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path, config=RedisConfig(AppendFsync.NO, password="right")) as locked:
        async with opened_ledger(locked.url) as ledger:
            assert await ledger.generation() == 0
        for url in (locked.url.replace("right", "wr0ng"), locked.url.replace(":right@", "")):
            with pytest.raises(ConfigError, match="credentials|Authentication") as refused:
                await RedisLedger(url).open()
            assert "wr0ng" not in str(refused.value)


async def test_an_address_that_is_none_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"wanted redis://") as refused:
        await RedisLedger("http://user:secret@127.0.0.1:1").open()
    assert "secret" not in str(refused.value)


async def test_connections_are_bounded(server: EmbeddedRedis) -> None:
    async with opened_ledger(server.url, LinkBounds(connections_max=3)) as ledger:
        await asyncio.gather(*(ledger.generation() for _ in range(60)))
        async with Redis.from_url(server.url) as client:
            assert len(await client.client_list()) <= 3 + 1


async def test_the_number_of_redis_keys_does_not_grow(server: EmbeddedRedis) -> None:
    async with (
        opened_ledger(server.url) as ledger,
        opened_snapshots(server.url) as store,
        Redis.from_url(server.url, decode_responses=True) as client,
    ):
        sizes: list[int] = []
        previous: list[str] = []
        for i in range(50):
            parts = await store.put(JOB, G1, [(f"w/{i}/{n}", b"x") for n in range(3)])
            await ledger.write(G1, {"checkpoint": b"%d" % i}, [])
            await store.delete(previous)
            previous = [part.key for part in parts]
            sizes.append(await client.dbsize())
        assert set(sizes[1:]) == {sizes[0]}
        assert await client.keys("drizzle:*") == await client.keys("*")

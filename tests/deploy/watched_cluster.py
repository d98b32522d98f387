"""A local cluster under a short load of the benchmark, with a worker killed: something to look at."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from drizzle_streams.local.cluster import LocalCluster, LocalSettings
from drizzle_streams.local.ysb import STREAM, ysb_job
from drizzle_streams.protocol.tokens import TokenKind
from tests.bearer import minted

ROLES = ("coordinator", "source", "worker")
LOAD_END_S = 120.0


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[LocalCluster]:
    """Two workers, two sources, and the benchmark's job running."""
    async with LocalCluster(LocalSettings(folder / "cluster")) as cluster:
        ads = folder / "ads.parquet"
        await (await loadgen(cluster, "ads", "--seed", "0", "--out", str(ads))).wait()
        job = ysb_job(ads, window="1s", batch_interval="50ms", scheduling="group", group_size=20)
        await asyncio.to_thread(job.submit, cluster.address, token=cluster.token)
        yield cluster


async def loadgen(cluster: LocalCluster, *arguments: str) -> asyncio.subprocess.Process:
    """The load generator as a process."""
    token = minted(cluster.token, TokenKind.INGEST, STREAM)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drizzle_loadgen", *arguments),
        env={**os.environ, "DRIZZLE_INGEST_TOKEN": token},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )


async def load(cluster: LocalCluster, *, rate: int, seconds: float) -> None:
    """Events for so long; half-way a worker is killed."""
    sources = ",".join(cluster.source_addresses)
    flags = ("--sources", sources, "--stream", STREAM, "--seed", "0", "--rate", str(rate))
    process = await loadgen(cluster, "run", *flags, "--seconds", str(seconds))
    try:
        await asyncio.sleep(seconds / 2)  # the middle of the load's own schedule
        assert process.returncode is None, "the load ended early"
        cluster.kill("worker")
        async with asyncio.timeout(LOAD_END_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def targets(cluster: LocalCluster) -> dict[str, list[str]]:
    """host:port of every service, by the name of its scrape."""
    return {role: [urlsplit(one.address).netloc for one in cluster.of_role(role)] for role in ROLES}

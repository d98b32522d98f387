"""A job that reads files: exact, to its end, whoever dies; and refused when a file changed."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from redis.asyncio import Redis

import drizzle_streams as dz
from drizzle_streams.api.client import submit
from drizzle_streams.api.job import Job
from drizzle_streams.local.cluster import LocalCluster, LocalSettings

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

FILES, EVENTS_PER_FILE, KEYS, WINDOW_MS = 4, 60_000, 20, 10_000
ENDS_WITHIN_S = 100.0
Counts = dict[tuple[str, int], int]


def write_input(folder: Path) -> Counts:
    """Files whose event times go on from one to the next; what is to come out."""
    rng, counts = random.Random(5), Counter[tuple[str, int]]()
    folder.mkdir()
    for number in range(FILES):
        lines: list[str] = []
        for i in range(number * EVENTS_PER_FILE, (number + 1) * EVENTS_PER_FILE):
            key, at = f"k{rng.randrange(KEYS)}", i + rng.randrange(100)
            counts[key, at // WINDOW_MS * WINDOW_MS] += 1
            lines.append(json.dumps({"key": key, "at": at, "more": "x" * 60}))
        # The last line of a file may have no end.
        (folder / f"part-{number}.ndjson").write_text("\n".join(lines) + ("\n" if number % 2 else ""))
    return dict(counts)


def counting(folder: Path) -> Job:
    events = dz.files(
        folder / "*.ndjson", schema={"key": pl.String, "at": pl.Int64}, event_time="at", max_delay="1s"
    )
    counts = events.window(dz.tumbling("10s", emit="close")).group_by("key").agg(n=dz.count())
    return counts.to(dz.redis("files")).job("files", batch_interval="100ms", checkpoint_interval="200ms")


async def becomes(cluster: LocalCluster, fits: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    async with asyncio.timeout(ENDS_WITHIN_S):
        while not fits(values):
            await asyncio.sleep(0.02)
            values = await cluster.ask("/jobs/files")
    return values


async def written(url: str) -> Counts:
    found: Counts = {}
    async with Redis.from_url(url, decode_responses=True) as redis:
        async for name in redis.scan_iter("files:k*"):
            values: Any = await redis.hgetall(name)
            _, key, window = name.split(":")
            found[key, int(window)] = int(values["n"])
    return found


async def test_files_are_read_to_their_end_exactly_though_a_worker_and_a_source_are_killed(tmp_path):
    wanted = write_input(tmp_path / "input")
    settings = LocalSettings(tmp_path / "state", workers=2, sources=2, partitions=2)
    async with LocalCluster(settings) as cluster:
        job = counting(tmp_path / "input")
        await asyncio.to_thread(job.submit, cluster.address, token=cluster.token)
        await becomes(cluster, lambda job: job.get("batches_done", 0) >= 4)
        cluster.kill("worker")
        await becomes(cluster, lambda job: job.get("recoveries") or job.get("phase") == "stopped")
        cluster.kill("source")
        ended = await becomes(cluster, lambda job: job.get("phase") in ("stopped", "failed"))
        assert (ended["phase"], ended["detail"]) == ("stopped", "all of its input is computed")
        assert ended["recoveries"]
        assert await written(cluster.redis.url) == wanted


async def test_a_job_whose_file_changed_fails_and_says_which(tmp_path):
    write_input(tmp_path / "input")
    job = counting(tmp_path / "input").to_bytes()
    changed = tmp_path / "input" / "part-2.ndjson"
    changed.write_text(changed.read_text() + '{"key": "late", "at": 1}\n')
    settings = LocalSettings(tmp_path / "state", workers=1, sources=1, partitions=2)
    async with LocalCluster(settings) as cluster:
        await asyncio.to_thread(submit, job, cluster=cluster.address, token=cluster.token)
        ended = await becomes(cluster, lambda job: job.get("phase") in ("stopped", "failed"))
        assert ended["phase"] == "failed"
        assert "part-2.ndjson" in ended["detail"]
        assert "as when the job was submitted" in ended["detail"]

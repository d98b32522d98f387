"""Many batches with state that comes and goes: does anything of the cluster grow, or become slower.

A small job on a real local cluster: counts per key in windows of 2 s, keys new in every window, batches
of 10 ms. Memory and open files of each service, keys and bytes in Redis, bytes of the sources' logs and
batch latency after many batches are held against what they were after the first tenth. Results in Redis
are the reader's: each look takes them away first. 100,000 batches take 17 minutes; the default is short.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median

import aiohttp
import polars as pl
from redis.asyncio import Redis

import drizzle_streams as dz
from drizzle_benchmarks.processes import open_files, resident_bytes
from drizzle_benchmarks.report import Claim, Report, Row
from drizzle_benchmarks.soak_plots import plot_soak
from drizzle_streams.api.job import Job
from drizzle_streams.errors import DrizzleError, explain
from drizzle_streams.local.cluster import LocalCluster, LocalSettings
from drizzle_streams.protocol.tokens import TokenKind, credential
from drizzle_streams.transport.auth import header

NAME = "soak"
STREAM = "ticks"
INTERVAL_MS = 10.0
WINDOW_MS = 2_000
POST_INTERVAL_S = 0.05
POST_RECORDS = 50
TOKEN_TTL_S = 86_400.0
DELETED_AT_ONCE = 500
SLOWEST = 4.0
"""The run may take so many times as long as its batches should."""
START_S = 60.0
MIB = 1024 * 1024

GROWTH_MAX = 1.15
RESIDENT_SLACK = 16 * MIB
"""A service may grow by 15 % and this: allocators keep what they once needed."""
REDIS_KEYS_MAX = 1_000
"""More keys than in the beginning: rows of the windows that are written while it is looked."""
REDIS_BYTES_MAX = 16 * MIB
LOG_BYTES_MAX = 24 * MIB
"""One segment may be open and one about to go."""
FILES_MAX = 16
DRIFT_MAX = 1.25
DRIFT_SHARE = 5
"""Looks of the first and the last fifth are compared by their fastest: others that use the machine make a
look slow and never fast, and a cluster that becomes slower has no fast one at the end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batches", type=int, default=20_000, help="batches in all (%(default)s)")
    parser.add_argument("--samples", type=int, default=20, help="times that it is looked at (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="(%(default)s)")


async def run(arguments: argparse.Namespace) -> Report:
    """A row for each time that was looked."""
    settings = {"batches": arguments.batches, "batch_interval_ms": INTERVAL_MS, "workers": arguments.workers}
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        local = LocalSettings(Path(folder), workers=arguments.workers, sources=1)
        async with LocalCluster(local) as cluster:
            await asyncio.to_thread(job().submit, cluster.address, token=cluster.token)
            posting = asyncio.create_task(_post(cluster))
            try:
                rows = await _watched(cluster, posting, arguments.batches, arguments.samples)
            finally:
                posting.cancel()
                await asyncio.wait({posting})
    return Report(NAME, settings, rows, claims(rows))


def plot(report: Report, path: Path) -> None:
    plot_soak(report.rows, path)


def job() -> Job:
    """Counts per key and window: every window has keys of its own, and closes."""
    schema = {"key": pl.Int64, "value": pl.Int64, "at": pl.Int64}
    stream = dz.stream(STREAM, schema=schema, event_time="at")
    counts = (
        stream.window(dz.tumbling(f"{WINDOW_MS}ms")).group_by("key").agg(n=dz.count(), total=dz.sum("value"))
    )
    return counts.to(dz.redis("soak")).job(
        NAME, batch_interval=f"{INTERVAL_MS:g}ms", group_size=100, partitions=4
    )


async def _post(cluster: LocalCluster) -> None:
    """A few records all the time, until cancelled: the benchmark's load, in its own rhythm."""
    token = credential(cluster.token, TokenKind.INGEST, time.time(), subject=STREAM, ttl_s=TOKEN_TTL_S)
    headers = {"Authorization": header(token), "Content-Type": "application/x-ndjson"}
    url = f"{cluster.source_addresses[0]}/streams/{STREAM}/records"
    sent = 0
    async with aiohttp.ClientSession(headers=headers) as session:
        while True:
            at_ms = int(time.time() * 1000)
            first = at_ms // WINDOW_MS * 1_000
            numbers = range(sent, sent + POST_RECORDS)
            lines = (f'{{"key":{first + n * 7 % 1_000},"value":{n % 9},"at":{at_ms}}}\n' for n in numbers)
            async with session.post(url, data="".join(lines)) as answer:
                if answer.status not in {200, 429}:
                    wanted, remedy = "200 or 429", "See the source's log."
                    found = f"{answer.status}: {await answer.text()}"
                    raise DrizzleError(explain("posting records", wanted=wanted, found=found, remedy=remedy))
            sent += POST_RECORDS
            await asyncio.sleep(POST_INTERVAL_S)


async def _watched(
    cluster: LocalCluster, posting: asyncio.Task[None], batches: int, samples: int
) -> list[Row]:
    rows: list[Row] = []
    deadline = time.monotonic() + START_S + batches * INTERVAL_MS / 1000.0 * SLOWEST
    seen = -1
    while len(rows) < samples:
        if posting.done():
            posting.result()  # raises what ended it
        wanted = batches * (len(rows) + 1) // samples
        found = int((await cluster.ask(f"/jobs/{NAME}"))["batches_done"])
        if found >= wanted:
            row, seen = await _row(cluster, found, seen)
            rows.append(row)
        elif time.monotonic() > deadline:
            remedy = "The machine is too slow for this load, or the job failed: ask for fewer --batches."
            raise DrizzleError(explain(NAME, wanted=f"{batches} batches", found=str(found), remedy=remedy))
        await asyncio.sleep(POST_INTERVAL_S)
    return rows


async def _row(cluster: LocalCluster, done: int, seen: int) -> tuple[Row, int]:
    """What is held now; the latency of the batches since `seen`, and the newest of them."""
    timed = [
        (int(batch), took_ms)
        for batch, _, took_ms in (await cluster.ask(f"/jobs/{NAME}/batches"))["batches"]
        if batch > seen
    ]
    async with Redis.from_url(cluster.redis.url) as redis:
        results = [key async for key in redis.scan_iter("soak:*", 1_000)]
        for first in range(0, len(results), DELETED_AT_ONCE):
            await redis.delete(*results[first : first + DELETED_AT_ONCE])
        keys, memory = await redis.dbsize(), await redis.info("memory")
    pids = {name: service.pid for name, service in cluster.services.items() if service.pid is not None}
    sources = [cluster.directory / source.name for source in cluster.of_role("source")]
    logs = [path for folder in sources for path in folder.rglob("*") if path.is_file()]
    row: Row = {
        "batches": done,
        "batch_latency_p50_ms": round(median(took for _, took in timed), 2) if timed else None,
        "resident_bytes": {name: resident_bytes(pid) for name, pid in pids.items()},
        "open_files": {name: open_files(pid) for name, pid in pids.items()},
        "redis_keys": keys,
        "redis_bytes": int(memory["used_memory"]),
        "log_bytes": sum(path.stat().st_size for path in logs if path.exists()),
    }
    return row, max((batch for batch, _ in timed), default=seen)


def claims(rows: list[Row]) -> list[Claim]:
    """The last row against the one after a tenth of the batches."""
    before, after = rows[max(0, len(rows) // 10 - 1)], rows[-1]
    if before is after:
        return []
    found = [
        Claim(
            f"memory of {name}, growth",
            round((resident - before["resident_bytes"][name]) / MIB, 1),
            round((before["resident_bytes"][name] * (GROWTH_MAX - 1) + RESIDENT_SLACK) / MIB, 1),
            "MiB",
        )
        for name, resident in after["resident_bytes"].items()
    ]
    files = max(after["open_files"][name] - before["open_files"][name] for name in after["open_files"])
    bounds = {"redis_keys": (REDIS_KEYS_MAX, "keys"), "redis_bytes": (REDIS_BYTES_MAX, "bytes")}
    bounds["log_bytes"] = (LOG_BYTES_MAX, "bytes")
    found += [
        Claim(f"{name.replace('_', ' ')}, growth", after[name] - before[name], bound, unit)
        for name, (bound, unit) in bounds.items()
    ]
    found.append(Claim("open files of a service, growth", files, FILES_MAX, "files"))
    some = -(-len(rows) // DRIFT_SHARE)
    early, late = (
        min((row["batch_latency_p50_ms"] for row in part if row["batch_latency_p50_ms"]), default=None)
        for part in (rows[:some], rows[-some:])
    )
    drift = round(late / early, 2) if early and late else None
    return [
        *found,
        Claim("batch latency p50, fastest of the last fifth over first", drift, DRIFT_MAX, "ratio"),
    ]

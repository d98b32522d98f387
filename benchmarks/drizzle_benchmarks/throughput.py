"""Events per second over a file: the Yahoo Streaming Benchmark on a whole cluster, and as a batch beside it.

Workers read the file themselves. All processes of an engine share as many cores as the row says: of
Drizzle also the coordinator, the source and Redis, with a worker for each core. Beside it, in turns, run
the same query as a batch in Polars' streaming engine and in DuckDB (`batch_queries`). Counts are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from redis.asyncio import Redis

import drizzle_streams as dz
from drizzle_benchmarks.batch_queries import WINDOW_MS
from drizzle_benchmarks.numbers import numbers
from drizzle_benchmarks.report import Claim, Report, Row
from drizzle_benchmarks.throughput_plot import plot_throughput
from drizzle_loadgen.events import Workload, ads_table
from drizzle_streams.api.job import Job
from drizzle_streams.errors import DrizzleError, explain
from drizzle_streams.local.cluster import LocalCluster, LocalSettings

NAME = "throughput"
QUERY = "ysb"
ENGINES = ("drizzle", "polars", "duckdb")
SEED = 7
START_MS = 1_700_000_000_000
EVENTS_PER_SECOND = 100_000
"""Of event time: with 5 million events there are 5 windows of 100 campaigns."""
WRITE_EVENTS = 65_536
"""Events that are made at a time."""
PARTITIONS = 8
"""Chunks of 8 MiB in one batch: its fixed cost is little beside them."""
BATCH_INTERVAL = "10ms"
"""Shorter than a batch takes: batches begin as fast as workers take them."""
LEASE_MS = 10_000
"""All processes share the cores, and all of them are busy: that is no death."""
RUN_S_MAX = 120.0
POLL_S = 0.1
OF_POLARS_MIN = 0.7
TWO_CORES_MIN = 1.8

Counts = dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Input:
    """What is read: the events, the table of ads, where engines may write."""

    events: Path
    ads: Path
    folder: Path
    count: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: seconds of the query or the job, and with the start of all processes."""

    job_s: float
    whole_s: float
    counts: Counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many events, on how many cores, how often."""
    parser.add_argument("--events", type=int, default=5_000_000, help="in the file (%(default)s)")
    parser.add_argument("--cores", type=_cores, default=(1, 2), help="numbers of cores (1,2)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, in turns (%(default)s)")
    parser.add_argument("--engines", type=_engines, default=ENGINES, help=f"({','.join(ENGINES)})")


def _cores(text: str) -> tuple[int, ...]:
    found, there = numbers(text), len(os.sched_getaffinity(0))
    if max(found) > there:
        raise argparse.ArgumentTypeError(f"wanted numbers of the {there} cores there are, found {text}")
    return found


def _engines(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if not set(found) <= set(ENGINES):
        raise argparse.ArgumentTypeError(f"wanted some of {', '.join(ENGINES)}, found {text}")
    return found


async def run(arguments: argparse.Namespace) -> Report:
    """Every engine on every number of cores, in turns, `rounds` times."""
    runs: dict[tuple[str, int], list[Measured]] = {}
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        data = await asyncio.to_thread(_write_input, Path(folder), arguments.events)
        for number in range(arguments.rounds):
            for cores in arguments.cores:
                for engine in arguments.engines:
                    with pinned(cores):
                        one = await _run(engine, data, cores, number)
                    runs.setdefault((engine, cores), []).append(one)
    rows = [_row(*key, arguments.events, found, runs) for key, found in runs.items()]
    settings = {
        "events": arguments.events,
        "rounds": arguments.rounds,
        "partitions": PARTITIONS,
        "batch_interval": BATCH_INTERVAL,
        "window_ms": WINDOW_MS,
    }
    return Report(NAME, settings, rows, _claims(rows))


def plot(report: Report, path: Path) -> None:
    """Events per second, a bar an engine and number of cores."""
    plot_throughput(report.rows, path)


def _row(
    engine: str, cores: int, events: int, found: Sequence[Measured], runs: dict[Any, list[Measured]]
) -> Row:
    others = [one.counts for measured in runs.values() for one in measured]
    job_s = statistics.median(one.job_s for one in found)
    whole_s = statistics.median(one.whole_s for one in found)
    return {
        "engine": engine,
        "query": QUERY,
        "cores": cores,
        "events_per_second": round(events / job_s),
        "events_per_second_with_start": round(events / whole_s),
        "seconds": round(job_s, 3),
        "views": sum(found[0].counts.values()),
        "exact": all(one.counts == other for one in found for other in others),
    }


def _claims(rows: Sequence[Row]) -> list[Claim]:
    speed = {(row["engine"], row["cores"]): row["events_per_second"] for row in rows}
    one, two, batch = speed.get(("drizzle", 1)), speed.get(("drizzle", 2)), speed.get(("polars", 1))
    found: list[Claim] = []
    if one and batch:
        ratio = round(one / batch, 3)
        found.append(Claim("one core, over Polars as a batch", ratio, OF_POLARS_MIN, "ratio", at_least=True))
    if one and two:
        ratio = round(two / one, 3)
        found.append(Claim("two cores over one", ratio, TWO_CORES_MIN, "ratio", at_least=True))
    wrong = sum(not row["exact"] for row in rows)
    return [*found, Claim("engines whose counts differ", wrong, 0, "engines")]


# --- the input and the cores ----------------------------------------------------------------


def _write_input(folder: Path, count: int) -> Input:
    data = Input(folder / "events.ndjson", folder / "ads.parquet", folder, count)
    workload = Workload(SEED, START_MS, EVENTS_PER_SECOND)
    with data.events.open("wb") as file:
        for first in range(0, count, WRITE_EVENTS):
            file.write(workload.ndjson(first, min(WRITE_EVENTS, count - first)))
    ads_table(SEED).write_parquet(data.ads)
    return data


@contextmanager
def pinned(cores: int) -> Iterator[None]:
    """This process and all that it starts run on so many cores only."""
    before = os.sched_getaffinity(0)
    _pin(set(sorted(before)[:cores]))
    try:
        yield
    finally:
        _pin(before)


def _pin(cores: set[int]) -> None:
    """Of a process's threads each has its own affinity, and hands it on to what it starts."""
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:
            continue  # it ended meanwhile


async def _run(engine: str, data: Input, cores: int, number: int) -> Measured:
    if engine == "drizzle":
        return await _drizzle(data, cores, number)
    return await _batch(engine, data, cores)


# --- Drizzle --------------------------------------------------------------------------------


def ysb_files_job(events: Path, ads: Path) -> Job:
    """The benchmark's query over a file."""
    stream = dz.files(
        events,
        schema={"ad_id": pl.String, "event_type": pl.String, "event_time": pl.Int64},
        event_time="event_time",
    )
    counts = (
        stream.filter(pl.col("event_type") == "view")
        .join(dz.table(ads), on="ad_id")
        .window(dz.tumbling(f"{WINDOW_MS}ms"))
        .group_by("campaign_id")
        .agg(clicks=dz.count())
    )
    return counts.to(dz.redis(QUERY)).job(QUERY, batch_interval=BATCH_INTERVAL)


async def _drizzle(data: Input, cores: int, number: int) -> Measured:
    settings = LocalSettings(
        data.folder / f"drizzle-{cores}-{number}",
        workers=cores,
        sources=1,
        partitions=PARTITIONS,
        lease_ms=LEASE_MS,
    )
    started = time.time()
    async with LocalCluster(settings) as cluster:
        ready = time.time()
        job = ysb_files_job(data.events, data.ads)
        submitted = time.time()
        await asyncio.to_thread(job.submit, cluster.address, token=cluster.token)
        await _done(cluster)
        counts, last_at = await _results(cluster.redis.url)
    return Measured(last_at - submitted, last_at - submitted + ready - started, counts)


async def _done(cluster: LocalCluster) -> None:
    ends_at = time.monotonic() + RUN_S_MAX
    while True:
        job = await cluster.ask(f"/jobs/{QUERY}")
        if job["phase"] == "stopped":
            return
        if job["phase"] == "failed" or time.monotonic() > ends_at:
            raise _failed("drizzle", f"{job['phase']} after batch {job['batches_done']}: {job['detail']}")
        await asyncio.sleep(POLL_S)


async def _results(url: str) -> tuple[Counts, float]:
    """The counts, and when (Unix seconds, Redis' own time) the last of them could be read."""
    counts: Counts = {}
    last_ms = 0
    async with Redis.from_url(url, decode_responses=True) as redis:
        async for name in redis.scan_iter(f"{QUERY}:*-*", count=1_000):
            values: Any = await redis.hgetall(name)
            _, campaign, window = name.split(":")
            counts[campaign, int(window)] = int(values["clicks"])
            last_ms = max(last_ms, int(values["updated_ms"]))
    return counts, last_ms / 1000.0


# --- batches --------------------------------------------------------------------------------


async def _batch(engine: str, data: Input, cores: int) -> Measured:
    """A process of its own, so that threads and memory are as in Drizzle's."""
    arguments = (engine, str(data.events), str(data.ads), str(cores))
    environment = os.environ | {"POLARS_MAX_THREADS": str(cores)}
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drizzle_benchmarks.batch_queries", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(RUN_S_MAX):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise _failed(engine, f"still running after {RUN_S_MAX:g} s") from None
    whole_s = time.perf_counter() - started
    if process.returncode:
        raise _failed(engine, err.decode(errors="replace")[-500:])
    said = json.loads(out)
    counts = {(campaign, window): clicks for campaign, window, clicks in said["counts"]}
    return Measured(said["seconds"], whole_s, counts)


def _failed(engine: str, found: str) -> DrizzleError:
    wanted = f"the query's results within {RUN_S_MAX:g} s"
    return DrizzleError(
        explain(f"bench throughput, {engine}", wanted=wanted, found=found, remedy="Try with fewer --events.")
    )

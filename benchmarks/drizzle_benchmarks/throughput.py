"""Events per second over files: the Yahoo Streaming Benchmark; Grep, WordCount, TopKCount of D-Streams.

Workers read the files themselves. All processes of an engine share as many cores as the row says: of
Drizzle also the coordinator, the source and Redis, with a worker for each core. Beside it, in turns, run
the same queries as batches in Polars' streaming engine and in DuckDB (`batch_queries`). Counts are compared.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drizzle_benchmarks.file_inputs import Input
from drizzle_benchmarks.file_jobs import BATCH_INTERVAL, QUERIES, Counts, job_of, results
from drizzle_benchmarks.numbers import numbers
from drizzle_benchmarks.pinning import pinned
from drizzle_benchmarks.report import Claim, Report, Row
from drizzle_benchmarks.throughput_plot import plot_throughput
from drizzle_streams.errors import DrizzleError, explain
from drizzle_streams.local.cluster import LocalCluster, LocalSettings

NAME = "throughput"
ENGINES = ("drizzle", "polars", "duckdb")
PARTITIONS = 8
"""Chunks of up to 8 MiB in one batch: its fixed cost is little beside them."""
LEASE_MS = 10_000
"""All processes share the cores, and all of them are busy: that is no death."""
RUN_S_MAX = 120.0
POLL_S = 0.5
"""Looking takes the time of the same cores; when the last result came is known from Redis."""
OF_POLARS_MIN = 0.7
TWO_CORES_MIN = 1.8

Case = tuple[str, str, int]
"""Query, engine, cores."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: seconds of the query or the job, and with the start of all processes."""

    job_s: float
    whole_s: float
    counts: Counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which queries, over how much, on how many cores, how often."""
    queries = tuple(QUERIES)
    parser.add_argument("--queries", type=_some(queries), default=queries, help=f"({','.join(queries)})")
    parser.add_argument("--events", type=int, default=5_000_000, help="of ysb (%(default)s)")
    parser.add_argument("--lines", type=int, default=1_000_000, help="of the other queries (%(default)s)")
    parser.add_argument("--cores", type=_cores, default=(1, 2), help="numbers of cores (1,2)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each, in turns (%(default)s)")
    parser.add_argument("--engines", type=_some(ENGINES), default=ENGINES, help=f"({','.join(ENGINES)})")


def _cores(text: str) -> tuple[int, ...]:
    found, there = numbers(text), len(os.sched_getaffinity(0))
    if max(found) > there:
        raise argparse.ArgumentTypeError(f"wanted numbers of the {there} cores there are, found {text}")
    return found


def _some(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def chosen(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        if not set(found) <= set(known):
            raise argparse.ArgumentTypeError(f"wanted some of {', '.join(known)}, found {text}")
        return found

    return chosen


async def run(arguments: argparse.Namespace) -> Report:
    """Every query with every engine on every number of cores, in turns, `rounds` times."""
    runs: dict[Case, list[Measured]] = {}
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        data = Input(Path(folder), arguments.events, arguments.lines)
        await asyncio.to_thread(data.write)
        for query in arguments.queries:
            for number in range(arguments.rounds):
                for cores in arguments.cores:
                    for engine in arguments.engines:
                        with pinned(cores):
                            one = await _run(engine, query, data, cores, number)
                        runs.setdefault((query, engine, cores), []).append(one)
    rows = [_row(case, data, runs) for case in runs]
    settings = {
        "events": arguments.events,
        "lines": arguments.lines,
        "rounds": arguments.rounds,
        "partitions": PARTITIONS,
        "batch_interval": BATCH_INTERVAL,
    }
    return Report(NAME, settings, rows, _claims(rows))


def plot(report: Report, path: Path) -> None:
    """Events per second, a picture a query, a bar an engine and number of cores."""
    plot_throughput(report.rows, path)


def _row(case: Case, data: Input, runs: dict[Case, list[Measured]]) -> Row:
    query, engine, cores = case
    found = runs[case]
    others = [one.counts for (of, _, _), measured in runs.items() if of == query for one in measured]
    events = data.events if query == "ysb" else data.lines
    job_s = statistics.median(one.job_s for one in found)
    whole_s = statistics.median(one.whole_s for one in found)
    return {
        "engine": engine,
        "query": query,
        "cores": cores,
        "events_per_second": round(events / job_s),
        "events_per_second_with_start": round(events / whole_s),
        "seconds": round(job_s, 3),
        "counted": sum(found[0].counts.values()),
        "exact": all(one.counts == other for one in found for other in others),
    }


def _claims(rows: Sequence[Row]) -> list[Claim]:
    """Bounds are those of the Yahoo Streaming Benchmark; counts have to be the same everywhere."""
    ysb = [row for row in rows if row["query"] == "ysb"]
    speed = {(row["engine"], row["cores"]): row["events_per_second"] for row in ysb}
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


async def _run(engine: str, query: str, data: Input, cores: int, number: int) -> Measured:
    if engine == "drizzle":
        return await _drizzle(query, data, cores, number)
    return await _batch(engine, query, data, cores)


# --- Drizzle --------------------------------------------------------------------------------


async def _drizzle(query: str, data: Input, cores: int, number: int) -> Measured:
    settings = LocalSettings(
        data.folder / f"drizzle-{query}-{cores}-{number}",
        workers=cores,
        sources=1,
        partitions=PARTITIONS,
        lease_ms=LEASE_MS,
    )
    started = time.time()
    async with LocalCluster(settings) as cluster:
        ready = time.time()
        job = job_of(query, data)
        submitted = time.time()
        await asyncio.to_thread(job.submit, cluster.address, token=cluster.token)
        await _done(cluster, query)
        counts, last_at = await results(query, cluster.redis.url)
    return Measured(last_at - submitted, last_at - submitted + ready - started, counts)


async def _done(cluster: LocalCluster, query: str) -> None:
    ends_at = time.monotonic() + RUN_S_MAX
    while True:
        job = await cluster.ask(f"/jobs/{query}")
        if job["phase"] == "stopped":
            return
        if job["phase"] == "failed" or time.monotonic() > ends_at:
            raise _failed(
                "drizzle", query, f"{job['phase']} after batch {job['batches_done']}: {job['detail']}"
            )
        await asyncio.sleep(POLL_S)


# --- batches --------------------------------------------------------------------------------


async def _batch(engine: str, query: str, data: Input, cores: int) -> Measured:
    """A process of its own, so that threads and memory are as in Drizzle's."""
    arguments = (engine, query, str(data.folder), str(cores))
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
        raise _failed(engine, query, f"still running after {RUN_S_MAX:g} s") from None
    whole_s = time.perf_counter() - started
    if process.returncode:
        raise _failed(engine, query, err.decode(errors="replace")[-500:])
    said = json.loads(out)
    counts = {(name, window): count for name, window, count in said["counts"]}
    return Measured(said["seconds"], whole_s, counts)


def _failed(engine: str, query: str, found: str) -> DrizzleError:
    wanted = f"the query's results within {RUN_S_MAX:g} s"
    return DrizzleError(
        explain(
            f"bench throughput, {query} by {engine}",
            wanted=wanted,
            found=found,
            remedy="Try with fewer --events or --lines.",
        )
    )

"""How much one source process takes: bytes and events a second, per format, size of posts and durability.

Posts of ready-made events of the Yahoo Streaming Benchmark over a few connections, each sent when the one
before is answered, to a source of its own for each setting. No job reads: with durability `batch` only full
segments are forced to the disk, and a job would add one fsync a batch. Client and source share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path

import aiohttp

from drizzle_benchmarks.bodies import CONTENT_TYPES, Posted, bodies
from drizzle_benchmarks.ingest_plots import plot_ingest
from drizzle_benchmarks.numbers import numbers
from drizzle_benchmarks.processes import cpu_s, resident_mib
from drizzle_benchmarks.report import Claim, Report, Row
from drizzle_streams.errors import DrizzleError, UnreachableError, explain
from drizzle_streams.local.cluster import LocalCluster, LocalSettings
from drizzle_streams.local.http import is_ready
from drizzle_streams.local.ports import HOST, free_port
from drizzle_streams.local.process import ServiceProcess
from drizzle_streams.protocol.tokens import TokenKind, credential

NAME = "ingest"
DURABILITIES = ("none", "batch", "always")
POST_EVENTS = (100, 4_000)
STREAM = "ad-events"
BYTES_MAX = 1_500 * 1024 * 1024
"""Of one setting: a measurement ends there, well below the budget of the source's log."""
LOG_BUDGET = "4GiB"
WARM_SHARE = 0.25
"""Of its time, in which connections open and the stream is made."""
POST_TIMEOUT_S = 30.0
READY_S_MAX = 60.0
POLL_S = 0.05
EVENTS_PER_S = 200_000
"""What the live claim asks of all sources together: one alone should take as much."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured by itself."""

    format: str
    durability: str
    post_events: int


@dataclass(slots=True)
class Count:
    """What was answered so far."""

    posts: int = 0
    events: int = 0
    bytes: int = 0

    def add(self, posted: Posted) -> None:
        """One more post."""
        self.posts += 1
        self.events += posted.events
        self.bytes += len(posted.body)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How posts are made, for how long, onto which disk."""
    parser.add_argument(
        "--post-events", type=numbers, default=POST_EVENTS, help="events of a post (100,4000)"
    )
    parser.add_argument("--connections", type=int, default=4, help="posts on their way (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each setting (%(default)s)")
    parser.add_argument(
        "--dir", type=Path, help="where logs are written: on the disk in question (a temporary)"
    )


async def run(arguments: argparse.Namespace) -> Report:
    """Each format, size and durability in turn, each with a source of its own."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-", dir=arguments.dir) as folder:
        async with LocalCluster(LocalSettings(Path(folder), workers=0, sources=0)) as cluster:
            sizes: tuple[int, ...] = arguments.post_events
            for (name, durability), events in product(product(CONTENT_TYPES, DURABILITIES), sizes):
                setting = Setting(name, durability, events)
                rows.append(await _measured(cluster, setting, arguments.connections, arguments.seconds))
    stated = {name: getattr(arguments, name) for name in ("connections", "seconds")}
    return Report(NAME, stated, rows, list(claims(rows)))


def plot(report: Report, path: Path) -> None:
    """Events a second, a bar per format and durability, a picture per size of posts."""
    plot_ingest(report.rows, path)


async def _measured(cluster: LocalCluster, setting: Setting, connections: int, seconds: float) -> Row:
    place = cluster.directory / "ingest"
    source = _source(cluster, place, setting.durability)
    made = bodies(setting.format, setting.post_events)
    await source.start()
    try:
        await _ready(source)
        return await _posted(cluster, source, setting, made, connections, seconds)
    finally:
        await source.stop()
        shutil.rmtree(place, ignore_errors=True)


async def _posted(
    cluster: LocalCluster,
    source: ServiceProcess,
    setting: Setting,
    made: list[Posted],
    connections: int,
    seconds: float,
) -> Row:
    count, pid = Count(), source.pid or 0
    token = credential(cluster.token, TokenKind.INGEST, time.time(), subject=STREAM)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": CONTENT_TYPES[setting.format]}
    async with aiohttp.ClientSession(headers=headers) as session:
        ends_at = time.monotonic() + seconds * (1.0 + WARM_SHARE)
        url = f"{source.address}/streams/{STREAM}/records"
        posting = [
            asyncio.create_task(_post(session, url, made[first:] + made[:first], count, ends_at))
            for first in range(connections)
        ]
        await asyncio.wait(posting, timeout=seconds * WARM_SHARE, return_when=asyncio.FIRST_EXCEPTION)
        before, spent_s, since = Count(count.posts, count.events, count.bytes), cpu_s(pid), time.monotonic()
        await asyncio.gather(*posting)
        took_s, spent_s = time.monotonic() - since, cpu_s(pid) - spent_s
    events, data = count.events - before.events, count.bytes - before.bytes
    return {
        "format": setting.format,
        "durability": setting.durability,
        "post_events": setting.post_events,
        "post_kib": round(len(made[0].body) / 1024.0, 1),
        "events_per_second": round(events / took_s),
        "mb_per_second": round(data / took_s / 1e6, 2),
        "posts_per_second": round((count.posts - before.posts) / took_s, 1),
        "source_cpu_cores": round(spent_s / took_s, 3),
        "events_per_cpu_second": round(events / spent_s) if spent_s else None,
        "resident_mib": round(resident_mib(pid), 1),
    }


async def _post(
    session: aiohttp.ClientSession, url: str, made: list[Posted], count: Count, ends_at: float
) -> None:
    """Post one after the other until the time or the bytes are over. Raises `DrizzleError` when refused."""
    for posted in cycle(made):
        if time.monotonic() >= ends_at or count.bytes >= BYTES_MAX:
            return
        try:
            await _one(session, url, posted)
        except (aiohttp.ClientError, TimeoutError) as error:
            found = str(error) or f"none within {POST_TIMEOUT_S:g} s"
            raise UnreachableError(
                explain(url, wanted="an answer", found=found, remedy="Run it again.")
            ) from error
        count.add(posted)


async def _one(session: aiohttp.ClientSession, url: str, posted: Posted) -> None:
    async with asyncio.timeout(POST_TIMEOUT_S), session.post(url, data=posted.body) as answer:
        if answer.status != 200:
            found = f"{answer.status}: {(await answer.text())[:300]}"
            raise DrizzleError(explain(url, wanted="200", found=found, remedy="Take fewer --seconds."))
        await answer.read()


def _source(cluster: LocalCluster, place: Path, durability: str) -> ServiceProcess:
    port = free_port()
    flags = ("--name", "ingest", "--host", HOST, "--port", str(port), "--coordinator", cluster.address)
    more = ("--data-dir", str(place), "--durability", durability, "--log-budget-bytes", LOG_BUDGET)
    return ServiceProcess(
        name="ingest",
        role="source",
        address=f"http://{HOST}:{port}",
        flags=(*flags, *more),
        environment={"DRIZZLE_TOKEN": cluster.token, "POLARS_MAX_THREADS": "1"},
        log=cluster.directory / "logs" / "ingest.log",
    )


async def _ready(source: ServiceProcess) -> None:
    ends_at = time.monotonic() + READY_S_MAX
    while not await asyncio.to_thread(is_ready, source.address):
        if source.pid is None or time.monotonic() > ends_at:
            found, remedy = source.last_words(), "Run it again, or look at `drizzle source`."
            raise UnreachableError(explain("the source", wanted="ready in time", found=found, remedy=remedy))
        await asyncio.sleep(POLL_S)


def claims(rows: Sequence[Row]) -> Iterator[Claim]:
    """One source takes what the live claim asks of the whole, in every format with the default durability."""
    for name in CONTENT_TYPES:
        found = [
            row["events_per_second"] for row in rows if (row["format"], row["durability"]) == (name, "batch")
        ]
        yield Claim(
            f"one source, {name}, largest of its posts",
            max(found, default=None),
            EVENTS_PER_S,
            "events/s",
            at_least=True,
        )

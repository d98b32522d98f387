"""The whole cluster in one event loop: real services, real transport, a real Redis, the real engine.

The Yahoo Streaming Benchmark in small: views joined to their campaigns, counted per campaign and
10 s window. Whatever is stopped on the way, the counts in Redis must come out exactly.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from redis.asyncio import Redis

import drizzle_streams as dz
from drizzle_streams.api.job import Job
from drizzle_streams.config import CoordinatorServiceSettings, SourceServiceSettings, WorkerServiceSettings
from drizzle_streams.coordinator.service import CoordinatorService
from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.local.redis_config import AppendFsync, RedisConfig
from drizzle_streams.source.service import SourceService
from drizzle_streams.worker.service import WorkerService
from tests.services.service_worlds import STREAM, TOKEN, ask, job_becomes, job_values, running, submit, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

CAMPAIGNS, ADS_EACH = 5, 4
WINDOW_MS = 10_000
BLOCKS, EVENTS_PER_BLOCK = 60, 100
START_MS = 1_700_000_000_000
Counts = dict[tuple[str, int], int]
Mode = Literal["group", "prescheduled", "barrier"]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), config=RedisConfig(AppendFsync.NO))
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def redis(embedded: EmbeddedRedis) -> AsyncIterator[Redis]:
    await embedded.start()
    async with Redis.from_url(embedded.url, decode_responses=True) as client:
        await client.flushall()
        yield client


# --- the stream and its oracle -----------------------------------------------------------------


def ad(number: int) -> str:
    return f"ad-{number:03d}"


def block(number: int) -> list[dict[str, Any]]:
    """Events of block `number`: a function of the number alone, times a little out of order."""
    rng = random.Random(number)
    return [
        {
            "ad_id": ad(rng.randrange(CAMPAIGNS * ADS_EACH + 2)),  # some ads have no campaign
            "event_type": rng.choice(["view", "click", "purchase"]),
            "event_time": START_MS + number * 1_000 + rng.randrange(3_000),
            "user": rng.randrange(1_000),
        }
        for _ in range(EVENTS_PER_BLOCK)
    ]


def expected(blocks: int) -> Counts:
    counts: Counter[tuple[str, int]] = Counter()
    for event in (event for number in range(blocks) for event in block(number)):
        number = int(event["ad_id"][3:])
        if event["event_type"] == "view" and number < CAMPAIGNS * ADS_EACH:
            window = event["event_time"] // WINDOW_MS * WINDOW_MS
            counts[f"campaign-{number // ADS_EACH}", window] += 1
    return dict(counts)


async def counted(redis: Redis) -> Counts:
    found: Counts = {}
    for window in await answer(redis.zrange("ysb:windows", 0, -1)):
        for name in await answer(redis.smembers(f"ysb:window:{window}")):
            clicks = await answer(redis.hget(name, "clicks"))
            found[name.split(":")[1], int(window)] = int(clicks)
    return found


async def answer(reply: Any) -> Any:
    """The client's commands are typed for both of its kinds, with and without a loop."""
    return await reply


def ysb(mode: Mode = "group", checkpoint: str = "300ms") -> Job:
    events = dz.stream(
        STREAM,
        schema={"ad_id": pl.String, "event_type": pl.String, "event_time": pl.Int64},
        event_time="event_time",
        max_delay="120s",
    )
    ads = pl.DataFrame(
        {
            "ad_id": [ad(number) for number in range(CAMPAIGNS * ADS_EACH)],
            "campaign_id": [f"campaign-{number // ADS_EACH}" for number in range(CAMPAIGNS * ADS_EACH)],
        }
    )
    counts = (
        events.filter(pl.col("event_type") == "view")
        .join(dz.table(ads), on="ad_id")
        .window(dz.tumbling("10s"))
        .group_by("campaign_id")
        .agg(clicks=dz.count())
    )
    return counts.to(dz.redis("ysb")).job(
        "ysb",
        batch_interval="50ms",
        scheduling=mode,
        group_size=10,
        checkpoint_interval=checkpoint,
        partitions=4,
    )


# --- the cluster -------------------------------------------------------------------------------


class Cluster:
    """Services by name, each of which can be stopped and started again."""

    def __init__(self, redis_url: str, directory: Path, lease_ms: int = 1_500) -> None:
        self.redis_url = redis_url
        self.directory = directory
        self.lease_ms = lease_ms
        self._lives: dict[str, AsyncExitStack] = {}
        self.services: dict[str, Any] = {}
        self.ports: dict[str, int] = {}

    @property
    def at(self) -> str:
        return self.services["coordinator"].address

    async def start(self, name: str) -> None:
        service = self._make(name)
        stack = self._lives[name] = AsyncExitStack()
        if isinstance(service, WorkerService):
            await stack.enter_async_context(_working(service))
        else:
            await stack.enter_async_context(running(service))
            self.ports[name] = int(service.address.rsplit(":", 1)[1])
        self.services[name] = service

    async def stop(self, name: str) -> None:
        await self._lives.pop(name).aclose()

    async def close(self) -> None:
        for name in reversed(list(self._lives)):
            await self.stop(name)

    def _make(self, name: str) -> Any:
        common: dict[str, Any] = {"token": TOKEN, "port": self.ports.get(name, 0), "name": name}
        common["metrics_public"] = True
        if name == "coordinator":
            settings = CoordinatorServiceSettings(**common, redis_url=self.redis_url, lease_ms=self.lease_ms)
            return CoordinatorService(settings)
        if name.startswith("source"):
            directory = self.directory / name
            return SourceService(SourceServiceSettings(**common, coordinator=self.at, data_dir=directory))
        return WorkerService(WorkerServiceSettings(**common, coordinator=self.at, redis_url=self.redis_url))

    async def post(self, number: int) -> None:
        """Post a block until it is taken, as a producer that numbers its posts does."""
        source = self.services[f"source-{number % 2 + 1}"]
        body = b"".join(json.dumps(event).encode() + b"\n" for event in block(number))
        headers = {
            "Content-Type": "application/x-ndjson",
            "Drizzle-Producer": "test",
            "Drizzle-Sequence": str(number),
        }

        async def taken() -> bool:
            url = f"{source.address}/streams/{STREAM}/records"
            return (await ask("POST", url, body=body, headers=headers)).status == 200

        await until(taken, f"block {number} is taken")


@asynccontextmanager
async def _working(service: WorkerService) -> AsyncIterator[None]:
    stop = asyncio.Event()
    life = asyncio.create_task(service.run(stop))
    try:
        await until(
            lambda: life.done() or (service.life is not None and service.life.started.is_set()),
            "the worker has started",
        )
        yield
    finally:
        stop.set()
        await life


@pytest.fixture
async def cluster(redis: Redis, embedded: EmbeddedRedis, tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(embedded.url, tmp_path)
    try:
        for name in ("coordinator", "source-1", "source-2", "worker-1", "worker-2"):
            await cluster.start(name)

        async def complete() -> bool:
            status = (await ask("GET", f"{cluster.at}/status")).json
            return len(status["workers"]) == len(status["sources"]) == 2

        await until(complete, "everybody is a member")
        yield cluster
    finally:
        await cluster.close()


async def counts_come_out(cluster: Cluster, redis: Redis, blocks: int = BLOCKS) -> None:
    """The counts in Redis become what they must be, and stay so."""
    wanted = expected(blocks)

    async def exact() -> bool:
        return await counted(redis) == wanted

    try:
        await until(exact, "the counts are exact")
    except AssertionError:
        found, job = await counted(redis), await job_values(cluster.at, "ysb")
        raise AssertionError(f"{sum(found.values())} of {sum(wanted.values())}; the job is {job}") from None
    batches = (await job_values(cluster.at, "ysb"))["batches_done"]
    await job_becomes(cluster.at, lambda v: v["batches_done"] > batches + 20, "goes on", "ysb")
    assert await counted(redis) == wanted, "nothing is counted twice"


async def run_with(cluster: Cluster, redis: Redis, disturb: Callable[[int], Any]) -> None:
    """Submit, post all blocks with a disturbance on the way, and compare."""
    assert (await submit(cluster.at, ysb().to_bytes())).status == 201
    for number in range(BLOCKS):
        await cluster.post(number)
        await asyncio.sleep(0.02)  # so that the blocks spread over many batches
        await disturb(number)
    await counts_come_out(cluster, redis)


# --- the tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["group", "prescheduled", "barrier"])
async def test_counts_are_exact(cluster, redis, mode):
    assert (await submit(cluster.at, ysb(mode).to_bytes())).status == 201
    for number in range(BLOCKS):
        await cluster.post(number)
        await asyncio.sleep(0.01)
    await counts_come_out(cluster, redis)
    values = await job_values(cluster.at, "ysb")
    assert values["scheduling"] == mode
    assert values["checkpoint"]["batch"] > 0
    assert values["recoveries"] == []
    assert len(values["placement"]) == 2
    assert values["batch_latency_ms"]["all"]["count"] > 20

    assert (await ask("DELETE", f"{cluster.at}/jobs/ysb")).status == 202
    await job_becomes(cluster.at, lambda v: v["phase"] == "stopped", "stops", "ysb")

    async def gone() -> bool:
        left = [key async for key in redis.scan_iter("drizzle:snapshot:parts:*")]
        return not left

    await until(gone, "no snapshot is left of a job that ended")
    assert await counted(redis) == expected(BLOCKS)


async def test_counts_are_exact_when_a_worker_goes_and_comes_back(cluster, redis):
    async def disturb(number: int) -> None:
        if number == 20:
            await cluster.stop("worker-1")
        if number == 45:
            await cluster.start("worker-1")

    await run_with(cluster, redis, disturb)
    assert (await job_values(cluster.at, "ysb"))["recoveries"]


async def test_counts_are_exact_when_the_coordinator_restarts(cluster, redis):
    async def disturb(number: int) -> None:
        if number == 20:
            await cluster.stop("coordinator")
        if number == 40:
            await cluster.start("coordinator")

    await run_with(cluster, redis, disturb)
    values = await job_values(cluster.at, "ysb")
    assert values["generation"] > int(values["run"].split("@")[1])


async def test_counts_are_exact_when_a_source_restarts(cluster, redis):
    async def disturb(number: int) -> None:
        if number == 21:
            await cluster.stop("source-1")
            await asyncio.sleep(0.5)
            await cluster.start("source-1")

    await run_with(cluster, redis, disturb)


async def test_counts_are_exact_when_redis_is_killed(cluster, redis, embedded):
    async def disturb(number: int) -> None:
        if number == 20:
            await embedded.kill()
            await asyncio.sleep(0.5)
            await embedded.start()
            await redis.connection_pool.disconnect()

    await run_with(cluster, redis, disturb)


async def test_a_failing_program_fails_its_job_with_the_users_traceback(cluster):
    def broken(_: pl.Series) -> pl.Series:
        raise ValueError("the user's own mistake")

    events = dz.stream(STREAM, schema={"ad_id": pl.String, "n": pl.Int64})
    mapped = events.with_columns(
        m=pl.col("n").map_batches(broken, return_dtype=pl.Int64, is_elementwise=True)
    )
    job = mapped.group_by("ad_id").agg(total=dz.sum("m")).to(dz.redis("broken")).job("broken")
    assert (await submit(cluster.at, job.to_bytes())).status == 201
    await job_becomes(cluster.at, lambda v: v["phase"] == "running", "runs", "broken")
    body = b'{"ad_id":"a","n":1}\n'
    headers = {"Content-Type": "application/x-ndjson"}
    url = f"{cluster.services['source-1'].address}/streams/{STREAM}/records"
    assert (await ask("POST", url, body=body, headers=headers)).status == 200
    values = await job_becomes(cluster.at, lambda v: v["phase"] == "failed", "fails", "broken")
    assert "the user's own mistake" in values["detail"]
    assert "broken" in values["detail"]
    status = (await ask("GET", f"{cluster.at}/status")).json
    assert len(status["workers"]) == 2, "a user's failure never takes a worker along"

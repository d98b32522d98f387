"""Worker services with everything real around them, in one process: machines, sources, coordinator, HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

import drizzle_streams as dz
from drizzle_streams.api.settings import SchedulingMode
from drizzle_streams.config import SourceServiceSettings, WorkerServiceSettings
from drizzle_streams.connectors.memory import MemoryResults, memory
from drizzle_streams.coordinator.service import CoordinatorService
from drizzle_streams.source.service import SourceService
from drizzle_streams.stores.memory import MemorySnapshotStore
from drizzle_streams.worker.service import WorkerService
from tests.services import service_worlds
from tests.services.service_worlds import TOKEN, ask, coordinator_on, running, submit
from tests.worker.worker_worlds import STREAM, Letters, Row, latest, ndjson, sums_of, until

BATCHES_PER_CHECKPOINT = 5
LEASE_MS = 10_000
"""Longer than a busy machine stalls: who is gone here is told of by its supervisor (law 6)."""


@dataclass
class Cluster:
    """A coordinator, two sources, and workers that come and go."""

    directory: Path
    closing: AsyncExitStack
    group_size: int = BATCHES_PER_CHECKPOINT
    snapshots: MemorySnapshotStore = field(default_factory=MemorySnapshotStore)
    results: MemoryResults = field(default_factory=MemoryResults)
    sources: list[SourceService] = field(default_factory=list)
    workers: dict[WorkerService, asyncio.Task[None]] = field(default_factory=dict)
    stops: dict[WorkerService, asyncio.Event] = field(default_factory=dict)
    posted: list[Row] = field(default_factory=list)
    coordinator: CoordinatorService | None = None

    @property
    def address(self) -> str:
        assert self.coordinator is not None
        return self.coordinator.address

    async def start(self) -> None:
        self.coordinator = coordinator_on(snapshots=self.snapshots, lease_ms=LEASE_MS)
        await self.closing.enter_async_context(running(self.coordinator))
        for number in range(2):
            settings = SourceServiceSettings(
                token=TOKEN,
                port=0,
                name=f"source-{number}",
                coordinator=self.address,
                data_dir=self.directory / f"source-{number}",
            )
            source = SourceService(settings)
            await self.closing.enter_async_context(running(source))
            self.sources.append(source)
        # A stream is laid out over the sources that are there when its job comes.
        await service_worlds.until(self._both_joined, "both sources are members")

    async def _both_joined(self) -> bool:
        status = await ask("GET", f"{self.address}/status")
        return len(status.json["sources"]) == len(self.sources)

    async def worker(self) -> WorkerService:
        """Another worker that has been welcomed."""
        settings = WorkerServiceSettings(
            token=TOKEN, name=f"worker-{len(self.workers)}", coordinator=self.address
        )
        service = WorkerService(settings, snapshots=self.snapshots, link=Letters())
        stop = self.stops[service] = asyncio.Event()
        self.workers[service] = asyncio.create_task(service.run(stop))
        self.closing.push_async_callback(self.kill, service)
        await until(
            lambda: service.life is not None and service.life.watching.not_ready() is None, "it is welcomed"
        )
        return service

    async def kill(self, service: WorkerService) -> None:
        """Gone without a word; whatever ended it before is raised."""
        task = self.workers[service]
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
        assert service.life is not None
        await ask("POST", f"{self.address}/nodes/{service.life.worker}/exited")

    async def submit(self, scheduling: SchedulingMode = "group") -> None:
        clicks = dz.stream(
            STREAM,
            schema={"key": pl.String, "value": pl.Int64, "at": pl.Int64},
            event_time="at",
            max_delay="1h",
        )
        sums = (
            clicks.filter(pl.col("value") > 0)
            .window(dz.tumbling("1s"))
            .group_by("key")
            .agg(n=dz.count(), total=dz.sum("value"))
        )
        job = sums.to(memory(self.results)).job(
            "counts",
            batch_interval="20ms",
            group_size=self.group_size,
            checkpoint_interval=f"{20 * BATCHES_PER_CHECKPOINT}ms",
            partitions=4,
            scheduling=scheduling,
        )
        answer = await submit(self.address, job.to_bytes())
        assert answer.status == 201, answer.body

    async def post(self, number: int, posts: int = 4) -> None:
        """Records to both sources."""
        for post in range(posts):
            for source in self.sources:
                rows = rows_of(number * 100 + post * 10 + self.sources.index(source))
                headers = {"Content-Type": "application/x-ndjson"}
                url = f"{source.address}/streams/{STREAM}/records"
                answer = await ask("POST", url, body=ndjson(rows), headers=headers)
                assert answer.status == 200, answer.body
                self.posted += rows

    async def is_exact(self) -> None:
        """Every window has just what was posted."""
        await until(self._settled, "the results are those of the oracle")
        assert latest(self.results) == sums_of(self.posted)

    def _settled(self) -> bool:
        for task in self.workers.values():
            if task.done() and not task.cancelled():
                task.result()
        return latest(self.results) == sums_of(self.posted)


def rows_of(seed: int, count: int = 50) -> list[Row]:
    return [(f"key-{(seed + i) % 17}", (seed + i * 3) % 7, 1_000_000 + 211 * i) for i in range(count)]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as closing:
        found = Cluster(tmp_path, closing)
        await found.start()
        yield found


@pytest.mark.parametrize("scheduling", ["group", "prescheduled", "barrier"])
async def test_results_are_exact_in_every_mode(cluster: Cluster, scheduling: SchedulingMode) -> None:
    await cluster.worker()
    await cluster.worker()
    await cluster.submit(scheduling)
    for number in range(3):
        await cluster.post(number)
    await cluster.is_exact()


async def test_a_worker_that_vanishes_takes_nothing_along(cluster: Cluster) -> None:
    one, two = await cluster.worker(), await cluster.worker()
    await cluster.submit()
    await cluster.post(1)
    await cluster.is_exact()
    await cluster.post(2)
    await cluster.kill(two)
    await cluster.post(3)
    await cluster.is_exact()
    assert one.lives == 1
    three = await cluster.worker()
    await cluster.post(4)
    await cluster.is_exact()
    await until(lambda: holds(three) > 0, "the new worker is given partitions")
    await cluster.kill(one)
    await cluster.post(5)
    await cluster.is_exact()


async def test_what_a_worker_holds_stays_flat(cluster: Cluster) -> None:
    workers = [await cluster.worker(), await cluster.worker()]
    await cluster.submit()
    await cluster.post(1)
    await cluster.is_exact()
    lives = [worker.life for worker in workers]
    for batch in (5 * BATCHES_PER_CHECKPOINT, 15 * BATCHES_PER_CHECKPOINT):
        await until(lambda batch=batch: computed(workers[0]) >= batch, "batches are computed")
        for life in lives:
            assert life is not None
            # A checkpoint is committed a while after its batch; until then its blocks stay.
            assert life.bench.blocks.blocks <= 8 * BATCHES_PER_CHECKPOINT
            assert life.bench.fragments.fragments <= 8 * BATCHES_PER_CHECKPOINT
            outputs = [c.outputs for job in life.performer.jobs.values() for c in job.cohorts.values()]
            assert sum(map(len, outputs)) <= BATCHES_PER_CHECKPOINT
    assert len(cluster.snapshots.parts) < 200


def holds(service: WorkerService) -> int:
    """Partitions on a worker, of all stages."""
    assert service.life is not None
    jobs = service.life.role.jobs.values()
    return sum(len(cohort.partitions) for job in jobs for cohort in job.cohorts.values())


def computed(service: WorkerService) -> int:
    """The last batch of the last stage."""
    assert service.life is not None
    jobs = service.life.role.jobs.values()
    return max((cohort.done for job in jobs for cohort in job.cohorts.values() if cohort.stage), default=-1)

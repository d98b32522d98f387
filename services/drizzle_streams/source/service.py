"""The source as a process: logs on a disk, doors for records and for workers, one machine.

The order of a start: make the directory ours, recover logs and bounds, listen, and tell the
machine what was sealed before it says its first word. Records are taken as soon as it listens;
it is ready when the coordinator has welcomed it.

    run_service(lambda stop: run_source(settings, stop))
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version

from aiohttp import web
from prometheus_client import CollectorRegistry

from drizzle_streams.config import SourceServiceSettings
from drizzle_streams.core.node import Node
from drizzle_streams.core.source import Source, SourceSettings
from drizzle_streams.core.story import Story
from drizzle_streams.model.ids import NodeId, SourceId
from drizzle_streams.runtime.clock import ClusterClock
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.runtime.leader import LeaderWatch
from drizzle_streams.runtime.supervisor import Supervisor
from drizzle_streams.source import identity
from drizzle_streams.source.durability import Durability
from drizzle_streams.source.ingest import Ingest
from drizzle_streams.source.log import LogSettings
from drizzle_streams.source.performer import SourcePerformer
from drizzle_streams.source.runs import Reading, Runs
from drizzle_streams.source.serving import Serving
from drizzle_streams.source.streams import Streams
from drizzle_streams.source.watch import Watch
from drizzle_streams.telemetry.exposition import health_route, metrics_route, ready_route, story_route
from drizzle_streams.telemetry.lag import LoopLag
from drizzle_streams.telemetry.metrics import RuntimeMetrics, SourceMetrics
from drizzle_streams.transport.auth import METRICS, USER
from drizzle_streams.transport.http import HttpTransport
from drizzle_streams.transport.http_server import HttpServer

log = logging.getLogger("drizzle.source")


async def run_source(settings: SourceServiceSettings, stop: asyncio.Event | None = None) -> None:
    """Serve until `stop` is set. Raises `ConfigError` when it cannot start, `StoreError` at its end."""
    await SourceService(settings).run(stop or asyncio.Event())


@dataclass(frozen=True, slots=True)
class _Disk:
    """What was found on the disk, open."""

    streams: Streams
    runs: Runs
    recovered: list[Reading]


class SourceService:
    """One life of a source."""

    def __init__(self, settings: SourceServiceSettings) -> None:
        self.settings = settings
        self.started = asyncio.Event()
        """Set once it listens and its machine runs."""
        self.story = Story()
        self._clock = ClusterClock()
        self._registry = CollectorRegistry()
        self._server = HttpServer(
            settings.host,
            settings.port,
            settings.token,
            advertise_host=settings.advertise_host or None,
            tls=settings.tls,
        )
        node = NodeId(settings.name)
        self._transport = HttpTransport(node, self._server, settings.token)
        self._role = Source(SourceSettings(SourceId(node), "", settings.partitions))
        self._node = Node(node, int(self._clock.now() * 1000), self._role)

    @property
    def address(self) -> str:
        """Where it answers, once started."""
        return self._server.address

    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop` is set; raises what it could not live with."""
        async with AsyncExitStack() as closing, Supervisor() as tasks:
            disk = await self._open_disk(closing, tasks.fail)
            self._recover(disk.recovered)
            tokens = dict(self.settings.ingest_tokens)
            ingest = Ingest(disk.streams, tokens=tokens, wait_s=partial(self._wait_s, disk.runs))
            watch = Watch(SourceMetrics(self._registry), disk.streams, disk.runs, ingest)
            performer = SourcePerformer(
                disk.runs, tell=self._tell, on_sealed=watch.sealed, on_failure=tasks.fail
            )
            driver = Driver(self._node, self._clock, self._transport, performer, punctual=True)
            performer.post = driver.post
            leader = LeaderWatch(self.settings.coordinators, driver)
            lag = self._measure(driver, performer)
            self._add_doors(disk.streams, ingest, watch, lag)
            self._transport.on_failure = tasks.fail
            closing.push_async_callback(performer.close)
            closing.push_async_callback(self._transport.close)
            await self._transport.start()
            self._role.settings = replace(self._role.settings, address=self.address)
            tasks.start(lag.run(), "loop lag")
            tasks.start(leader.run(), "leader watch")
            tasks.start(driver.run(), "driver")
            self.started.set()
            log.info("serving", extra={"address": self.address, "partitions": self.settings.partitions})
            await tasks.until(stop)

    async def _open_disk(self, closing: AsyncExitStack, fail: Callable[[BaseException], None]) -> _Disk:
        settings = self.settings
        streams = await Streams.open(
            settings.data_dir,
            LogSettings(
                partitions=settings.partitions,
                durability=Durability(settings.durability),
                budget_bytes=settings.log_budget_bytes,
                segment_bytes=settings.log_segment_bytes,
                cache_bytes=settings.log_cache_bytes,
            ),
            on_appended=_unwatched,
            on_failure=fail,
        )
        closing.push_async_callback(streams.close)
        await asyncio.to_thread(identity.claim, settings.data_dir, settings.name)
        identity.check_partitions(streams, settings.partitions)
        runs = Runs(streams)
        closing.push_async_callback(runs.close)
        return _Disk(streams, runs, await runs.recover())

    def _recover(self, recovered: list[Reading]) -> None:
        """Let the machine know what was sealed before."""
        now = self._clock.now()
        for reading in recovered:
            key, bounds = reading.key, reading.bounds.bounds
            self._role.recover(key.job, key.born, key.stage, bounds, now)
            self._tell(
                "RunRecovered", f"{key.name}: batches {bounds[0].batch} to {bounds[-1].batch}", key.job
            )

    def _add_doors(self, streams: Streams, ingest: Ingest, watch: Watch, lag: LoopLag) -> None:
        add = self._server.add_routes
        posts = [web.RouteDef(r.method, r.path, watch.around(r.handler), r.kwargs) for r in ingest.routes()]
        add(posts, auth=ingest.auth)
        serving = Serving(streams)
        add(serving.routes())
        story = story_route(lambda: (asdict(line) for line in self.story.lines))
        add([serving.list_route(), story], auth=USER)
        add([health_route(lag), ready_route(self._unready)], public=True)
        metrics = metrics_route(self._registry, watch.refresh)
        add([metrics], auth=METRICS, public=self.settings.metrics_public)

    def _measure(self, driver: Driver, performer: SourcePerformer) -> LoopLag:
        """What every service shows of its loop, links and queues."""
        runtime = RuntimeMetrics(
            self._registry, service="source", node=self.settings.name, version=version("drizzle-streams")
        )
        lag = LoopLag(runtime.loop_lag_seconds.observe)
        runtime.read_loop(lambda: lag.worst)
        runtime.read_messages(
            lambda: driver.messages_sent,
            lambda: driver.messages_received,
            lambda: {
                "undecodable": driver.frames_refused,
                "queue_full": driver.frames_dropped,
                "stale": self._role.refused,
            },
            lambda: driver.repeats_sent,
        )
        runtime.read_transport(self._transport)
        runtime.read_queues(lambda: {"disk_work": performer.waiting})
        return lag

    def _wait_s(self, runs: Runs, stream: str) -> int | None:
        """How long producers of a stream must wait for the slowest job that reads it; None: not at all."""
        waits: list[int] = []
        for reading in runs:
            job = self._role.jobs.get(reading.key.job)
            known = None if job is None else job.readings.get(reading.key.stage)
            posted = reading.key.stream == stream and reading.key.chunks is None
            if posted and known is not None:
                wait_s = known.capacity.retry_after_s(reading.backlog, self.settings.backlog_s_max)
                waits += [] if wait_s is None else [wait_s]
        return max(waits, default=None)

    def _unready(self) -> str | None:
        if not self._role.welcomed:
            return f"the coordinator at {self.settings.coordinator} has not welcomed it yet"
        return None

    def _tell(self, kind: str, text: str, job: str) -> None:
        self.story.tell(self._clock.now(), kind, text, job)


def _unwatched(stream: str, partition: int, end: int) -> None:
    """Batches are sealed by the clock, not by what comes in."""

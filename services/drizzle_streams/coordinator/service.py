"""The coordinator as a process: stores, doors, one machine and its driver.

The order of a start: open the stores, take the lead, fence every earlier life out by raising
the generation, read what it left, and only then listen. A ledger that may not be trusted any
more (a write that failed, a successor's fence) ends the process: the next life reads the ledger.

    run_service(lambda stop: run_coordinator(settings, stop))
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry

from drizzle_streams.config import CoordinatorServiceSettings
from drizzle_streams.coordinator.chores import Chores, Clear
from drizzle_streams.coordinator.leadership import Leadership
from drizzle_streams.coordinator.memory import Memory, Remembered
from drizzle_streams.coordinator.performer import CoordinatorPerformer
from drizzle_streams.coordinator.programs import Programs
from drizzle_streams.coordinator.routes import Doors
from drizzle_streams.coordinator.stopwatch import Stopwatch
from drizzle_streams.coordinator.watch import Watch
from drizzle_streams.core.coordinator import Coordinator, CoordinatorSettings
from drizzle_streams.core.coordinator_job import ACTIVE
from drizzle_streams.core.node import Node
from drizzle_streams.errors import ConfigError, CorruptError, StoreError
from drizzle_streams.model.ids import COORDINATOR, JobId
from drizzle_streams.protocol.jobfile import JOB_BYTES_MAX
from drizzle_streams.runtime.clock import ClusterClock
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.runtime.supervisor import Supervisor
from drizzle_streams.stores.base import Ledger, SnapshotStore
from drizzle_streams.stores.redis import RedisLedger, RedisSnapshotStore
from drizzle_streams.telemetry.exposition import health_route, metrics_route, ready_route, story_route
from drizzle_streams.telemetry.lag import LoopLag
from drizzle_streams.telemetry.metrics import CoordinatorMetrics, RuntimeMetrics
from drizzle_streams.transport.auth import METRICS, USER
from drizzle_streams.transport.http import HttpTransport
from drizzle_streams.transport.http_server import HttpServer, ServerLimits

log = logging.getLogger("drizzle.coordinator")


async def run_coordinator(settings: CoordinatorServiceSettings, stop: asyncio.Event | None = None) -> None:
    """Coordinate until `stop` is set. Raises `ConfigError` when it cannot start, `StoreError` at its end."""
    await CoordinatorService(settings).run(stop or asyncio.Event())


@dataclass(frozen=True, slots=True)
class _Life:
    """The parts of a leading coordinator."""

    role: Coordinator
    memory: Memory
    programs: Programs
    stopwatch: Stopwatch
    chores: Chores
    driver: Driver
    lag: LoopLag


class CoordinatorService:
    """One life of a coordinator. Without stores of the caller's, the settings' Redis is used."""

    def __init__(
        self,
        settings: CoordinatorServiceSettings,
        *,
        ledger: Ledger | None = None,
        snapshots: SnapshotStore | None = None,
    ) -> None:
        self.settings = settings
        self.started = asyncio.Event()
        """Set once it listens and its machine runs."""
        self._clock = ClusterClock()
        self._ledger = ledger or RedisLedger(settings.redis_url, namespace=settings.namespace)
        self._snapshots = snapshots or RedisSnapshotStore(settings.redis_url, namespace=settings.namespace)
        self._registry = CollectorRegistry()
        self._server = HttpServer(
            settings.host,
            settings.port,
            settings.token,
            advertise_host=settings.advertise_host or None,
            tls=settings.tls,
            limits=ServerLimits(body_bytes_max=JOB_BYTES_MAX),
        )
        self._transport = HttpTransport(COORDINATOR, self._server, settings.token)

    @property
    def address(self) -> str:
        """Where it answers, once started."""
        return self._server.address

    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop` is set; raises what it could not live with."""
        try:
            async with AsyncExitStack() as closing:
                await self._open_stores(closing)
                leadership = Leadership(self._ledger, self.settings.name, self.settings.leader_lease_ms)
                if await leadership.take() or await self._stand_by(leadership, stop):
                    await self._lead(leadership, closing, stop)
                    await leadership.let_go()
        except StoreError as error:
            log.critical("the coordinator ends: its ledger failed it", extra={"reason": str(error)})
            raise

    async def _open_stores(self, closing: AsyncExitStack) -> None:
        for store in (self._ledger, self._snapshots):
            closing.push_async_callback(store.close)
            try:
                await store.open()
            except CorruptError:
                raise
            except StoreError as error:
                raise ConfigError(str(error)) from error

    async def _stand_by(self, leadership: Leadership, stop: asyncio.Event) -> bool:
        """Wait for the lead, alive but not ready; False if asked to stop before."""
        settings = self.settings
        lag = LoopLag(lambda _: None)
        server = HttpServer(settings.host, settings.port, settings.token, tls=settings.tls)
        doors = [health_route(lag), ready_route(lambda: "standing by: another coordinator leads")]
        server.add_routes(doors, public=True)
        async with AsyncExitStack() as closing, Supervisor() as tasks:
            closing.push_async_callback(server.close)
            await server.start()
            tasks.start(lag.run(), "loop lag")
            return await leadership.wait(stop)

    async def _lead(self, leadership: Leadership, closing: AsyncExitStack, stop: asyncio.Event) -> None:
        memory = Memory(self._ledger)
        life = self._begin(memory, await memory.begin())
        await life.programs.sweep()
        for job in life.role.jobs.values():
            if job.phase not in ACTIVE and job.spec.born:  # its end may have been cut short
                life.chores.add(Clear(JobId(job.spec.run), memory.generation))
        async with Supervisor() as tasks:
            self._transport.on_failure = tasks.fail
            self._add_doors(life, tasks)
            await self._transport.start()
            closing.push_async_callback(self._transport.close)
            tasks.start(leadership.keep(), "leadership")
            tasks.start(life.chores.run(), "snapshot chores")
            tasks.start(life.lag.run(), "loop lag")
            tasks.start(life.driver.run(), "driver")
            self.started.set()
            log.info("coordinating", extra={"address": self.address, "generation": memory.generation})
            await tasks.until(stop)

    def _begin(self, memory: Memory, left: Remembered) -> _Life:
        """The machine with what an earlier life left, and all that surrounds it."""
        now = self._clock.now()
        settings = CoordinatorSettings(lease_s=self.settings.lease_ms / 1000.0)
        role = Coordinator(settings, memory.generation, left.records, now)
        node = Node(COORDINATOR, int(now * 1000), role)
        stopwatch = Stopwatch(node)

        def active(name: JobId) -> bool:
            return (job := role.jobs.get(name)) is not None and job.phase in ACTIVE

        programs = Programs(memory, left.programs, active)
        chores = Chores(self._snapshots)
        performer = CoordinatorPerformer(memory, chores, programs, role.jobs.get)
        driver = Driver(stopwatch, self._clock, self._transport, performer, memory.persist)
        performer.post = driver.post
        lag = self._measure(node, driver, chores)
        return _Life(role, memory, programs, stopwatch, chores, driver, lag)

    def _measure(self, node: Node, driver: Driver, chores: Chores) -> LoopLag:
        """What every service shows of its loop, links and queues."""
        runtime = RuntimeMetrics(
            self._registry,
            service="coordinator",
            node=self.settings.name,
            version=version("drizzle-streams"),
        )
        lag = LoopLag(runtime.loop_lag_seconds.observe)
        runtime.read_loop(lambda: lag.worst)
        runtime.read_messages(
            lambda: driver.messages_sent,
            lambda: driver.messages_received,
            lambda: {"undecodable": driver.frames_refused, "queue_full": driver.frames_dropped},
            lambda: node.outbox.resent,
        )
        runtime.read_transport(self._transport)
        runtime.read_queues(lambda: {"snapshot_chores": len(chores)})
        return lag

    def _add_doors(self, life: _Life, tasks: Supervisor) -> None:
        role, driver, now = life.role, life.driver, self._clock.now
        watch = Watch(CoordinatorMetrics(self._registry), role, life.stopwatch, now)
        life.memory.watch(watch.persisted)
        doors = Doors(
            role,
            life.memory,
            life.programs,
            life.stopwatch,
            post=driver.post,
            fail=tasks.fail,
            now=now,
        )
        add = self._server.add_routes
        add(doors.routes(), auth=USER)
        add(doors.service_routes())
        add([story_route(lambda: (asdict(line) for line in role.story.lines))], auth=USER)
        add([health_route(life.lag), ready_route(lambda: None)], public=True)
        metrics = metrics_route(self._registry, watch.refresh)
        add([metrics], auth=METRICS, public=self.settings.metrics_public)

"""The coordinator as a process: stores that outlive a life, and standing by and leading in turn.

It stands by until the lease is its own, then leads until it is asked to stop or finds that another
one leads: then it is not at fault, it was slow, stopped or cut off, and stands by again. A ledger
that may not be trusted any more (a write that failed) ends the process: the next one reads it.

    run_service(lambda stop: run_coordinator(settings, stop))
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from importlib.metadata import version

from prometheus_client import CollectorRegistry

from drizzle_streams.config import CoordinatorServiceSettings
from drizzle_streams.coordinator.announcing import Announcer
from drizzle_streams.coordinator.console import add_standby_console
from drizzle_streams.coordinator.lead_watch import watch_leadership
from drizzle_streams.coordinator.leadership import Leadership
from drizzle_streams.coordinator.life import Life
from drizzle_streams.coordinator.memory import Memory
from drizzle_streams.coordinator.outage import LedgerOutage
from drizzle_streams.errors import ConfigError, CorruptError, FencedError, StoreError
from drizzle_streams.protocol.jobfile import JOB_BYTES_MAX
from drizzle_streams.runtime.clock import ClusterClock
from drizzle_streams.runtime.supervisor import Supervisor
from drizzle_streams.stores.base import Ledger, SnapshotStore
from drizzle_streams.stores.redis import RedisLedger, RedisSnapshotStore
from drizzle_streams.stores.redis_link import Patience
from drizzle_streams.telemetry.exposition import health_route, metrics_route, ready_route
from drizzle_streams.telemetry.lag import LoopLag
from drizzle_streams.telemetry.metrics import RuntimeMetrics
from drizzle_streams.transport.auth import METRICS, USER
from drizzle_streams.transport.http_server import HttpServer, ServerLimits

log = logging.getLogger("drizzle.coordinator")


async def run_coordinator(settings: CoordinatorServiceSettings, stop: asyncio.Event | None = None) -> None:
    """Coordinate until `stop` is set. Raises `ConfigError` when it cannot start, `StoreError` at its end."""
    await CoordinatorService(settings).run(stop or asyncio.Event())


class CoordinatorService:
    """A coordinator process. Without stores of the caller's, the settings' Redis is used."""

    def __init__(
        self,
        settings: CoordinatorServiceSettings,
        *,
        ledger: Ledger | None = None,
        snapshots: SnapshotStore | None = None,
    ) -> None:
        self.settings = settings
        self.started = asyncio.Event()
        """Set once it has led: it listened and its machine ran."""
        self.address = ""
        """Where it answers, once it stands by or leads."""
        self._clock = ClusterClock()
        self._outage = LedgerOutage(self._clock.now)
        patience = Patience(settings.outage_s_max, self._outage.away, self._outage.back)
        self._ledger = ledger or RedisLedger(
            settings.redis_url, namespace=settings.namespace, patience=patience
        )
        self._snapshots = snapshots or RedisSnapshotStore(settings.redis_url, namespace=settings.namespace)
        self._port = settings.port
        self._announcer = Announcer()
        self.leadership = Leadership(
            self._ledger,
            settings.name,
            settings.leader_lease_ms,
            standby=settings.standby,
            on_lease=self._announcer.tell,
        )
        self._announcer.leads = lambda: self.leadership.leads

    async def run(self, stop: asyncio.Event) -> None:
        """Live until `stop` is set; raises what it could not live with."""
        try:
            async with AsyncExitStack() as closing:
                await self._open_stores(closing)
                while not stop.is_set():
                    life = await self._stand_by(stop)
                    if life is not None:
                        await self._lead(life, stop)
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

    def _server(self) -> HttpServer:
        """A server where the one before it was."""
        settings = self.settings
        return HttpServer(
            settings.host,
            self._port,
            settings.token,
            advertise_host=settings.advertise_host or None,
            tls=settings.tls,
            limits=ServerLimits(body_bytes_max=JOB_BYTES_MAX),
        )

    async def _stand_by(self, stop: asyncio.Event) -> Life | None:
        """Wait for the lead, alive but not ready; None if asked to stop before, or another was quicker."""
        server = self._server()
        lag = self._add_doors(server)
        async with AsyncExitStack() as closing, Supervisor() as tasks:
            await server.start()
            closing.push_async_callback(server.close)
            closing.callback(self._announcer.end)
            self._announcer.begin()
            self._port = server.port
            self.address = self.leadership.address = self._announcer.address = server.address
            tasks.start(lag.run(), "loop lag")
            if not await self._led(stop):
                return None
            return await self._begin()

    async def _led(self, stop: asyncio.Event) -> bool:
        """Whether we lead, in the end. A ledger that is away keeps nobody from being stopped."""
        waiting = asyncio.create_task(self.leadership.wait(stop))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
            return waiting.done() and await waiting
        finally:
            for task in (waiting, stopping):
                task.cancel()
            await asyncio.gather(waiting, stopping, return_exceptions=True)

    async def _begin(self) -> Life | None:
        """Fence every earlier life out and read what it left, while the doors still say who leads."""
        memory = Memory(self._ledger, self.settings.name)
        try:
            left = await memory.begin()
        except FencedError as error:
            self._lost(error)
            return None
        return Life(
            self.settings,
            self._clock,
            leadership=self.leadership,
            announcer=self._announcer,
            memory=memory,
            left=left,
            snapshots=self._snapshots,
            outage=self._outage,
        )

    async def _lead(self, life: Life, stop: asyncio.Event) -> None:
        self._announcer.begin()
        try:
            await life.run(self._server(), stop, self.started.set)
        except FencedError as error:
            self._lost(error)
        else:
            await self.leadership.let_go()

    def _lost(self, error: FencedError) -> None:
        self.leadership.lose()
        log.warning("another coordinator leads: this one stands by", extra={"reason": str(error)})

    def _add_doors(self, server: HttpServer) -> LoopLag:
        """What a standby answers."""
        registry = CollectorRegistry()
        runtime = RuntimeMetrics(
            registry, service="coordinator", node=self.settings.name, version=version("drizzle-streams")
        )
        lag = LoopLag(runtime.loop_lag_seconds.observe)
        runtime.read_loop(lambda: lag.worst)
        watch_leadership(registry, self.leadership, self._outage)
        doors = [health_route(lag), ready_route(lambda: "standing by: another coordinator leads")]
        server.add_routes(doors, public=True)
        server.add_routes([metrics_route(registry)], auth=METRICS, public=self.settings.metrics_public)
        add_standby_console(server, lambda: self._announcer.answer.leader)
        server.add_routes([self._announcer.route(), self._announcer.elsewhere()], auth=USER)
        return lag

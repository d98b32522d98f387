"""One term of leadership: a machine, its driver and its doors, from taking the lead to losing it.

The order of a start: fence every earlier life out by raising the generation, read what it left,
and only then listen. Nothing of a life is used by the next one, so all of it goes with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict
from importlib.metadata import version

from prometheus_client import CollectorRegistry

from drizzle_streams.config import CoordinatorServiceSettings
from drizzle_streams.coordinator.announcing import Announcer
from drizzle_streams.coordinator.chores import Chores, Clear
from drizzle_streams.coordinator.console import add_console
from drizzle_streams.coordinator.console_feed import Feed
from drizzle_streams.coordinator.console_reports import Reports
from drizzle_streams.coordinator.console_view import Leader, View
from drizzle_streams.coordinator.lead_watch import watch_leadership
from drizzle_streams.coordinator.leadership import Leadership
from drizzle_streams.coordinator.memory import Memory, Remembered
from drizzle_streams.coordinator.outage import LedgerOutage
from drizzle_streams.coordinator.performer import CoordinatorPerformer
from drizzle_streams.coordinator.programs import Programs
from drizzle_streams.coordinator.routes import Doors
from drizzle_streams.coordinator.silence import LeadersTransport
from drizzle_streams.coordinator.stopwatch import Stopwatch
from drizzle_streams.coordinator.watch import Watch
from drizzle_streams.core.coordinator import Coordinator, CoordinatorSettings
from drizzle_streams.core.coordinator_standing import ACTIVE
from drizzle_streams.core.node import Node
from drizzle_streams.model.ids import COORDINATOR, JobId
from drizzle_streams.protocol.tokens import Keyring
from drizzle_streams.runtime.clock import Clock
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.runtime.supervisor import Supervisor
from drizzle_streams.stores.base import SnapshotStore
from drizzle_streams.telemetry.exposition import health_route, metrics_route, ready_route, story_route
from drizzle_streams.telemetry.lag import LoopLag
from drizzle_streams.telemetry.metrics import CoordinatorMetrics, RuntimeMetrics
from drizzle_streams.transport.auth import METRICS, USER
from drizzle_streams.transport.http_server import HttpServer

log = logging.getLogger("drizzle.coordinator")


class Life:
    """Make it when the lease is taken; `run` it once, on a server that has not started."""

    def __init__(
        self,
        settings: CoordinatorServiceSettings,
        clock: Clock,
        *,
        leadership: Leadership,
        announcer: Announcer,
        memory: Memory,
        left: Remembered,
        snapshots: SnapshotStore,
        outage: LedgerOutage,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._leadership = leadership
        self._announcer = announcer
        self._memory = memory
        self._outage = outage
        self._registry = CollectorRegistry()
        now = clock.now()
        machine = CoordinatorSettings(lease_s=settings.lease_ms / 1000.0)
        self.role = Coordinator(machine, memory.generation, left.records, now)
        # The term is this life's number on its links. It grows with every life of every coordinator,
        # whatever their own clocks say, so who has heard a new leader takes in nothing of an old one.
        self._reports = Reports(self.role)
        self._node = Node(COORDINATOR, leadership.term, self._reports)
        self._stopwatch = Stopwatch(self._node)
        self._programs = Programs(memory, left.programs, self._active, Keyring.parse(settings.token))
        self._chores = Chores(snapshots)
        self._feed = Feed(
            View(self.role, self._reports, self._stopwatch, clock.now), lambda: self._leader(now)
        )

    def _active(self, name: JobId) -> bool:
        return (job := self.role.jobs.get(name)) is not None and job.phase in ACTIVE

    async def run(self, server: HttpServer, stop: asyncio.Event, on_started: Callable[[], None]) -> None:
        """Lead until `stop` is set. Raises `FencedError` when another one leads, `StoreError`."""
        transport = LeadersTransport(COORDINATOR, server, self._settings.token)
        transport.leads = lambda: self._leadership.leads
        self._outage.tell = lambda kind, text: self.role.story.tell(self._clock.now(), kind, text)
        await self._tidy()
        performer = CoordinatorPerformer(self._memory, self._chores, self._programs, self.role.jobs.get)
        driver = Driver(self._stopwatch, self._clock, transport, performer, self._memory.persist)
        performer.post = self._stopwatch.on_launch = driver.post
        lag = self._measure(transport, driver)
        async with AsyncExitStack() as closing, Supervisor() as tasks:
            transport.on_failure = tasks.fail
            self._add_doors(server, driver, tasks, lag)
            await transport.start()
            closing.push_async_callback(transport.close)
            closing.callback(self._announcer.end)
            closing.callback(self._feed.end)
            tasks.start(self._leadership.keep(), "leadership")
            tasks.start(self._chores.run(), "snapshot chores")
            tasks.start(lag.run(), "loop lag")
            tasks.start(self._feed.run(), "console feed")
            tasks.start(driver.run(), "driver")
            on_started()
            generation = self._memory.generation
            log.info("coordinating", extra={"address": server.address, "generation": generation})
            await tasks.until(stop)

    async def _tidy(self) -> None:
        """What an earlier life may not have come to."""
        await self._programs.sweep()
        for job in self.role.jobs.values():
            if job.phase not in ACTIVE and job.spec.born:  # its end may have been cut short
                self._chores.add(Clear(JobId(job.spec.run), self._memory.generation))

    def _measure(self, transport: LeadersTransport, driver: Driver) -> LoopLag:
        """What every service shows of its loop, links and queues."""
        runtime = RuntimeMetrics(
            self._registry,
            service="coordinator",
            node=self._settings.name,
            version=version("drizzle-streams"),
        )
        lag = LoopLag(runtime.loop_lag_seconds.observe)
        runtime.read_loop(lambda: lag.worst)
        runtime.read_messages(
            lambda: driver.messages_sent,
            lambda: driver.messages_received,
            lambda: {"undecodable": driver.frames_refused, "queue_full": driver.frames_dropped},
            lambda: driver.repeats_sent,
        )
        runtime.read_transport(transport)
        runtime.read_queues(lambda: {"snapshot_chores": len(self._chores)})
        watch_leadership(self._registry, self._leadership, self._outage)
        return lag

    def _add_doors(self, server: HttpServer, driver: Driver, tasks: Supervisor, lag: LoopLag) -> None:
        now = self._clock.now
        watch = Watch(CoordinatorMetrics(self._registry), self.role, self._stopwatch, now)
        self._memory.watch(watch.persisted)
        doors = Doors(
            self.role,
            self._memory,
            self._programs,
            self._stopwatch,
            post=driver.post,
            fail=tasks.fail,
            now=now,
        )
        add = server.add_routes
        add([*doors.routes(), self._announcer.route()], auth=USER)
        add(doors.service_routes())
        add([story_route(lambda: (asdict(line) for line in self.role.story.lines))], auth=USER)
        add([health_route(lag), ready_route(self._unready)], public=True)
        add_console(server, self._feed)
        metrics = metrics_route(self._registry, watch.refresh)
        add([metrics], auth=METRICS, public=self._settings.metrics_public)

    def _unready(self) -> str | None:
        """A leader that cannot be certain of its lease is not to be asked."""
        return None if self._leadership.leads else "its lease has run out and is not renewed yet"

    def _leader(self, since: float) -> Leader:
        """Who leads, for the console; `since` is cluster time in seconds."""
        leadership = self._leadership
        return Leader(
            self._settings.name, leadership.address, leadership.term, since, version("drizzle-streams")
        )

"""One life of a worker: a name, a machine, everything it works with; from joining to its end.

A life ends when the service is asked to stop, when something fails that may not fail, or when
the coordinator has declared the worker lost. Then nothing of this life may stand in for the next
one's, so all of it goes: its stores, its links, its name.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import replace

from prometheus_client import CollectorRegistry

from drizzle_streams.config import WorkerServiceSettings
from drizzle_streams.core.events import LeaveRequested
from drizzle_streams.core.node import Node
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.ids import NodeId, WorkerId
from drizzle_streams.runtime.clock import Clock
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.runtime.leader import LeaderWatch
from drizzle_streams.runtime.supervisor import Supervisor
from drizzle_streams.stores.base import SnapshotStore
from drizzle_streams.telemetry.metrics import WorkerMetrics
from drizzle_streams.transport.http import HttpTransport
from drizzle_streams.transport.http_server import HttpServer, ServerLimits
from drizzle_streams.transport.tasks import OwnedTasks
from drizzle_streams.worker.bench import Bench
from drizzle_streams.worker.deadletters import CommandLink, DeadLetters
from drizzle_streams.worker.gate import Gate
from drizzle_streams.worker.handing import STATES_PATH, Handing
from drizzle_streams.worker.performer import WorkerPerformer
from drizzle_streams.worker.serving import BLOCKS_PATH, Serving
from drizzle_streams.worker.threads import Threads
from drizzle_streams.worker.watching import Watching

log = logging.getLogger("drizzle.worker")

DRAIN_S_MAX = 6.0
"""What a worker that is asked to stop waits for its partitions to move; less than the grace it is given."""

BODY_BYTES_MAX = 64 * 1024
"""Nothing is posted to a worker; frames and fetches have bounds of their own."""


class Life:
    """Make it, `run` it once. `port` is where to listen: a next life is found where this one was."""

    def __init__(
        self,
        settings: WorkerServiceSettings,
        worker: WorkerId,
        port: int,
        clock: Clock,
        snapshots: SnapshotStore,
        link: CommandLink,
    ) -> None:
        self.worker = worker
        self.started = asyncio.Event()
        """Set once it listens and its machine runs."""
        self._ended = asyncio.Event()
        self._reason: str | None = None
        self._tasks = Supervisor()
        self.server = HttpServer(
            settings.host,
            port,
            settings.token,
            advertise_host=settings.advertise_host or None,
            tls=settings.tls,
            limits=ServerLimits(body_bytes_max=BODY_BYTES_MAX),
        )
        self.transport = HttpTransport(NodeId(worker), self.server, settings.token)
        self.role = Worker(WorkerSettings(worker, "", settings.slots))
        registry = CollectorRegistry()
        self.bench = self._furnish(settings, clock, snapshots, link, WorkerMetrics(registry))
        self.performer = WorkerPerformer(self.bench)
        gate = Gate(self.role)
        node = Node(NodeId(worker), int(clock.now() * 1000), gate)
        self.driver = Driver(node, clock, self.transport, self.performer)
        self.leader = LeaderWatch(settings.coordinators, self.driver)
        self.bench.post, self.bench.addresses = self.driver.post, self.driver.addresses
        self.watching = Watching(registry, gate, self.performer, self.driver)
        self.watching.add_doors(self.server, metrics_public=settings.metrics_public)
        self.transport.serve(BLOCKS_PATH, Serving(self.bench, self.performer.jobs).fetch)
        self.transport.serve(STATES_PATH, Handing(self.bench, self.performer.jobs).fetch)
        self.transport.on_failure = self._tasks.fail

    def _furnish(
        self,
        settings: WorkerServiceSettings,
        clock: Clock,
        snapshots: SnapshotStore,
        link: CommandLink,
        metrics: WorkerMetrics,
    ) -> Bench:
        return Bench(
            role=self.role,
            clock=clock,
            transport=self.transport,
            tasks=OwnedTasks(self._tasks.fail),
            threads=Threads(settings.slots),
            snapshots=snapshots,
            letters=DeadLetters(link, settings.namespace),
            metrics=metrics,
            redis_url=settings.redis_url,
            ring=self.server.ring,
            held_bytes_max=settings.blocks_bytes_max,
            outage_s_max=settings.outage_s_max,
            rejoin=self._rejoin,
            depart=self._depart,
        )

    async def run(self, stop: asyncio.Event) -> str | None:
        """Live until `stop` is set (None), or until declared lost (the reason); raises what ended it else."""
        async with AsyncExitStack() as closing, self._tasks as tasks:
            await self.transport.start()
            closing.push_async_callback(self._close)
            self.role.settings = replace(self.role.settings, address=self.server.address)
            tasks.start(self.bench.letters.run(), "dead letters")
            tasks.start(self.watching.lag.run(), "loop lag")
            tasks.start(self._end_with(stop), "stop")
            tasks.start(self.leader.run(), "leader watch")
            tasks.start(self.driver.run(), "driver")
            self.started.set()
            log.info("joining", extra={"worker": self.worker, "address": self.server.address})
            await tasks.until(self._ended)
            await self.bench.letters.flush()
        return self._reason

    def _rejoin(self, reason: str) -> None:
        self._reason = reason
        self._ended.set()

    def _depart(self, reason: str) -> None:
        log.info("leaves", extra={"worker": self.worker, "reason": reason})
        self._ended.set()

    async def _end_with(self, stop: asyncio.Event) -> None:
        """Asked to stop: the machine has our partitions moved and departs; not for longer than the bound."""
        await stop.wait()
        self.driver.post(LeaveRequested())
        try:
            async with asyncio.timeout(DRAIN_S_MAX):
                await self._ended.wait()
        except TimeoutError:
            log.warning("stops undrained", extra={"worker": self.worker, "drain_s": DRAIN_S_MAX})
            self._ended.set()

    async def _close(self) -> None:
        """After the driver: nothing is decided any more, so nothing that ends is told."""
        await self.performer.close()
        await self.transport.close()

"""The worker as a process: stores that outlive a life, and one life after the other.

    run_service(lambda stop: run_worker(settings, stop))

A worker that was declared lost is not at fault: it was slow, or cut off. It joins again under a
new name, after a rest that grows while its lives stay short.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack

from drizzle_streams.config import WorkerServiceSettings
from drizzle_streams.errors import ConfigError, CorruptError, StoreError
from drizzle_streams.model.ids import WorkerId
from drizzle_streams.runtime.clock import Clock, ClusterClock
from drizzle_streams.stores.base import SnapshotStore
from drizzle_streams.stores.redis import RedisSnapshotStore
from drizzle_streams.stores.redis_link import LinkBounds, RedisLink
from drizzle_streams.worker.deadletters import CommandLink
from drizzle_streams.worker.life import Life

log = logging.getLogger("drizzle.worker")

REJOIN_REST_S_FIRST = 0.1
REJOIN_REST_S_MAX = 5.0
"""The rest before a new life; it doubles while lives are short."""
HEALTHY_S = 30.0
"""A life of this length was none that ended at once: the rest is short again."""


async def run_worker(settings: WorkerServiceSettings, stop: asyncio.Event | None = None) -> None:
    """Work until `stop` is set. Raises `ConfigError` when it cannot start, or what it could not live with."""
    await WorkerService(settings).run(stop or asyncio.Event())


class WorkerService:
    """A worker process. Without a store and link of the caller's, the settings' Redis is used."""

    def __init__(
        self,
        settings: WorkerServiceSettings,
        *,
        snapshots: SnapshotStore | None = None,
        link: CommandLink | None = None,
    ) -> None:
        self.settings = settings
        self.life: Life | None = None
        """The present life."""
        self.lives = 0
        self._clock: Clock = ClusterClock()
        self._snapshots = snapshots or RedisSnapshotStore(settings.redis_url, namespace=settings.namespace)
        self._link = link or RedisLink(settings.redis_url, LinkBounds(connections_max=1))

    async def run(self, stop: asyncio.Event) -> None:
        """Live, and live again, until `stop` is set."""
        async with AsyncExitStack() as closing:
            for store in (self._snapshots, self._link):
                closing.push_async_callback(store.close)
                await _opened(store)
            port, rest_s = self.settings.port, REJOIN_REST_S_FIRST
            while not stop.is_set():
                began = self._clock.now()
                life = self.life = self._new_life(port)
                reason = await life.run(stop)
                if reason is None:
                    return
                port = life.server.port
                rest_s = REJOIN_REST_S_FIRST if self._clock.now() - began > HEALTHY_S else rest_s
                log.warning("joins again", extra={"worker": life.worker, "reason": reason, "rest_s": rest_s})
                await _rest(stop, rest_s)
                rest_s = min(rest_s * 2, REJOIN_REST_S_MAX)

    def _new_life(self, port: int) -> Life:
        self.lives += 1
        worker = WorkerId(f"{self.settings.name}-{secrets.token_hex(3)}")
        return Life(self.settings, worker, port, self._clock, self._snapshots, self._link)


async def _opened(store: SnapshotStore | CommandLink) -> None:
    try:
        await store.open()
    except CorruptError:
        raise
    except StoreError as error:
        raise ConfigError(str(error)) from error


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return

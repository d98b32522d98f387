"""The console's live feed: server-sent events, worked out once for everybody who looks.

    GET /console/feed[?job=NAME]   text/event-stream: `cluster` and `job`, see `console_view`

Rules:
- Nothing is worked out while nobody looks. A tick is computed and encoded once, however many look,
  and ticks that take long come more rarely, so that looking costs a bounded share of the loop.
- A reader that does not keep up is dropped, not waited for: its browser comes back by itself.
- A stream ends after a while, so that a session that has expired stops seeing.
- Looking never harms what is looked at: a tick that fails is logged and ends the streams, nothing else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from drizzle_streams.coordinator.console_page import SAFE_HEADERS
from drizzle_streams.coordinator.console_view import Leader, Values, View
from drizzle_streams.errors import BackPressureError, explain
from drizzle_streams.model.ids import NO_BATCH, BatchId, JobId

log = logging.getLogger("drizzle.console")

FEED_PATH = "/console/feed"
SUBSCRIBERS_MAX = 32
"""Pages that look at the same time."""
TICK_S = 0.5
TICK_S_MAX = 2.0
LOOP_SHARE_MAX = 0.05
"""Of the loop's time, what working out ticks may take: one that takes long comes more rarely."""
TICKS_QUEUED_MAX = 8
"""Ticks that wait for a slow reader before it is dropped."""
WRITE_TIMEOUT_S = 5.0
HEARTBEAT_S = 5.0
"""After so long without a tick a comment goes out, so that nobody takes the connection for dead."""
STREAM_LIFE_S = 900.0
RETRY_MS = 1_000
"""How long a browser waits before it asks again."""
JOB_NAME_CHARACTERS_MAX = 64


@dataclass(eq=False, slots=True)
class Subscriber:
    """One page; None in its queue ends it."""

    job: JobId | None
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(TICKS_QUEUED_MAX))

    def offer(self, tick: bytes) -> bool:
        """False if the page has not read what it had."""
        if self.queue.full():
            return False
        self.queue.put_nowait(tick)
        return True

    def end(self) -> None:
        """Nothing more comes; what waits is not worth reading any more."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Feed:
    """Ticks of one life of the coordinator, for whoever looks. `leader` says who that is."""

    def __init__(
        self, view: View, leader: Callable[[], Leader], clock: Callable[[], float] = time.thread_time
    ) -> None:
        self._view = view
        self._leader = leader
        self._clock = clock
        self._subscribers: set[Subscriber] = set()
        self._somebody = asyncio.Event()
        self._told = 0
        self._shown: dict[JobId, BatchId] = {}
        self._ended = False
        self.ticks = 0
        self.dropped = 0
        """Ticks that were worked out, and readers that were too slow."""

    def route(self) -> web.RouteDef:
        """`GET /console/feed`."""
        return web.get(FEED_PATH, self._serve, allow_head=False)

    async def run(self) -> None:
        """Tick while somebody looks, until cancelled."""
        while True:
            await self._somebody.wait()
            began = self._clock()
            try:
                self.tick()
            except Exception:
                log.exception("the console could not be worked out")
                self._drop_all()
            await asyncio.sleep(min(TICK_S_MAX, max(TICK_S, (self._clock() - began) / LOOP_SHARE_MAX)))

    def tick(self) -> None:
        """Show everybody what there is now."""
        self.ticks += 1
        cluster = self._cluster(self._told)
        self._told = self._view.last_line
        jobs: dict[JobId | None, bytes] = {None: b""}
        for subscriber in tuple(self._subscribers):
            name = self._view.chosen(subscriber.job)
            if name is not None and name not in jobs:
                jobs[name] = self._job(name, self._shown.get(name, NO_BATCH))
                self._shown[name] = self._view.frontier(name)
            if not subscriber.offer(cluster + jobs[name]):
                self.dropped += 1
                self.leave(subscriber)
        self._shown = {name: batch for name, batch in self._shown.items() if name in jobs}

    def join(self, job: JobId | None) -> Subscriber:
        """Somebody starts to look and gets everything at once. Raises `BackPressureError`."""
        if len(self._subscribers) >= SUBSCRIBERS_MAX:
            raise BackPressureError(
                explain(
                    "pages that look at the console",
                    wanted=f"at most {SUBSCRIBERS_MAX}",
                    found="as many",
                    remedy="Close one first.",
                )
            )
        subscriber, name = Subscriber(job), self._view.chosen(job)
        subscriber.offer(self._cluster(0) + (b"" if name is None else self._job(name, NO_BATCH)))
        if self._ended:
            subscriber.end()
        else:
            self._subscribers.add(subscriber)
            self._somebody.set()
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """It looks no more; twice is once."""
        self._subscribers.discard(subscriber)
        subscriber.end()
        if not self._subscribers:
            self._somebody.clear()

    def end(self) -> None:
        """This life is over: every stream ends, and no new one lasts."""
        self._ended = True
        self._drop_all()

    def _drop_all(self) -> None:
        for subscriber in tuple(self._subscribers):
            self.leave(subscriber)

    def _cluster(self, after: int) -> bytes:
        return _event("cluster", self._view.cluster(self._leader(), after))

    def _job(self, name: JobId, after: BatchId) -> bytes:
        return _event("job", self._view.job(name, after))

    # --- over HTTP ------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        wanted = request.query.get("job", "")[:JOB_NAME_CHARACTERS_MAX]
        subscriber = self.join(JobId(wanted) if wanted else None)
        response = web.StreamResponse(headers=SAFE_HEADERS | {"X-Accel-Buffering": "no"})
        response.content_type, response.charset = "text/event-stream", "utf-8"
        response.headers[hdrs.CACHE_CONTROL] = "no-store"
        try:
            await response.prepare(request)
            await _send(response, f"retry: {RETRY_MS}\n\n".encode())
            await _stream(response, subscriber)
        except (TimeoutError, ConnectionError):  # it reads too slowly, or is gone
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.leave(subscriber)
        return response


async def _stream(response: web.StreamResponse, subscriber: Subscriber) -> None:
    """Everything the subscriber is offered, until it ends or is too old."""
    until = asyncio.get_running_loop().time() + STREAM_LIFE_S
    while asyncio.get_running_loop().time() < until:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                tick = await subscriber.queue.get()
        except TimeoutError:
            tick = b": nothing new\n\n"
        if tick is None:
            return
        await _send(response, tick)


async def _send(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT_S):
        await response.write(data)


def _event(name: str, values: Values) -> bytes:
    return f"event: {name}\ndata: {json.dumps(values, separators=(',', ':'))}\n\n".encode()

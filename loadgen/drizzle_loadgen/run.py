"""One run of load: schedule, client, faults and progress put together, and what came of it.

A run ends when everything is acknowledged, when it is told to stop (at a block boundary), or when a source
will not take a block. In each case what was acknowledged is known exactly and reported; so is what was
posted without an answer.
"""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from drizzle_loadgen.client import Client, SourceLink
from drizzle_loadgen.clock import Clock
from drizzle_loadgen.delivery import Bounds, Delivery
from drizzle_loadgen.discovery import Locate
from drizzle_loadgen.errors import DeliveryError
from drizzle_loadgen.events import Workload
from drizzle_loadgen.faults import Fault, strike_all
from drizzle_loadgen.oracle import Coverage
from drizzle_loadgen.report import Histogram, Percentiles, as_json
from drizzle_loadgen.schedule import OpenLoop, Pace, Schedule

LEAD_MS = 300  # least time before the first event is due: connections and the first text are made in it
DRAIN_TIMEOUT_S = 60.0  # for the answers that are missing when nothing more is sent
PROGRESS_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What to send, to whom, and how."""

    workload: Workload
    seconds: float
    stream: str
    block_ms: float = 5.0
    bounds: Bounds = field(default_factory=Bounds)
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResult:
    """What was sent and what became of it; `stopped` is None for a run that did all it was asked to."""

    workload: Workload
    stream: str
    coverage: Coverage
    pace: Pace
    deliveries: tuple[Delivery, ...]
    unanswered: int
    wall_seconds: float
    stopped: str | None
    failed: bool
    faults: tuple[dict[str, Any], ...]

    @property
    def acknowledged(self) -> int:
        """Events that the sources have answered for."""
        return sum(delivery.acknowledged_events for delivery in self.deliveries)

    def total(self, counter: str) -> int:
        """Sum of one counter of `Delivery` over the sources."""
        return sum(getattr(delivery, counter) for delivery in self.deliveries)

    def late(self, histogram: str) -> Percentiles | None:
        """Percentiles of one histogram of `Delivery` over the sources."""
        merged = Histogram()
        for delivery in self.deliveries:
            merged.merge(getattr(delivery, histogram))
        return merged.percentiles()

    def as_json(self) -> dict[str, Any]:
        """All that `check --run` needs, and the figures of the run; counts without a unit are events."""
        workload, pace = self.workload, self.pace
        counters = ("posts", "retries", "throttled", "refused", "overtaken", "connections")
        return {
            "seed": workload.seed,
            "start_ms": workload.start_ms,
            "rate": workload.rate,
            "skew": workload.skew,
            "surge": None if workload.surge is None else asdict(workload.surge),
            "stream": self.stream,
            **asdict(self.coverage),
            "sent": pace.sent_events,
            "acknowledged": self.acknowledged,
            "unanswered": self.unanswered,
            "stopped": self.stopped,
            "sent_bytes": pace.sent_bytes,
            "wall_seconds": round(self.wall_seconds, 3),
            "events_per_second": round(self.acknowledged / self.wall_seconds, 1)
            if self.wall_seconds
            else 0.0,
            "behind_ms": as_json(pace.behind.percentiles()),
            "posted_late_ms": as_json(self.late("posted_late")),
            "acknowledged_late_ms": as_json(self.late("acknowledged_late")),
            "overloads": pace.overloads,
            "overload_ms": round(pace.overload_ms, 1),
            **{counter: self.total(counter) for counter in counters},
            "faults": list(self.faults),
        }


def next_start_ms(now_ms: float) -> int:
    """The next full second that leaves LEAD_MS to get ready."""
    return math.ceil((now_ms + LEAD_MS) / 1000) * 1000


async def run(
    settings: RunSettings,
    sources: Sequence[Locate],
    headers: dict[str, str],
    stop: asyncio.Event,
    progress: Callable[[str], None] | None = None,
) -> RunResult:
    """Send as told until done or until `stop` is set; `progress` is given one line of JSON per second."""
    clock = Clock()
    began_ms = clock.now_ms()
    schedule = Schedule.of(settings.workload, settings.seconds, settings.block_ms)
    client = Client(_links(settings, sources, headers, clock))
    loop = OpenLoop(schedule, client, clock, stop)
    happened: list[dict[str, Any]] = []
    background = [
        asyncio.create_task(strike_all(settings.faults, settings.workload.start_ms, clock, happened)),
        asyncio.create_task(_report_progress(client, loop.pace, clock, progress)),
    ]
    try:
        failure, told_to_stop = await _send(loop, client, stop, settings.drain_timeout_s)
    finally:
        await _end(background)
    return RunResult(
        workload=settings.workload,
        stream=settings.stream,
        coverage=_coverage(schedule, client),
        pace=loop.pace,
        deliveries=tuple(link.delivery for link in client.links),
        unanswered=sum(link.unanswered_events for link in client.links),
        wall_seconds=max(0.0, clock.now_ms() - max(began_ms, settings.workload.start_ms)) / 1000,
        stopped=failure or ("by a signal" if told_to_stop else None),
        failed=failure is not None,
        faults=tuple(happened),
    )


def _links(
    settings: RunSettings, sources: Sequence[Locate], headers: dict[str, str], clock: Clock
) -> list[SourceLink]:
    name = f"loadgen-{uuid.uuid4().hex[:16]}"
    path = f"/streams/{settings.stream}/records"
    return [
        SourceLink(locate, path, headers, f"{name}-{number}", settings.bounds, clock)
        for number, locate in enumerate(sources)
    ]


async def _send(
    loop: OpenLoop, client: Client, stop: asyncio.Event, drain_timeout_s: float
) -> tuple[str | None, bool]:
    """Run the schedule and wait for the answers. Why it failed, or None; and if it was told to stop."""
    sending = asyncio.create_task(loop.run())
    links = [asyncio.create_task(link.run()) for link in client.links]
    try:
        # A link ends before the schedule only by giving its source up.
        await asyncio.wait([sending, *links], return_when=asyncio.FIRST_COMPLETED)
        told_to_stop = stop.is_set()
        await sending  # ends by itself at the first block for a source that was given up
        client.no_more()
        _, unfinished = await asyncio.wait(links, timeout=drain_timeout_s)
    finally:
        await _end([sending, *links])
    failures = [failure for link in links if (failure := _failure(link))]
    if unfinished and not failures:
        failures = [f"sources had not answered everything {drain_timeout_s:g} s after the last block"]
    return ("; ".join(failures) or None), told_to_stop


def _failure(link: asyncio.Task[None]) -> str | None:
    error = None if link.cancelled() else link.exception()
    return None if error is None else str(error)


def _coverage(schedule: Schedule, client: Client) -> Coverage:
    deliveries = [link.delivery for link in client.links]
    return Coverage(
        events=schedule.events,
        block_events=schedule.block_events,
        acknowledged_blocks=tuple(delivery.taken_blocks for delivery in deliveries),
        acknowledged_beyond=tuple(
            number for delivery in deliveries for number in delivery.taken_beyond.values()
        ),
    )


async def _report_progress(
    client: Client, pace: Pace, clock: Clock, progress: Callable[[str], None] | None
) -> None:
    """A line per second; `waiting_ms` is the age of the oldest block that no source has acknowledged."""
    began_ms = clock.now_ms()
    while progress is not None:
        await asyncio.sleep(PROGRESS_INTERVAL_S)
        deliveries = [link.delivery for link in client.links]
        oldest = [due_ms for link in client.links if (due_ms := link.oldest_due_ms) is not None]
        now_ms = clock.now_ms()
        line = {
            "seconds": round((now_ms - began_ms) / 1000, 1),
            "sent": pace.sent_events,
            "acknowledged": sum(delivery.acknowledged_events for delivery in deliveries),
            "behind_ms": round(pace.behind_ms, 1),
            "waiting_ms": round(max(0.0, now_ms - min(oldest)), 1) if oldest else 0.0,
            "retries": sum(delivery.retries for delivery in deliveries),
            "throttled": sum(delivery.throttled for delivery in deliveries),
        }
        progress(json.dumps(line))


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel what still runs; raise what none of them should have raised."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, DeliveryError):
            raise error

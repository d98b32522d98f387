"""Waiting for a store that is away: a sink's writes and restores of state are tried again, for long.

A store's own bound (`LinkBounds.outage_s_max`) suits a restart. An outage beyond it must not end a job,
since nothing is lost by waiting: what was computed waits for the sink (`OUTPUTS_PENDING_MAX`), then
tasks wait, then sources keep the records, and at their bounds producers are told to wait. Only
`OutageError` is waited for, which says that nobody answered; a refusal is final. A write whose answer
got lost is repeated under its token. The bound is `WorkerServiceSettings.outage_s_max`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from drizzle_streams.errors import OutageError
from drizzle_streams.worker.jobs import JobRun

log = logging.getLogger("drizzle.worker")

PAUSE_S = 0.5
"""Between an attempt that failed and the next one; an attempt at a store waits longer by itself."""

T = TypeVar("T")


async def patiently(job: JobRun, what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` gives, once it does. Raises what it raises, an outage only beyond the bound."""
    bench = job.bench
    deadline = bench.clock.now() + bench.outage_s_max
    away = False
    while True:
        try:
            found = await attempt()
        except OutageError as error:
            if job.forgotten or bench.clock.now() >= deadline:
                raise
            bench.counters.outages_waited += 1
            if not away:
                bench.tell("StoreAway", f"{what} waits: {error}", job.spec.job)
                log.warning("waiting for a store", extra={"job": job.spec.job, "reason": str(error)})
            away = True
            await _pause(job)
        else:
            if away:
                bench.tell("StoreBack", f"{what} goes on", job.spec.job)
            return found


async def _pause(job: JobRun) -> None:
    try:
        async with asyncio.timeout(PAUSE_S):
            await job.ended.wait()
    except TimeoutError:
        return

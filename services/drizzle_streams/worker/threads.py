"""The threads of a worker: all work on frames happens here, never on the event loop.

Tasks have threads of their own, one per slot, so that nothing in the background can delay a
batch for longer than the processor itself must be shared. The background encodes snapshots and
blocks that are pulled, merges runs of state and loads programs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

BACKGROUND_THREADS = 2

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Two bounded pools. What waits for a thread is bounded by who asks: slots, fetches, cohorts."""

    def __init__(self, slots: int) -> None:
        self._tasks = ThreadPoolExecutor(slots, "task")
        self._background = ThreadPoolExecutor(BACKGROUND_THREADS, "background")

    async def task(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a task's work."""
        return await _run(self._tasks, work, *args, **kwargs)

    async def background(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run work that no batch waits for."""
        return await _run(self._background, work, *args, **kwargs)

    def close(self) -> None:
        """Start nothing more. Work under way cannot be stopped; nobody waits for it."""
        for pool in (self._tasks, self._background):
            pool.shutdown(wait=False, cancel_futures=True)


async def _run(pool: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.wrap_future(pool.submit(work, *args, **kwargs))

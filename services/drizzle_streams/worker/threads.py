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

    def task(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run a task's work: it begins at once, whoever waits for it, and when."""
        return asyncio.wrap_future(self._tasks.submit(work, *args, **kwargs))

    def background(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run work that no batch waits for."""
        return asyncio.wrap_future(self._background.submit(work, *args, **kwargs))

    def close(self) -> None:
        """Start nothing more. Work under way cannot be stopped; nobody waits for it."""
        for pool in (self._tasks, self._background):
            pool.shutdown(wait=False, cancel_futures=True)

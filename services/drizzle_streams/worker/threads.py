"""The threads of a worker: work on frames happens here, and not on the event loop (but for `brevity`).

Tasks have threads of their own, one per slot, so that nothing else can delay a batch for longer than the
processor itself must be shared. In the background is done what somebody waits for, but no batch that runs:
blocks that are pulled, states that are restored or handed over, programs that are loaded. Upkeep is what
nobody waits for: merging runs of state and encoding snapshots. It steps back where processors are short:
beside both, a batch's thread that woke waited for the end of their turn, three to five ms of a batch's ten.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

BACKGROUND_THREADS = 2
UPKEEP_THREADS = 2
"""A merge of large runs takes a second; the next snapshot need not wait for it."""
UPKEEP_NICENESS = 10
"""Added to that of the process: a tenth of the others' share where all are busy. Linux only."""
NICENESS_MAX = 19

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Three bounded pools. What waits for a thread is bounded by who asks: slots, fetches, cohorts."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._under_way: set[Future[Any]] = set()
        self._tasks = ThreadPoolExecutor(slots, "task")
        self._background = ThreadPoolExecutor(BACKGROUND_THREADS, "background")
        self._upkeep = ThreadPoolExecutor(UPKEEP_THREADS, "upkeep", step_back)

    def task(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run a task's work: it begins at once, whoever waits for it, and when."""
        return self._awaited(self._tasks.submit(work, *args, **kwargs))

    @property
    def idle(self) -> bool:
        """Whether a task would be the only work on frames here: what Polars' threads share is free then."""
        return self._slots == 1 and not self._under_way

    def background(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run work that somebody waits for, but no batch that runs."""
        return self._awaited(self._background.submit(work, *args, **kwargs))

    def upkeep(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Run work that may take its time."""
        return self._awaited(self._upkeep.submit(work, *args, **kwargs))

    def _awaited(self, work: Future[T]) -> asyncio.Future[T]:
        self._under_way.add(work)
        work.add_done_callback(
            self._under_way.discard
        )  # in its thread: who awaits it may be gone long before
        return asyncio.wrap_future(work)

    def close(self) -> None:
        """Start nothing more. Work under way cannot be stopped; nobody waits for it."""
        for pool in (self._tasks, self._background, self._upkeep):
            pool.shutdown(wait=False, cancel_futures=True)


def step_back() -> None:
    """Let the calling thread have the processor after others. Elsewhere that would be the whole process."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        niceness = os.getpriority(os.PRIO_PROCESS, thread) + UPKEEP_NICENESS
        os.setpriority(os.PRIO_PROCESS, thread, min(niceness, NICENESS_MAX))

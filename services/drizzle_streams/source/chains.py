"""Work in order per job: what is asked for first is done first, and jobs do not wait for each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from drizzle_streams.model.ids import JobId
from drizzle_streams.transport.tasks import OwnedTasks

WAITING_MAX = 1_024
"""Pieces of work that wait, per job. Only a disk that hangs for minutes lets as many gather."""
NEEDED_WAITING_MAX = 2 * WAITING_MAX
"""The same with work that must not be left out: openings and releases, one per stage and run."""

Work = Callable[[], Coroutine[Any, Any, None]]


class Chains:
    """One row of work per job. What work raises goes to `on_failure` and ends its chain."""

    def __init__(self, on_failure: Callable[[BaseException], None]) -> None:
        self._tasks = OwnedTasks(on_failure)
        self._waiting: dict[JobId, deque[Work]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, job: JobId, work: Work, *, needed: bool = False) -> bool:
        """Do it after what waits already for this job; False at the bound, where it is not taken.

        `needed`: nobody would ask for it again, so it has room where other work has none.
        """
        waiting = self._waiting.get(job)
        if waiting is not None:
            if len(waiting) >= (NEEDED_WAITING_MAX if needed else WAITING_MAX):
                return False
            waiting.append(work)
            return True
        self._waiting[job] = deque([work])
        self._tasks.start(self._run(job), f"work for {job}")
        return True

    async def close(self) -> None:
        """Cancel what is under way and wait until it has ended."""
        await self._tasks.close()

    async def _run(self, job: JobId) -> None:
        waiting = self._waiting[job]
        try:
            while waiting:
                await waiting.popleft()()
        finally:
            del self._waiting[job]

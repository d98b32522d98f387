"""Work that must happen strictly one after the other: the operations on one cohort's state.

A chain runs one operation at a time, in the order they were added, on a task that exists only
while there is something to do. Its length is bounded by the machine: a cohort has one task or
snapshot under way, and tells come with generations.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from drizzle_streams.transport.tasks import OwnedTasks

Operation = Callable[[], Awaitable[None]]


class Chain:
    """A line of operations. What one of them raises goes to the owner of `tasks`."""

    def __init__(self, tasks: OwnedTasks, name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._waiting: deque[Operation] = deque()
        self._running = False

    @property
    def length(self) -> int:
        """Operations that have not ended."""
        return len(self._waiting) + self._running

    def add(self, operation: Operation) -> None:
        """Run `operation` when all before it have ended."""
        self._waiting.append(operation)
        if not self._running:
            self._running = True
            self._tasks.start(self._run(), self._name)

    def ended(self) -> asyncio.Event:
        """Set when everything added until now has ended."""
        event = asyncio.Event()

        async def mark() -> None:
            event.set()

        if self.length:
            self.add(mark)
        else:
            event.set()
        return event

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._waiting.popleft()()
        finally:
            self._running = False

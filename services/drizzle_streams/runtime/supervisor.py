"""The owner of a service's tasks: each is awaited, and the first that fails stops the service.

    async with Supervisor() as tasks:
        tasks.start(driver.run(), "driver")
        transport.on_failure = tasks.fail
        await tasks.until(stop)

Leaving the block cancels what still runs, the youngest first, and waits for it.
A failure is raised where the service waits, never only logged; failures that
come while the others are being stopped are logged, since only one can be raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

log = logging.getLogger("drizzle.runtime")


class Supervisor:
    """An `async with` block that owns tasks; see the module."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._failure: BaseException | None = None
        self._failed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._tasks:
            task = self._tasks[-1]
            task.cancel()
            await asyncio.wait({task})
        if self._failure is None or self._failure is error:
            return
        if error is None:
            raise self._failure
        log.error("another failure while stopping", exc_info=self._failure)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` until it returns, fails or the block is left."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.append(task)
        task.add_done_callback(self._ended)
        return task

    def fail(self, error: BaseException) -> None:
        """Something that is no task of ours failed: stop the service."""
        if self._failure is None:
            self._failure = error
            self._failed.set()
        elif error is not self._failure:
            log.error("another failure while stopping", exc_info=error)

    async def until(self, stop: asyncio.Event) -> None:
        """Wait for `stop`; raises the first failure if that comes before."""
        waits = [asyncio.ensure_future(event.wait()) for event in (stop, self._failed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)
        if self._failure is not None:
            raise self._failure

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.remove(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)

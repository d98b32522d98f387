"""Dead letters: records that could not be used, kept in Redis for whoever wants to know why.

    XREVRANGE drizzle:<job>:dead + - COUNT 10

One stream per job, of about `STREAM_LETTERS_MAX` letters: batch, stage, partition, offset, reason,
record. Bad records are written asynchronously and never awaited in a batch; when more come than can
be written, the rest is counted and gone. A batch that is computed again writes its letters again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from drizzle_streams.engine.records import DeadLetter
from drizzle_streams.errors import StoreError
from drizzle_streams.model.ids import BatchId, JobId, StageId
from drizzle_streams.stores.redis_link import Command

log = logging.getLogger("drizzle.worker")

STREAM_LETTERS_MAX = 10_000
"""Letters kept per job, roughly: Redis trims by whole nodes."""
WAITING_MAX = 10_000
"""Letters that wait to be written; further ones are counted and dropped."""
PIPELINE_LETTERS_MAX = 500
FLUSH_S = 2.0
"""What a close gives the letters that wait."""


class CommandLink(Protocol):
    """What writes: `stores.redis_link.RedisLink`, or a test's."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self, what: str, commands: Sequence[Command]) -> list[Any]:
        """Carry out commands; raises `StoreError` when that is not possible within bounds."""
        ...


class DeadLetters:
    """The waiting line and its writer; `run` needs an owner. `dropped` counts letters that are lost."""

    def __init__(self, link: CommandLink, namespace: str) -> None:
        self.dropped = 0
        self.written = 0
        self._link = link
        self._namespace = namespace
        self._waiting: deque[Command] = deque()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> int:
        """Letters that wait to be written."""
        return len(self._waiting)

    def add(self, job: JobId, stage: StageId, batch: BatchId, letters: Sequence[DeadLetter]) -> None:
        """Have letters written when there is time."""
        taken = letters[: max(0, WAITING_MAX - len(self._waiting))]
        self.dropped += len(letters) - len(taken)
        for letter in taken:
            self._waiting.append(self._command(job, stage, batch, letter))
        if taken:
            self._empty.clear()
            self._wake.set()

    async def run(self) -> None:
        """Write what waits, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._write()
            self._empty.set()

    async def flush(self) -> None:
        """Wait until nothing waits, for `FLUSH_S` at most."""
        try:
            async with asyncio.timeout(FLUSH_S):
                await self._empty.wait()
        except TimeoutError:
            log.warning("dead letters were not written", extra={"letters": len(self._waiting)})

    async def _write(self) -> None:
        commands = [self._waiting.popleft() for _ in range(min(PIPELINE_LETTERS_MAX, len(self._waiting)))]
        try:
            await self._link.run("writing dead letters", commands)
        except StoreError as error:
            self.dropped += len(commands)
            log.warning("dead letters were lost", extra={"letters": len(commands), "error": str(error)})
        else:
            self.written += len(commands)

    def _command(self, job: JobId, stage: StageId, batch: BatchId, letter: DeadLetter) -> Command:
        fields: tuple[str | bytes | int, ...] = (
            *("batch", batch, "stage", stage, "partition", letter.partition, "offset", letter.offset),
            *("reason", letter.reason, "record", letter.record),
        )
        key = f"{self._namespace}:{job}:dead"
        return ("XADD", key, "MAXLEN", "~", STREAM_LETTERS_MAX, "*", *fields)

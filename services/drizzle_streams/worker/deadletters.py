"""Dead letters: records that could not be used, kept in Redis for whoever wants to know why.

    XREVRANGE drizzle:<job>:dead + - COUNT 10

One stream per job, of about `STREAM_LETTERS_MAX` letters: batch, stage, partition, offset, reason,
record. Bad records are written asynchronously and never awaited in a batch; when more come than can
be written, the rest is counted and gone.

A batch that is computed again gives its letters again, and a request whose answer was lost is sent
again. So each letter has a mark, which is kept beside the stream and set in one step with the letter:
what has its mark there already is not written twice. A record's mark is its offset. Late groups have
none: theirs is what they hold, and which of several that hold the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import groupby
from typing import Any, Protocol

from drizzle_streams.engine.records import DeadLetter
from drizzle_streams.errors import StoreError
from drizzle_streams.model.ids import BatchId, JobId, StageId
from drizzle_streams.stores.redis_link import Command, script

log = logging.getLogger("drizzle.worker")

STREAM_LETTERS_MAX = 10_000
"""Letters kept per job, roughly: Redis trims by whole nodes."""
WAITING_MAX = 10_000
"""Letters that wait to be written; further ones are counted and dropped."""
CALL_LETTERS_MAX = 500
"""Letters that go in one request."""
MARKS_KEPT_S = 86_400
"""How long the marks of a run outlive its last letter; nothing is computed again after so long."""
FLUSH_S = 2.0
"""What a close gives the letters that wait."""


_APPEND = script("drizzle_streams.worker", "dead_letters")


class CommandLink(Protocol):
    """What writes: `stores.redis_link.RedisLink`, or a test's."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self, what: str, commands: Sequence[Command]) -> list[Any]:
        """Carry out commands; raises `StoreError` when that is not possible within bounds."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """What letters came of: a task of a run."""

    job: JobId
    run: str
    stage: StageId
    batch: BatchId


class DeadLetters:
    """The waiting line and its writer; `run` needs an owner.

    `dropped` counts letters that are lost, `repeated` those that were there already.
    """

    def __init__(self, link: CommandLink, namespace: str) -> None:
        self.dropped = 0
        self.written = 0
        self.repeated = 0
        self._link = link
        self._namespace = namespace
        self._waiting: deque[tuple[Origin, str, DeadLetter]] = deque()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> int:
        """Letters that wait to be written."""
        return len(self._waiting)

    def add(self, origin: Origin, letters: Sequence[DeadLetter]) -> None:
        """Have all letters of a task written when there is time."""
        taken = letters[: max(0, WAITING_MAX - len(self._waiting))]
        self.dropped += len(letters) - len(taken)
        same = Counter[bytes]()
        for letter in taken:
            self._waiting.append((origin, _mark(origin, letter, same), letter))
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
        count = min(CALL_LETTERS_MAX, len(self._waiting))
        letters = [self._waiting.popleft() for _ in range(count)]
        by_run = groupby(letters, key=lambda letter: (letter[0].job, letter[0].run))
        commands = [self._command(*of, some) for of, some in by_run]
        try:
            new = sum(await self._link.run("writing dead letters", commands))
        except StoreError as error:
            self.dropped += count
            log.warning("dead letters were lost", extra={"letters": count, "error": str(error)})
        else:
            self.written += new
            self.repeated += count - new

    def _command(self, job: JobId, run: str, letters: Iterable[tuple[Origin, str, DeadLetter]]) -> Command:
        """One call for some letters of a run."""
        keys = (f"{self._namespace}:{job}:dead", f"{self._namespace}:{run}:dead:marks")
        arguments: list[str | bytes | int] = [STREAM_LETTERS_MAX, MARKS_KEPT_S]
        for origin, mark, letter in letters:
            arguments += (mark, origin.batch, origin.stage, letter.partition, letter.offset)
            arguments += (letter.reason, letter.record)
        return ("EVAL", _APPEND, len(keys), *keys, *arguments)


def _mark(origin: Origin, letter: DeadLetter, same: Counter[bytes]) -> str:
    """What tells a letter apart from all others of its run; `same` counts the late ones of the task."""
    if letter.offset >= 0:
        return f"{origin.stage}/{letter.partition}/{letter.offset}"
    digest = blake2b(letter.record, digest_size=12).digest()
    same[digest] += 1
    return f"{origin.stage}/{origin.batch}/late/{digest.hex()}/{same[digest]}"

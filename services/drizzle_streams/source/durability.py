"""What an answer to a producer promises, and the two kinds of threads that touch the disk.

`Durability` is the one setting. An answer is given when the record has been written
to its file, so with every setting it survives the death of the process (SIGKILL, a
crash, an upgrade): the operating system holds the pages. The settings differ in what
a power failure or a crash of the operating system can take:

    none    record data is never fsynced. A power failure may take whatever the system
            had not written back by itself (about 30 s), batches already computed too:
            then the same offsets would name other records. For trying things out.
    batch   fsync when a batch is sealed, before its bounds are offered. A power failure
            may take answered records that no batch holds yet, at most those of one batch
            interval and the backlog; nothing that was ever computed. The default.
    always  fsync before each answer, shared by all posts that wait for it (group commit).
            A power failure takes nothing that was answered.

Files that describe the log (a segment's header, the table of producers, compacted
bounds) are fsynced with every setting: they are few, and without them the rest cannot
be read. A disk that lies about fsync is outside of all promises.

Rules:
- The event loop never waits for a disk. `Disk.write` runs on one thread, in order:
  appends, fsyncs, new segments, deletions. `Disk.read` runs on a few others, so that a
  replay from cold files does not hold up an append.
- A write that failed is cut off again and refused; the log goes on (a full disk heals
  by trimming). After a failed fsync nobody knows what the disk holds: the log refuses
  all further writes and the process should end (the system may have dropped the pages).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

READ_THREADS = 2


class Durability(StrEnum):
    """When record data is forced to the disk. See the module."""

    NONE = "none"
    BATCH = "batch"
    ALWAYS = "always"

    @property
    def survives(self) -> str:
        """What an answered record is sure to survive, in a word for the answer."""
        return "power-loss" if self is Durability.ALWAYS else "process-crash"


class Disk:
    """The threads that do a source's file I/O. Owned by whoever opened the logs; `close` ends them."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "drizzle-log-write")
        self._readers = ThreadPoolExecutor(READ_THREADS, "drizzle-log-read")

    async def write(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `act` on the writing thread, after everything asked for before."""
        return await _run(self._writer, act, *args, **kwargs)

    async def read(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `act` on a reading thread; it must not change a file."""
        return await _run(self._readers, act, *args, **kwargs)

    def close(self) -> None:
        """End the threads when they have done what was asked for."""
        self._writer.shutdown()
        self._readers.shutdown()


async def _run(pool: ThreadPoolExecutor, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, lambda: act(*args, **kwargs))

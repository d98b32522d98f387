"""The ledger as one life of the coordinator uses it: one generation, one writer, records by their kind.

Rules:
- Raising the fence and writing never overlap. A write in the old generation that arrived after
  our own raise would be refused, and look as if a successor had fenced us.
- What the machine persists is awaited by the driver before anything is said (law 2). A failed
  write is final: nobody knows whether it happened, so the process ends and the next one reads.
- Programs (job files as they were posted) lie beside the records, under `program:{job}`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from drizzle_streams.core.machine import Delete, Persist, Put
from drizzle_streams.errors import CorruptError, explain
from drizzle_streams.model.ids import Generation, JobId
from drizzle_streams.protocol.codec import decode_record, encode_record
from drizzle_streams.protocol.records import RECORD_KINDS, Record
from drizzle_streams.stores.base import Ledger

log = logging.getLogger("drizzle.coordinator")

JOB_PREFIX = "job:"
PROGRAM_PREFIX = "program:"

PersistedHandler = Callable[[Persist], None]
"""Called for each change after it became durable."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What an earlier life left: records by key, job files by job."""

    records: Mapping[str, Record]
    programs: Mapping[JobId, bytes]


class Memory:
    """The ledger within this life; open and close are its owner's."""

    def __init__(self, ledger: Ledger, leader: str | None = None) -> None:
        self._ledger = ledger
        self._leader = leader
        self._turn = asyncio.Lock()
        self._generation = Generation(0)
        self._watchers: list[PersistedHandler] = []
        self.writes = 0

    @property
    def generation(self) -> Generation:
        """The fence of every write: the newest generation that this life raised."""
        return self._generation

    def watch(self, handler: PersistedHandler) -> None:
        """Have `handler` called for each of the machine's changes, once it is durable."""
        self._watchers.append(handler)

    async def begin(self) -> Remembered:
        """Fence every earlier life out, then read what it left. Raises `StoreError`, `FencedError`.

        With a `leader`, only while that one has the lease: who is late finds its successor at work.
        """
        async with self._turn:
            self._generation = await self._ledger.raise_generation(holder=self._leader)
        return _remembered(await self._ledger.read())

    async def raise_generation(self) -> Generation:
        """Take the next generation; writes of this life use it from now on.

        Raises `FencedError` if another life has raised it since: a leader that was paused and
        replaced must not fence out its successor.
        """
        async with self._turn:
            self._generation = await self._ledger.raise_generation(above=self._generation)
        return self._generation

    async def persist(self, changes: Sequence[Persist]) -> None:
        """Write what the machine decided, all or nothing. Raises `StoreError`, `FencedError`."""
        puts = {change.key: encode_record(change.record) for change in changes if isinstance(change, Put)}
        deletes = [change.key for change in changes if isinstance(change, Delete)]
        await self._write(puts, deletes)
        for change in changes:
            for tell in self._watchers:
                tell(change)

    async def keep_program(self, job: JobId, data: bytes) -> None:
        """Make a job file durable, in place of one of that name."""
        await self._write({PROGRAM_PREFIX + job: data}, [])

    async def drop_programs(self, jobs: Sequence[JobId]) -> None:
        """Forget job files."""
        await self._write({}, [PROGRAM_PREFIX + job for job in jobs])

    async def _write(self, puts: Mapping[str, bytes], deletes: Sequence[str]) -> None:
        async with self._turn:
            await self._ledger.write(self._generation, puts, deletes)
            self.writes += 1


def _remembered(entries: Mapping[str, bytes]) -> Remembered:
    records: dict[str, Record] = {}
    programs: dict[JobId, bytes] = {}
    for key, value in entries.items():
        if key.startswith(PROGRAM_PREFIX):
            programs[JobId(key.removeprefix(PROGRAM_PREFIX))] = value
        elif key.startswith(JOB_PREFIX):
            records[key] = _record(key, value)
        else:
            log.warning("the ledger holds a key of another release", extra={"key": key})
    return Remembered(records, programs)


def _record(key: str, value: bytes) -> Record:
    kind = RECORD_KINDS.get(key.rpartition(":")[2])
    if kind is None:
        raise CorruptError(
            explain(
                f"ledger record {key!r}",
                wanted=f"one that ends in {', '.join(RECORD_KINDS)}",
                found="another kind",
                remedy="Start the release that wrote it, or remove it.",
            )
        )
    return decode_record(kind, value)

"""What the source's tests share: logs in a directory, posts, and a look at what a log holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from drizzle_streams.source.durability import Disk, Durability
from drizzle_streams.source.log import LogSettings, StreamLog
from drizzle_streams.source.posts import Part, Post, Receipt
from drizzle_streams.source.producers import Sequenced
from drizzle_streams.transport.entries import EntryFormat

STREAM = "ad-events"


def settings(
    partitions: int = 2,
    durability: Durability = Durability.BATCH,
    budget_bytes: int = 1 << 20,
    segment_bytes: int = 1 << 16,
    cache_bytes: int = 1 << 16,
) -> LogSettings:
    """Small, so that bounds are reached in a test."""
    return LogSettings(partitions, durability, budget_bytes, segment_bytes, cache_bytes)


def block(records: int, mark: str = "x", width: int = 20) -> bytes:
    """NDJSON of so many records that can be told apart by `mark`."""
    return b"".join(f'{{"n":"{mark}-{i:0{width}d}"}}\n'.encode() for i in range(records))


def post(partition: int, records: int, mark: str = "x", *, producer: str = "", sequence: int = 0) -> Post:
    """A post for one partition, numbered if it has a producer."""
    return split_post([(partition, records)], mark, producer=producer, sequence=sequence)


def split_post(
    sizes: Sequence[tuple[int, int]], mark: str = "x", *, producer: str = "", sequence: int = 0
) -> Post:
    """A post of several parts: (partition, records) each."""
    parts = tuple(Part(p, records, block(records, f"{mark}/{p}")) for p, records in sizes)
    return Post(EntryFormat.NDJSON, parts, Sequenced(producer, sequence) if producer else None)


def fail(error: BaseException) -> None:
    """For logs that must not break."""
    raise error


def places(receipt: Receipt) -> list[tuple[int, int, int]]:
    """(partition, first, end) of each part."""
    return [(r.partition, r.first, r.end) for r in receipt.ranges]


class Opened:
    """A log and what it told its owner."""

    def __init__(self) -> None:
        self.appended: list[tuple[str, int, int]] = []
        self.failures: list[BaseException] = []
        self.log: StreamLog

    async def content(self, partition: int) -> list[bytes]:
        """Payloads of all that can be read from a partition."""
        first, end = self.log.first_offset(partition), self.log.end_offset(partition)
        return [entry.payload for entry in await self.log.read(partition, first, end)]


@asynccontextmanager
async def opened(directory: Path, kept: LogSettings | None = None) -> AsyncIterator[Opened]:
    """A log in `directory`, closed at the end."""
    world, disk = Opened(), Disk()
    try:
        world.log = await StreamLog.open(
            directory / "log",
            STREAM,
            kept or settings(),
            disk,
            on_appended=lambda *what: world.appended.append(what),
            on_failure=world.failures.append,
        )
        try:
            yield world
        finally:
            await world.log.close()
    finally:
        await asyncio.to_thread(disk.close)

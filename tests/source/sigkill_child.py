"""A source that appends and seals, and says on stdout what it has promised. Killed by its test.

ack <producer> <sequence> <partition>:<first>:<end>,…
sealed <batch> <partition>:<first>:<end>,…
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, JobId, Offset, PartitionId
from drizzle_streams.source.boundslog import BoundsLog
from drizzle_streams.source.durability import Durability
from drizzle_streams.source.log import LogSettings, StreamLog
from drizzle_streams.source.streams import Streams
from tests.source.source_worlds import split_post

PARTITIONS = 3
JOB = JobId("ysb")


def kept(durability: str) -> LogSettings:
    """Small segments, so that a kill hits every stage of their life."""
    return LogSettings(PARTITIONS, Durability(durability), 1 << 24, 3000, 5000)


def sizes(sequence: int) -> list[tuple[int, int]]:
    """How the post of that number is split: one to three parts."""
    return [((sequence + i) % PARTITIONS, 1 + (sequence + i) % 4) for i in range(1 + sequence % PARTITIONS)]


def say(word: str, number: object, ranges: list[tuple[int, int, int]]) -> None:
    text = ",".join(f"{p}:{first}:{end}" for p, first, end in ranges)
    os.write(1, f"{word} {number} {text}\n".encode())


async def produce(log: StreamLog, producer: str, sequence: int) -> None:
    while True:
        post = split_post(sizes(sequence), f"{producer}-{sequence}", producer=producer, sequence=sequence)
        receipt = await log.append(post)
        say("ack", f"{producer} {sequence}", [(r.partition, r.first, r.end) for r in receipt.ranges])
        sequence += 1


async def seal(log: StreamLog, bounds_log: BoundsLog) -> None:
    last = {b.partition: b.end for b in bounds_log.bounds}
    batch = max((b.batch for b in bounds_log.bounds), default=-1) + 1
    while True:
        firsts = {PartitionId(p): last.get(PartitionId(p), Offset(0)) for p in range(PARTITIONS)}
        bounds = [
            Bounds(BatchId(batch), p, first, Offset(log.cut(p, first, 20, 1 << 20)))
            for p, first in firsts.items()
        ]
        await log.sync()
        await bounds_log.append(bounds)
        say("sealed", batch, [(b.partition, b.first, b.end) for b in bounds])
        last = {b.partition: b.end for b in bounds}
        batch += 1
        await asyncio.sleep(0.001)


async def main(directory: Path, durability: str, sequence: int) -> None:
    streams = await Streams.open(
        directory,
        kept(durability),
        on_appended=lambda *_: None,
        on_failure=lambda error: sys.exit(repr(error)),
    )
    log = await streams.create("ad-events")
    bounds_log = await streams.open_bounds(JOB)
    await asyncio.gather(seal(log, bounds_log), *(produce(log, name, sequence) for name in "abcd"))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))

"""SIGKILL in the middle, again and again: what was promised is there, byte for byte."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drizzle_streams.source.streams import Streams
from tests.source.sigkill_child import JOB, PARTITIONS, kept, sizes
from tests.source.source_worlds import fail, split_post

ROUNDS = 4
ACKS_PER_ROUND = 150

Ranges = list[tuple[int, int, int]]


class Promises:
    """What the killed processes said."""

    def __init__(self) -> None:
        self.acks: dict[tuple[str, int], Ranges] = {}
        self.sealed: dict[int, Ranges] = {}

    def hear(self, line: str) -> None:
        word, *numbers, text = line.split()
        ranges = [tuple(map(int, some.split(":"))) for some in text.split(",")]
        if word == "ack":
            key = (numbers[0], int(numbers[1]))
            assert key not in self.acks
            self.acks[key] = [(p, first, end) for p, first, end in ranges]
        else:
            assert int(numbers[0]) not in self.sealed, "a batch is sealed once"
            self.sealed[int(numbers[0])] = [(p, first, end) for p, first, end in ranges]

    @property
    def next_sequence(self) -> int:
        return max((sequence for _, sequence in self.acks), default=-1) + 1


def live_and_be_killed(directory: Path, durability: str, promises: Promises) -> None:
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.source.sigkill_child",
            str(directory),
            durability,
            str(promises.next_sequence),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    wanted = len(promises.acks) + ACKS_PER_ROUND
    with child.stdout:
        while len(promises.acks) < wanted:
            line = child.stdout.readline()
            assert line, "the child ended by itself"
            promises.hear(line.decode())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
    # What it said before it died counts; a line that was torn was never said.
    for line in rest.split(b"\n")[:-1]:
        promises.hear(line.decode())
    assert child.wait(30) == -signal.SIGKILL


async def check(directory: Path, durability: str, promises: Promises) -> None:
    streams = await Streams.open(directory, kept(durability), on_appended=lambda *_: None, on_failure=fail)
    log = streams.get("ad-events")
    assert log is not None
    for (producer, sequence), ranges in promises.acks.items():
        post = split_post(sizes(sequence), f"{producer}-{sequence}", producer=producer, sequence=sequence)
        for part, (partition, first, end) in zip(post.parts, ranges, strict=True):
            (entry,) = await log.read(partition, first, end)
            assert (entry.partition, entry.payload) == (part.partition, part.payload)
    newest = max(promises.acks, key=lambda key: key[1])
    post = split_post(sizes(newest[1]), "-".join(map(str, newest)), producer=newest[0], sequence=newest[1])
    again = await log.append(post)
    assert again.duplicate
    assert [(r.partition, r.first, r.end) for r in again.ranges] == promises.acks[newest]
    bounds_log = await streams.open_bounds(JOB)
    found: dict[int, Ranges] = {}
    for bounds in bounds_log.bounds:
        found.setdefault(bounds.batch, []).append((bounds.partition, bounds.first, bounds.end))
    assert {batch: found[batch] for batch in promises.sealed} == promises.sealed
    assert all(bounds.end <= log.end_offset(bounds.partition) for bounds in bounds_log.bounds)
    for partition in range(PARTITIONS):
        first = 0
        for _, ranges in sorted(found.items()):
            assert ranges[partition][:2] == (partition, first), "batches leave no record out"
            first = ranges[partition][2]
    await bounds_log.close()
    await streams.close()


@pytest.mark.parametrize("durability", ["none", "batch", "always"])
def test_nothing_promised_is_lost(tmp_path: Path, durability: str) -> None:
    promises = Promises()
    for _ in range(ROUNDS):
        live_and_be_killed(tmp_path, durability, promises)
        asyncio.run(check(tmp_path, durability, promises))
    assert len(promises.acks) >= ROUNDS * ACKS_PER_ROUND
    assert len(list((tmp_path / "streams" / "ad-events").glob("*.segment"))) > ROUNDS
    assert promises.sealed

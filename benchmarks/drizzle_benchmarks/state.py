"""Batch time against the number of keys in state, at a fixed batch size: it should hardly grow.

One worker's computing in one process (`lane`), a process per row, all rows in turn: a count and a sum per
key, batches of NDJSON over keys drawn evenly, new ones among them. Batches come at their interval; merging
of state and snapshots run beside them, as in a worker, and whatever they cost a batch is in its time. At
the end the newest snapshot is restored.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import polars as pl

import drizzle_streams as dz
from drizzle_benchmarks.apart import Resident
from drizzle_benchmarks.lane import PARTITIONS, Lane, Stored, p50_and_p99, portions
from drizzle_benchmarks.lane_plots import plot_batch_times
from drizzle_benchmarks.numbers import listed, numbers
from drizzle_benchmarks.report import Report, Row, over_smallest
from drizzle_streams.api.job import Job

NAME = "state"
KEYS = (10_000, 100_000, 1_000_000, 10_000_000)
RATIO_MAX = 1.5
FILL_ROWS = 500_000
"""Keys that a batch adds while state is filled."""
TURNS = 5
"""Rows are measured in so many portions, in turn: a machine that others use is another one a minute later."""
WARM_BATCHES = 50
"""Of each portion, not measured: the caches belong to another row before."""
NEW_KEYS_SHARE = 0.01
"""Of the records of a batch: keys that the state does not hold yet."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a row is measured. A snapshot is taken every `checkpoint_batches`."""

    batch_rows: int
    batches: int
    interval_ms: float
    checkpoint_batches: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keys", type=numbers, default=KEYS, help=f"numbers of keys ({listed(KEYS)})")
    parser.add_argument("--batch-rows", type=int, default=1_000, help="records of a batch (%(default)s)")
    parser.add_argument("--batches", type=int, default=2_500, help="batches of a row (%(default)s)")
    parser.add_argument("--interval-ms", type=float, default=10.0, help="between batches (%(default)s)")
    parser.add_argument(
        "--checkpoint-batches", type=int, default=100, help="batches between snapshots (%(default)s)"
    )


async def run(arguments: argparse.Namespace) -> Report:
    """A row for each number of keys, a portion of each in turn."""
    settings = Settings(
        arguments.batch_rows, arguments.batches, arguments.interval_ms, arguments.checkpoint_batches
    )
    residents = [Resident(Course, keys, settings) for keys in arguments.keys]
    try:
        for one in residents:
            await one.moved_in()
        for _ in range(TURNS):
            for one in residents:
                await one.call("go_on")
        rows: list[Row] = [await one.call("end") for one in residents]
    finally:
        for one in residents:
            one.close()
    return Report(NAME, asdict(settings), rows, over_smallest(rows, "keys", RATIO_MAX))


def plot(report: Report, path: Path) -> None:
    plot_batch_times(report.rows, "keys", "keys in state", path)


def job() -> Job:
    """A running count and sum per key."""
    stream = dz.stream("events", schema={"key": pl.Int64, "value": pl.Int64})
    totals = stream.group_by("key").agg(n=dz.count(), total=dz.sum("value"))
    return totals.to(dz.redis("totals")).job("state", partitions=PARTITIONS, batch_interval="10ms")


class Course:
    """One row, in this process, a portion of its batches at a time."""

    def __init__(self, keys: int, settings: Settings) -> None:
        self._keys = keys
        self._settings = settings
        self._times: list[float] = []
        self._random = Random(keys)
        self._fresh = keys
        self._begun = 0
        self._turn = 0
        self._runner = asyncio.Runner()
        self._lane = self._runner.run(_filled(keys))

    def go_on(self) -> None:
        """The next portion; at its end nothing runs beside the batches any more."""
        ends = [self._settings.batches * turn // TURNS for turn in (self._turn, self._turn + 1)]
        self._turn += 1
        self._runner.run(self._batches(ends[1] - ends[0]))

    def end(self) -> Row:
        """The row. The newest snapshot is restored first."""
        row = self._runner.run(self._row())
        self._runner.close()
        return row

    async def _batches(self, batches: int) -> None:
        lane, settings = self._lane, self._settings
        due = time.perf_counter()
        for number in range(WARM_BATCHES + batches):
            payloads = self._payloads()
            due = max(due + settings.interval_ms / 1000.0, time.perf_counter())
            await asyncio.sleep(due - time.perf_counter())
            seconds = await lane.run(payloads)
            if number >= WARM_BATCHES:
                self._times.append(seconds)
            self._begun += 1
            if self._begun % settings.checkpoint_batches == 0:
                lane.begin_snapshot()
        await lane.rest()

    def _payloads(self) -> list[tuple[int, bytes]]:
        payloads: list[tuple[int, bytes]] = []
        for records in portions(self._settings.batch_rows):
            new = int(self._random.random() + records * NEW_KEYS_SHARE)
            chosen = [self._random.randrange(self._keys) for _ in range(records - new)]
            payloads.append((records, _lines([*chosen, *range(self._fresh, self._fresh + new)])))
            self._fresh += new
        return payloads

    async def _row(self) -> Row:
        lane, keys = self._lane, self._keys
        await lane.settle()
        restore_s, restored = await lane.restore()
        if restored.keys != restored.groups().height or restored.keys < keys:
            raise ValueError(f"restored {restored.keys} keys of {keys}")
        full = [stored for stored in lane.snapshots if stored.written == stored.bytes]
        changes = [stored for stored in lane.snapshots if stored.written < stored.bytes]
        await lane.close()
        return {
            "keys": keys,
            "batch_ms": p50_and_p99(self._times),
            "batch_ms_max": round(max(self._times) * 1000.0, 3),
            "merges": lane.merges,
            "state_bytes": restored.size_bytes,
            "snapshots": len(lane.snapshots),
            "snapshot_full_ms": _mean_ms(full),
            "snapshot_full_bytes": _mean_bytes(full),
            "snapshot_changes_ms": _mean_ms(changes),
            "snapshot_changes_bytes": _mean_bytes(changes),
            "restore_ms": round(restore_s * 1000.0, 1),
        }


async def _filled(keys: int) -> Lane:
    """All keys once, in large batches, as Arrow streams; then nothing is left to be merged."""
    lane = Lane(job().to_bytes())
    for first in range(0, keys, FILL_ROWS):
        some = pl.int_range(first, min(keys, first + FILL_ROWS), dtype=pl.Int64, eager=True).alias("key")
        frame = pl.DataFrame([some, some.alias("value")])
        await lane.run([_arrow(frame.gather_every(PARTITIONS, part)) for part in range(PARTITIONS)], "arrow")
        await lane.settle()
    return lane


def _lines(keys: list[int]) -> bytes:
    return b"".join(b'{"key":%d,"value":%d}\n' % (key, key % 7) for key in keys)


def _arrow(frame: pl.DataFrame) -> tuple[int, bytes]:
    return frame.height, frame.rechunk().write_ipc_stream(None).getvalue()


def _mean_ms(stored: list[Stored]) -> float | None:
    return round(sum(one.seconds for one in stored) * 1000.0 / len(stored), 1) if stored else None


def _mean_bytes(stored: list[Stored]) -> int | None:
    return sum(one.written for one in stored) // len(stored) if stored else None

"""Batch time against the number of keys in state, at a fixed batch size: it should hardly grow.

One worker's computing in one process (`lane`), a process per row: a count and a sum per key, batches of
NDJSON over keys drawn evenly, new ones among them. Batches come at their interval; merging of state and
snapshots run beside them, as in a worker, and whatever they cost a batch is in its time. At the end the
newest snapshot is restored.
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
from drizzle_benchmarks.lane import PARTITIONS, Lane, Stored, isolated, p50_and_p99, portions
from drizzle_benchmarks.lane_plots import plot_batch_times
from drizzle_benchmarks.numbers import listed, numbers
from drizzle_benchmarks.report import Report, Row, over_smallest
from drizzle_streams.api.job import Job

NAME = "state"
KEYS = (10_000, 100_000, 1_000_000, 10_000_000)
RATIO_MAX = 1.5
FILL_ROWS = 500_000
"""Keys that a batch adds while state is filled."""
WARM_BATCHES = 50
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
    """A row for each number of keys."""
    settings = Settings(
        arguments.batch_rows, arguments.batches, arguments.interval_ms, arguments.checkpoint_batches
    )
    rows = [await isolated(measure, keys, settings) for keys in arguments.keys]
    return Report(NAME, asdict(settings), rows, over_smallest(rows, "keys", RATIO_MAX))


def plot(report: Report, path: Path) -> None:
    plot_batch_times(report.rows, "keys", "keys in state", path)


def measure(keys: int, settings: Settings) -> Row:
    """One row, in this process."""
    return asyncio.run(_measured(keys, settings))


def job() -> Job:
    """A running count and sum per key."""
    stream = dz.stream("events", schema={"key": pl.Int64, "value": pl.Int64})
    totals = stream.group_by("key").agg(n=dz.count(), total=dz.sum("value"))
    return totals.to(dz.redis("totals")).job("state", partitions=PARTITIONS, batch_interval="10ms")


async def _measured(keys: int, settings: Settings) -> Row:
    lane = Lane(job().to_bytes())
    await _fill(lane, keys)
    seconds = await _batches(lane, keys, settings)
    await lane.settle()
    restore_s, restored = await lane.restore()
    if restored.keys != restored.groups().height or restored.keys < keys:
        raise ValueError(f"restored {restored.keys} keys of {keys}")
    full = [stored for stored in lane.snapshots if stored.written == stored.bytes]
    changes = [stored for stored in lane.snapshots if stored.written < stored.bytes]
    await lane.close()
    return {
        "keys": keys,
        "batch_ms": p50_and_p99(seconds),
        "batch_ms_max": round(max(seconds) * 1000.0, 3),
        "merges": lane.merges,
        "state_bytes": restored.size_bytes,
        "snapshots": len(lane.snapshots),
        "snapshot_full_ms": _mean_ms(full),
        "snapshot_full_bytes": _mean_bytes(full),
        "snapshot_changes_ms": _mean_ms(changes),
        "snapshot_changes_bytes": _mean_bytes(changes),
        "restore_ms": round(restore_s * 1000.0, 1),
    }


async def _fill(lane: Lane, keys: int) -> None:
    """All keys once, in large batches, as Arrow streams; then nothing is left to be merged."""
    for first in range(0, keys, FILL_ROWS):
        some = pl.int_range(first, min(keys, first + FILL_ROWS), dtype=pl.Int64, eager=True).alias("key")
        frame = pl.DataFrame([some, some.alias("value")])
        await lane.run([_arrow(frame.gather_every(PARTITIONS, part)) for part in range(PARTITIONS)], "arrow")
        await lane.settle()


async def _batches(lane: Lane, keys: int, settings: Settings) -> list[float]:
    """The seconds of every measured batch."""
    random, fresh, times = Random(keys), keys, list[float]()
    due = time.perf_counter()
    for number in range(WARM_BATCHES + settings.batches):
        payloads: list[tuple[int, bytes]] = []
        for records in portions(settings.batch_rows):
            new = int(random.random() + records * NEW_KEYS_SHARE)
            chosen = [random.randrange(keys) for _ in range(records - new)] + list(range(fresh, fresh + new))
            fresh += new
            payloads.append((records, _lines(chosen)))
        due = max(due + settings.interval_ms / 1000.0, time.perf_counter())
        await asyncio.sleep(due - time.perf_counter())
        seconds = await lane.run(payloads)
        if number >= WARM_BATCHES:
            times.append(seconds)
        if number % settings.checkpoint_batches == settings.checkpoint_batches - 1:
            lane.begin_snapshot()
    return times


def _lines(keys: list[int]) -> bytes:
    return b"".join(b'{"key":%d,"value":%d}\n' % (key, key % 7) for key in keys)


def _arrow(frame: pl.DataFrame) -> tuple[int, bytes]:
    return frame.height, frame.rechunk().write_ipc_stream(None).getvalue()


def _mean_ms(stored: list[Stored]) -> float | None:
    return round(sum(one.seconds for one in stored) * 1000.0 / len(stored), 1) if stored else None


def _mean_bytes(stored: list[Stored]) -> int | None:
    return sum(one.written for one in stored) // len(stored) if stored else None

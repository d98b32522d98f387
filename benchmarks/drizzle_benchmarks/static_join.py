"""Batch time against the size of the static side of a join, at a fixed batch size: it should hardly grow.

One worker's computing in one process (`lane`), a process per row: records name an ad, a table says its
campaign, and each campaign is counted. The ads of a batch are drawn evenly from the table, which goes
through the job's bytes. The API takes tables of up to 16 MiB, so a larger one is put into the job behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import polars as pl

import drizzle_streams as dz
from drizzle_benchmarks.apart import isolated
from drizzle_benchmarks.lane import PARTITIONS, Lane, p50_and_p99, portions
from drizzle_benchmarks.lane_plots import plot_batch_times
from drizzle_benchmarks.numbers import listed, numbers
from drizzle_benchmarks.report import Report, Row, over_smallest
from drizzle_streams.engine.shipping import ship_program
from drizzle_streams.protocol.jobfile import JobFile, pack_job

NAME = "static-join"
ROWS = (1_000, 10_000, 100_000, 1_000_000, 5_000_000)
RATIO_MAX = 1.5
CAMPAIGNS = 100
WARM_BATCHES = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=numbers, default=ROWS, help=f"rows of the table ({listed(ROWS)})")
    parser.add_argument("--batch-rows", type=int, default=1_000, help="records of a batch (%(default)s)")
    parser.add_argument("--batches", type=int, default=2_000, help="batches of a row (%(default)s)")


async def run(arguments: argparse.Namespace) -> Report:
    """A row for each size of the table."""
    settings = {"batch_rows": arguments.batch_rows, "batches": arguments.batches, "campaigns": CAMPAIGNS}
    rows = [await isolated(measure, size, arguments.batch_rows, arguments.batches) for size in arguments.rows]
    return Report(NAME, settings, rows, over_smallest(rows, "rows", RATIO_MAX))


def plot(report: Report, path: Path) -> None:
    plot_batch_times(report.rows, "rows", "rows of the static side", path)


def measure(rows: int, batch_rows: int, batches: int) -> Row:
    """One row, in this process."""
    return asyncio.run(_measured(rows, batch_rows, batches))


def job_bytes(rows: int) -> bytes:
    """Views counted per campaign, which a table of so many ads tells."""
    table = dz.table(_ads(1))
    views = dz.stream("views", schema={"ad": pl.Int32}).join(table, on="ad")
    counts = views.group_by("campaign").agg(n=dz.count()).to(dz.redis("campaigns"))
    made = counts.job("static-join", partitions=PARTITIONS, batch_interval="10ms").compile()
    program = replace(made.program, tables={name: _ads(rows) for name in made.program.tables})
    return pack_job(JobFile(made.spec, ship_program(program)))


def _ads(rows: int) -> pl.DataFrame:
    ads = pl.DataFrame([pl.int_range(0, rows, dtype=pl.Int32, eager=True).alias("ad")])
    return ads.with_columns((pl.col("ad") % CAMPAIGNS).alias("campaign"))


async def _measured(rows: int, batch_rows: int, batches: int) -> Row:
    data = job_bytes(rows)
    started = time.perf_counter()
    lane = Lane(data)
    loaded_s = time.perf_counter() - started
    random, times = Random(rows), list[float]()
    for number in range(WARM_BATCHES + batches):
        payloads: list[tuple[int, bytes]] = []
        for records in portions(batch_rows):
            lines = (b'{"ad":%d}\n' % random.randrange(rows) for _ in range(records))
            payloads.append((records, b"".join(lines)))
        seconds = await lane.run(payloads)
        if number >= WARM_BATCHES:
            times.append(seconds)
    counted = int(lane.state.groups().get_column("__records").sum())
    if counted != batch_rows * (WARM_BATCHES + batches):
        raise ValueError(f"counted {counted} of {batch_rows * (WARM_BATCHES + batches)} records")
    await lane.close()
    return {"rows": rows, "batch_ms": p50_and_p99(times), "load_ms": round(loaded_s * 1000.0, 1)}

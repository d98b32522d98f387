"""A worker dies by SIGKILL in the middle of a run: how late results become, and for how long.

After figure 7 of the paper (one machine killed; Drizzle back after one window, Flink after four), on one
machine: window latency by 200 ms windows, from the kill until it is normal again. Counts must be exact.
"""

from __future__ import annotations

import argparse

from drizzle_benchmarks.faults import add_load_arguments, measure
from drizzle_benchmarks.report import Report
from drizzle_benchmarks.runs import Loaded, under_load

NAME = "recovery"
BOUNDS = {"seconds_to_normal": 1.0, "above_normal_ms": 1_000.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much load."""
    add_load_arguments(parser, seconds=20)


async def run(arguments: argparse.Namespace) -> Report:
    """Kill one of two workers half-way."""

    async def once() -> Loaded:
        return await under_load(arguments.rate, arguments.seconds, kill="worker")

    return await measure(NAME, "SIGKILL of a worker", once, arguments, BOUNDS)

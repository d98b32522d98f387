"""The leading coordinator dies by SIGKILL while a standby waits: how late do batches become.

Workers finish the group they hold; the standby takes the lease, reads the ledger, and plans on. Measured
as window latency by 200 ms windows: the latest window after the kill is how late a batch became.
"""

from __future__ import annotations

import argparse

from drizzle_benchmarks.faults import add_load_arguments, measure
from drizzle_benchmarks.report import Report
from drizzle_benchmarks.runs import Loaded, under_load

NAME = "failover"
BOUNDS = {"above_normal_ms": 2_000.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much load."""
    add_load_arguments(parser, seconds=20)


async def run(arguments: argparse.Namespace) -> Report:
    """Kill the leader half-way."""

    async def once() -> Loaded:
        return await under_load(arguments.rate, arguments.seconds, kill="coordinator", standby=True)

    return await measure(NAME, "SIGKILL of the leading coordinator", once, arguments, BOUNDS)

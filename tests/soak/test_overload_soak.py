"""Three times what can be kept up with, on a real cluster: exact, alive, within memory, and normal again.

How fast this machine is, the benchmark finds out itself; here only what holds on any: how soon latency is
as it was before depends on what else a machine does, that it no longer waits for a backlog does not.
"""

from __future__ import annotations

import argparse
from statistics import median

import pytest

from drizzle_benchmarks import overload
from drizzle_benchmarks.report import Report

LAST_WINDOWS = 25
"""Five seconds."""


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_an_overload_is_lived_through_and_worked_off() -> None:
    parser = argparse.ArgumentParser()
    overload.add_arguments(parser)
    report = await overload.run(parser.parse_args(["--overload-seconds", "20"]))

    lived_through(report)


def lived_through(report: Report) -> None:
    (row,) = report.rows
    assert row["exact"] is True
    assert row["deaths"] == 0
    assert row["replayed_batches"] == 0
    assert row["backlog_end"] < row["sustainable_rate"]
    late = median(ms for _, ms, _ in report.series[0]["windows"][-LAST_WINDOWS:])
    assert late < max(overload.LATE_MS_MIN, row["peak_window_latency_ms"] / 4), "latency stayed high"
    for role, bound in overload.MEMORY_MIB.items():
        assert row["resident_mib"][role] <= bound

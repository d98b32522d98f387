"""Three times what can be kept up with, on a real cluster: exact, alive, within memory, and normal again.

How fast this machine is, the benchmark finds out itself; here only what holds on any.
"""

from __future__ import annotations

import argparse

import pytest

from drizzle_benchmarks import overload


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_an_overload_is_lived_through_and_worked_off() -> None:
    parser = argparse.ArgumentParser()
    overload.add_arguments(parser)
    report = await overload.run(parser.parse_args(["--overload-seconds", "20"]))

    (row,) = report.rows
    assert row["exact"] is True
    assert row["deaths"] == 0
    assert row["replayed_batches"] == 0
    assert row["backlog_end"] < row["sustainable_rate"]
    assert row["seconds_to_normal"] is not None, "latency never became normal again"
    for role, bound in overload.MEMORY_MIB.items():
        assert row["resident_mib"][role] <= bound

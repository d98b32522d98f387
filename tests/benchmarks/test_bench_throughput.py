"""The benchmark of throughput: all engines count the same, and what it claims is of the right rows."""

from __future__ import annotations

import argparse
import os
from typing import Any

import pytest

from drizzle_benchmarks import throughput
from drizzle_benchmarks.throughput import _claims, pinned


def row(engine: str, cores: int, speed: int, *, exact: bool = True) -> dict[str, Any]:
    return {"engine": engine, "query": "ysb", "cores": cores, "events_per_second": speed, "exact": exact}


def test_claims_compare_one_core_with_polars_and_two_with_one() -> None:
    rows = [row("drizzle", 1, 80), row("drizzle", 2, 120), row("polars", 1, 100), row("polars", 2, 500)]
    claims = {claim.name: claim for claim in _claims(rows)}
    assert claims["one core, over Polars as a batch"].measured == 0.8
    assert claims["two cores over one"].measured == 1.5
    assert [claim.holds for claim in claims.values()] == [True, False, True]


def test_counts_that_differ_are_no_result() -> None:
    assert not _claims([row("drizzle", 1, 80, exact=False)])[-1].holds


def test_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_bars_are_drawn(tmp_path) -> None:
    picture = tmp_path / "throughput.png"
    rows = [row("drizzle", 1, 80), row("polars", 1, 100), row("drizzle", 2, 120)]
    throughput.plot(throughput.Report("throughput", {}, rows, []), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.cluster
@pytest.mark.timeout(180)
async def test_all_engines_count_the_same() -> None:
    parser = argparse.ArgumentParser()
    throughput.add_arguments(parser)
    report = await throughput.run(parser.parse_args(["--events", "30000", "--cores", "1", "--rounds", "1"]))

    assert [row["engine"] for row in report.rows] == ["drizzle", "polars", "duckdb"]
    for row in report.rows:
        assert row["exact"]
        assert 8_000 < row["views"] < 12_000
        assert row["events_per_second"] >= row["events_per_second_with_start"] > 0
    assert [claim.bound for claim in report.claims] == [0.7, 0]

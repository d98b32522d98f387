"""Benchmarks of live load on a real cluster: they measure, and counts are exact. Speed is not asked for."""

from __future__ import annotations

import json

import pytest

from tests.cluster.drizzle_commands import Place

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

PERCENTILES = {"p50", "p95", "p99", "max"}


def test_latency_is_measured(place: Place) -> None:
    sizes = ["--rates", "2000", "--intervals", "50", "--seconds", "7", "--warm-up", "3"]
    bench = place.run("bench", "latency", *sizes, "--json", "bench.json", timeout_s=200.0)

    assert bench.code == 0, bench.said()
    (row,) = json.loads((place.folder / "bench.json").read_text())["rows"]
    assert (row["rate"], row["batch_interval_ms"], row["failure"]) == (2_000, 50, None)
    assert row["exact"] is True
    assert row["window_latency_ms"].keys() >= PERCENTILES
    assert row["batch_latency_ms"].keys() >= PERCENTILES
    assert row["cpu_cores"].keys() == {"coordinator", "worker", "source", "redis", "loadgen"}
    assert min(row["resident_mib"].values()) > 1
    assert place.left_behind() == ([], [])

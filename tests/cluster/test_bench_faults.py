"""`drizzle bench` on a real cluster: it measures, and its counts are exact. Speed is no matter for tests."""

from __future__ import annotations

import json

import pytest

from tests.cluster.drizzle_commands import Place

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

ROW = {
    "event",
    "exact",
    "normal_window_latency_ms",
    "peak_window_latency_ms",
    "seconds_to_normal",
    "replayed_batches",
    "survivors_max_gap_ms",
}


def test_a_kill_is_measured(place: Place) -> None:
    """Of the leader; `recovery` differs in who is killed: see `tests/benchmarks` and the demo."""
    sizes = ["--rate", "5000", "--seconds", "12", "--runs", "1"]
    bench = place.run("bench", "failover", *sizes, "--json", "bench.json", timeout_s=200.0)

    assert bench.code == 0, bench.said()
    report = json.loads((place.folder / "bench.json").read_text())
    (row,) = report["rows"]
    assert row.keys() >= ROW
    assert row["exact"] is True
    assert row["seconds_to_normal"] is None or row["seconds_to_normal"] >= 0.0
    assert row["peak_window_latency_ms"] >= row["normal_window_latency_ms"] > 0
    assert {claim["name"] for claim in report["claims"]} >= {"runs with exact counts"}
    assert place.left_behind() == ([], [])


def test_scaling_out_and_draining_are_measured(place: Place) -> None:
    sizes = ["--rate", "1000", "--seconds", "24", "--runs", "1"]
    bench = place.run("bench", "elasticity", *sizes, "--json", "bench.json", timeout_s=200.0)

    assert bench.code == 0, bench.said()
    report = json.loads((place.folder / "bench.json").read_text())
    out, drain = report["rows"]
    assert out["event"].startswith("scale-out")
    assert drain["event"].startswith("drain")
    for row in (out, drain):
        assert row.keys() >= {*ROW, "reaction_ms"}
        assert row["exact"] is True
        assert row["peak_window_latency_ms"] >= row["normal_window_latency_ms"] > 0
        assert row["reaction_ms"] > 0
    assert len(report["claims"]) == 6
    assert place.left_behind() == ([], [])

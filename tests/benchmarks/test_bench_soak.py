"""What a soak claims of its rows, and the micro benchmark's own cases."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from drizzle_benchmarks import micro, soak

DRIFT = "batch latency p50, fastest of the last fifth over first"


def row(**changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "batches": 100,
        "batch_latency_p50_ms": 8.0,
        "resident_bytes": {"worker-1": 100 * soak.MIB},
        "open_files": {"worker-1": 30},
        "redis_keys": 50,
        "redis_bytes": 2_000_000,
        "log_bytes": 1_000_000,
    }
    return values | changed


def test_what_grows_is_told() -> None:
    grown = row(
        resident_bytes={"worker-1": 140 * soak.MIB}, open_files={"worker-1": 60}, batch_latency_p50_ms=9.0
    )
    found = {claim.name: claim for claim in soak.claims([row(), grown])}
    memory = found["memory of worker-1, growth"]
    assert (memory.measured, memory.bound, memory.holds) == (40.0, 31.0, False)
    assert not found["open files of a service, growth"].holds
    assert found["redis keys, growth"].holds
    assert found[DRIFT].measured == 1.12


def test_a_slow_look_is_no_drift_and_slow_ones_alone_are() -> None:
    looks = [30.0, 8.0, *[9.0] * 6, 40.0, 9.0]
    calm = [row(batch_latency_p50_ms=ms) for ms in looks]
    slower = [*calm[:-1], row(batch_latency_p50_ms=20.0)]
    found = [{claim.name: claim for claim in soak.claims(rows)}[DRIFT] for rows in (calm, slower)]
    assert [(claim.measured, claim.holds) for claim in found] == [(1.12, True), (2.5, False)]


def test_one_look_claims_nothing() -> None:
    assert soak.claims([row()]) == []


def test_looks_are_drawn(tmp_path) -> None:
    picture = tmp_path / "soak.png"
    soak.plot(soak.Report("soak", {}, [row(), row(batches=200)], []), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.cluster
async def test_small_parts_are_measured(tmp_path) -> None:
    pytest.importorskip("pytest_benchmark")
    parser = argparse.ArgumentParser()
    micro.add_arguments(parser)
    report = await micro.run(parser.parse_args(["--seconds", "0.01", "--only", "codec or frames"]))
    assert [one["case"].partition("_")[0] for one in report.rows] == [
        "codec",
        "codec",
        "frames",
        "frames",
        "frames",
    ]
    assert all(one["median_us"] > 0 and one["rounds"] >= 5 for one in report.rows)
    picture = tmp_path / "micro.png"
    micro.plot(report, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")

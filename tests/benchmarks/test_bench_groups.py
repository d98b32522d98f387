"""The benchmarks of groups and of aggregation before the shuffle: what is late, changed, claimed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from drizzle_benchmarks import combine, groups, packing
from drizzle_benchmarks.combine_plots import plot_combine
from drizzle_benchmarks.groups_plots import plot_groups
from drizzle_loadgen.events import ads_table
from drizzle_streams.api.job import Job
from drizzle_streams.local.ysb import ysb_job

LATE = {"p50": 10.0, "p95": 20.0, "p99": 30.0, "max": 40.0, "count": 9}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    ads = tmp_path / "ads.parquet"
    ads_table(0).write_parquet(ads)
    return ysb_job(ads, window="1s", batch_interval="20ms", scheduling="group", group_size=5)


def test_a_batch_is_as_late_as_its_oldest_record() -> None:
    batches = [(4, 1_000.0, 5.0), (5, 1_010.0, 6.0), (6, 1_045.0, 7.0), (8, 1_060.0, 5.0)]
    assert groups.lateness(batches, 10.0) == [(5, 6.0), (6, 32.0)], "what was sealed late is late"


def test_only_what_is_compared_is_changed(job: Job) -> None:
    ahead, waits = Job.from_bytes(packing.pipelined(job)), Job.from_bytes(packing.not_pipelined(job))
    assert (ahead.spec.pipelined, waits.spec.pipelined) == (True, False)
    assert not ahead.spec.replanning
    with_, without = Job.from_bytes(packing.combined(job)), Job.from_bytes(packing.not_combined(job))
    shuffles = [made.program.stages[0].shuffle for made in (with_, without)]
    assert [one.partial for one in shuffles if one is not None] == [True, False]
    assert with_.spec == without.spec


@pytest.mark.parametrize("interval_ms", groups.INTERVALS_MS)
def test_checkpoints_fall_on_all_batches_of_a_group_alike(interval_ms: int, tmp_path: Path) -> None:
    ads = tmp_path / "ads.parquet"
    ads_table(0).write_parquet(ads)
    made = ysb_job(ads, window="1s", batch_interval=f"{interval_ms}ms", scheduling="group", group_size=5)
    spec = Job.from_bytes(packing.pipelined(made)).spec
    apart = spec.checkpoint_interval_ms / spec.batch_interval_ms
    assert [math.gcd(round(apart), size) for size in groups.SIZES] == [1, 1, 1]
    assert apart == pytest.approx(round(apart))


def row(pipelined: bool, boundary: float, **changed: Any) -> dict[str, Any]:
    values = {
        "batch_interval_ms": 10,
        "group_size": 20,
        "pipelined": pipelined,
        "boundaries": 300,
        "exact": True,
    }
    return {**values, "boundary_p99_ms": boundary, "other_p99_ms": 20.0} | changed


def test_boundaries_are_held_against_the_other_batches() -> None:
    rows = [
        row(False, 90.0),
        row(True, 21.0),
        row(True, 50.0, boundaries=30),
        row(True, 30.0, group_size=1, other_p99_ms=None),
    ]
    ratio, exact = groups.claims(rows)
    assert (ratio.measured, ratio.holds, exact.holds) == (1.05, True, True)


def test_a_run_is_long_enough_for_its_claim_unless_that_takes_too_long() -> None:
    """Groups of 100 batches of 50 ms would take 19 minutes: nothing is claimed of them."""
    assert groups.run_s(24.0, 4.0, 10, 5) == 24.0
    assert groups.run_s(24.0, 4.0, 10, 20) == pytest.approx(50.0)
    assert groups.run_s(24.0, 4.0, 50, 5) == pytest.approx(61.5)
    assert groups.run_s(24.0, 4.0, 50, 100) == 24.0


def combined(combine: bool, rate: int, **changed: Any) -> dict[str, Any]:
    values = {
        "rate": rate,
        "combine": combine,
        "shuffle_bytes_per_batch": 1_000,
        "window_latency_ms": LATE,
        "exact": True,
    }
    return values | changed


def test_the_highest_rate_is_compared() -> None:
    rows = [
        combined(False, 10),
        combined(True, 10),
        combined(False, 20, shuffle_bytes_per_batch=4_000),
        combined(True, 20),
    ]
    sizes, late, exact = combine.claims(rows)
    assert (sizes.measured, late.measured, exact.measured) == (0.25, 1.0, 4)


def test_what_was_not_measured_is_not_claimed_to_hold() -> None:
    rows = [combined(False, 10), combined(True, 10, window_latency_ms=None)]
    _, late, _ = combine.claims(rows)
    assert not late.holds


def test_both_are_drawn(tmp_path: Path) -> None:
    plot_groups([row(False, 90.0), row(True, 21.0)], tmp_path / "groups.png")
    plot_combine([combined(False, 10), combined(True, 10)], tmp_path / "combine.png")
    for picture in tmp_path.iterdir():
        assert picture.read_bytes().startswith(b"\x89PNG")

"""State and static joins: they measure what a worker computes, and claim a ratio."""

from __future__ import annotations

import polars as pl
import pytest

from drizzle_benchmarks import state, static_join
from drizzle_benchmarks.apart import Resident, isolated
from drizzle_benchmarks.lane import p50_and_p99, portions
from drizzle_benchmarks.report import Report, over_smallest


def test_batches_of_a_small_state_are_measured() -> None:
    settings = state.Settings(batch_rows=50, batches=23, interval_ms=1.0, checkpoint_batches=10)
    course = state.Course(700, settings)
    for _ in range(state.TURNS):
        course.go_on()
    assert len(course._times) == 23, "none is left out where turns are not even"
    row = course.end()
    assert row["keys"] == 700
    assert 0 < row["batch_ms"]["p50"] <= row["batch_ms"]["p99"] <= row["batch_ms_max"]
    assert row["snapshots"] >= 1
    assert row["snapshot_full_bytes"] > 700 * 8
    assert row["restore_ms"] > 0


def test_batches_that_join_are_measured_and_counted() -> None:
    row = static_join.measure(300, 40, 6)
    assert row["rows"] == 300
    assert 0 < row["batch_ms"]["p50"] <= row["batch_ms"]["p99"]


@pytest.mark.parametrize(("module", "size"), [(state, "keys"), (static_join, "rows")])
def test_the_largest_is_held_against_the_smallest(module, size: str, tmp_path) -> None:
    rows = [
        {size: number, "batch_ms": {"p50": ms, "p99": 2 * ms}}
        for number, ms in ((10, 2.0), (99, 9.0), (1000, 2.5))
    ]
    p50, p99 = over_smallest(rows, size, 1.5)
    assert (p50.measured, p50.holds) == (1.25, True)
    assert (p99.measured, p99.bound) == (1.25, 1.5)
    assert over_smallest(rows[:1], size, 1.5) == []
    picture = tmp_path / "times.png"
    module.plot(Report(module.NAME, {}, rows, []), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_records_are_spread_evenly() -> None:
    assert portions(10) == [2, 3, 2, 3]
    assert sum(portions(3)) == 3


def test_a_percentile_is_a_time_that_was_measured() -> None:
    assert p50_and_p99([0.001 * number for number in range(1, 201)]) == {"p50": 101.0, "p99": 199.0}


@pytest.mark.cluster
async def test_a_row_has_a_process_with_one_thread_of_polars() -> None:
    assert await isolated(pl.thread_pool_size) == 1


class Inhabitant:
    def __init__(self, first: int) -> None:
        self.numbers = [first]

    def add(self, number: int) -> tuple[int, list[int]]:
        self.numbers.append(number)
        return pl.thread_pool_size(), self.numbers

    def fail(self) -> None:
        raise ValueError(f"{len(self.numbers)} numbers")


@pytest.mark.cluster
async def test_a_resident_keeps_what_it_has_between_calls() -> None:
    one, other = Resident(Inhabitant, 1), Resident(Inhabitant, 7)
    try:
        for resident in (one, other):
            await resident.moved_in()
        assert await one.call("add", 2) == (1, [1, 2])
        assert await other.call("add", 8) == (1, [7, 8])
        with pytest.raises(ValueError, match="2 numbers"):
            await one.call("fail")
        assert await one.call("add", 3) == (1, [1, 2, 3])
    finally:
        for resident in (one, other):
            resident.close()

"""Percentiles mean what they say, and a histogram stays small."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_loadgen.report import Histogram, Percentiles, print_report, write_json

VALUES = st.lists(st.floats(0, 1e7, allow_nan=False), min_size=1, max_size=300)


def naive(values: list[float], percent: int) -> float:
    """The least value that at least `percent` of all values do not exceed."""
    needed = math.ceil(percent / 100 * len(values))
    return min(value for value in values if sum(other <= value for other in values) >= needed)


@given(VALUES)
def test_percentiles_are_exact(values: list[float]) -> None:
    found = Percentiles.of(values)
    assert found is not None
    assert (found.p50, found.p95, found.p99) == tuple(naive(values, percent) for percent in (50, 95, 99))
    assert (found.max, found.count) == (max(values), len(values))


@given(VALUES, VALUES)
def test_a_histogram_is_right_within_one_percent_also_when_merged(one: list[float], two: list[float]) -> None:
    first, second = Histogram(), Histogram()
    for value in one:
        first.add(value)
    for value in two:
        second.add(value)
    first.merge(second)
    found, exact = first.percentiles(), Percentiles.of(one + two)
    assert found is not None
    assert exact is not None
    assert (found.max, found.count) == (exact.max, exact.count)
    for name in ("p50", "p95", "p99"):
        true = getattr(exact, name)
        assert true - 0.001 <= getattr(found, name) <= true * 1.0101 + 0.001


def test_no_values_no_percentiles() -> None:
    assert Percentiles.of([]) is None
    assert Histogram().percentiles() is None


def test_a_histogram_does_not_grow_with_the_number_of_values() -> None:
    histogram = Histogram()
    for value in range(100_000):
        histogram.add(value / 100)
    assert len(histogram._buckets) < 1500


def test_json_goes_to_a_file_or_to_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json({"a": 1}, str(tmp_path / "r.json"))
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": 1}
    write_json({"a": 2}, "-")
    assert json.loads(capsys.readouterr().out) == {"a": 2}


def test_tables_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_report("title", [("sent", "5")], [("late", Percentiles.of([1.0, 2.0])), ("nothing", None)])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "sent" in shown.err
    assert "2.0" in shown.err
    assert "nothing" not in shown.err

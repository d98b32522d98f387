"""Sorting by hash: the quick way and the general one put rows in the same order."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.engine.index import order_of, sorted_by, sorted_within

# Hashes that are equal, that differ in their lower 16 bits only, and that have nothing in common.
hashes = st.one_of(st.integers(0, 3), st.integers(0, 1 << 17), st.integers(0, (1 << 64) - 1))
rows = st.lists(st.tuples(hashes, st.integers(0, 3), st.integers(0, 3)), max_size=30)


def frame_of(found: list[tuple[int, int, int]]) -> pl.DataFrame:
    schema = {"hash": pl.UInt64, "then": pl.UInt16, "rest": pl.Int64}
    return pl.DataFrame(found, schema=schema, orient="row").with_columns(row=pl.int_range(pl.len()))


@given(rows)
def test_an_order_sorts(found: list[tuple[int, int, int]]) -> None:
    column = frame_of(found).get_column("hash")
    order = order_of(column)
    assert order.dtype == pl.UInt32
    assert sorted(order.to_list()) == list(range(len(found)))
    assert column[order].to_list() == sorted(column.to_list())


@given(rows)
def test_within_equal_hashes_rows_are_sorted_by_what_follows(found: list[tuple[int, int, int]]) -> None:
    frame = frame_of(found)
    expected = frame.sort("hash", "then", "rest", maintain_order=True)
    assert sorted_within(frame, "hash", "then", ["rest"]).equals(expected)


@given(rows.map(lambda found: sorted(found, key=lambda row: row[1])))
def test_rows_that_come_in_order_of_what_follows(found: list[tuple[int, int, int]]) -> None:
    frame = frame_of(found)
    expected = frame.sort("hash", "then", "rest", maintain_order=True)
    assert sorted_within(frame, "hash", "then", ["rest"]).equals(expected)


@given(rows)
def test_ties_of_hashes_are_sorted_by_key(found: list[tuple[int, int, int]]) -> None:
    frame = frame_of(found).unique(["hash", "rest"], keep="first", maintain_order=True)
    expected = frame.sort("hash", "rest")
    assert sorted_by(frame, "hash", ["rest"]).equals(expected)


@pytest.mark.parametrize("count", [65_535, 65_536, 70_000])
def test_many_rows_sort_too(count: int) -> None:
    column = pl.Series("hash", [(number * 0x9E37_79B9_7F4A_7C15) % (1 << 64) for number in range(count)])
    column = column.cast(pl.UInt64)
    assert column[order_of(column)].is_sorted()

"""Groups by runs: what `group_by` would say, or no answer; and batches need no thread but their own."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.engine import groups

rows = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 1 << 16, (1 << 16) + 1, 1 << 40, (1 << 64) - 1]),
        st.sampled_from([None, "a", "b", "c"]),
        st.integers(0, 2),
        st.integers(-(1 << 62), 1 << 62),
    ),
    max_size=40,
)
SCHEMA = {"hash": pl.UInt64, "key": pl.String, "part": pl.UInt16, "value": pl.Int64}


def frame_of(values: list[tuple[int, str | None, int, int]]) -> pl.DataFrame:
    return pl.DataFrame(values, schema=SCHEMA, orient="row")


@given(rows)
def test_totals_are_those_of_group_by_or_none(values: list[tuple[int, str | None, int, int]]) -> None:
    frame = frame_of(values)
    found = groups.totals(frame, "hash", ["key"], ["part"], ["value"], counted="rows")
    if found is None:
        return
    sums = [pl.col("value").sum(), pl.len().cast(pl.Int64).alias("rows")]
    expected = frame.group_by(["hash", "key", "part"]).agg(sums)
    order = ["hash", "part"]
    assert found.select(expected.columns).equals(expected.sort(order))


@given(rows)
def test_rows_in_order_of_few_hashes_have_totals(values: list[tuple[int, str | None, int, int]]) -> None:
    """One key to a hash, ascending parts: nothing stands in the way, so there must be an answer."""
    frame = frame_of([(h, str(h), part, value) for h, _, part, value in values]).sort(
        "part", maintain_order=True
    )
    assert (groups.totals(frame, "hash", ["key"], ["part"], ["value"]) is None) == (not values)


@given(rows)
def test_the_newest_rows_are_those_of_unique_or_none(values: list[tuple[int, str | None, int, int]]) -> None:
    frame = frame_of(values)
    found = groups.newest(frame, "hash", ["hash", "key"])
    if found is not None:
        expected = frame.unique(subset=["hash", "key"], keep="last").sort("hash")
        assert found.equals(expected)


def test_rows_of_a_hash_with_two_keys_have_no_answer() -> None:
    frame = frame_of([(7, "a", 0, 1), (7, "b", 0, 2)])
    assert groups.totals(frame, "hash", ["key"], ["part"], ["value"]) is None
    assert groups.newest(frame, "hash", ["key"]) is None


def test_rows_of_a_hash_that_go_back_have_no_answer() -> None:
    frame = frame_of([(7, "a", 1, 1), (7, "a", 0, 2), (7, "a", 1, 4)])
    assert groups.totals(frame, "hash", ["key"], ["part"], ["value"]) is None


def test_many_rows_are_left_to_group_by() -> None:
    frame = frame_of([(7, "a", 0, 1)] * (groups.ROWS_MAX + 1))
    assert groups.totals(frame, "hash", ["key"], ["part"], ["value"]) is None

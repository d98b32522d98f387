"""A shuffled join in `dz.testing.run`: the same rows, batch by batch, whoever crashes when."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import drizzle_streams as dz
from drizzle_streams.testing import Result, crash
from tests.testing.test_testing_splits import layouts

SCHEMA = {"ad": pl.String, "paid": pl.Float64, "words": pl.List(pl.String), "at": pl.Int64}
ADS = pl.DataFrame(
    {
        "ad": ["a", "b", "b", "c", "d", None],
        "campaign": ["x", "x", "y", "y", "x", "z"],
        "weight": [0.1, 1e16, 0.3, -1e16, 7.7, 1.0],
    }
)
records = st.lists(
    st.fixed_dictionaries(
        {
            "ad": st.sampled_from(["a", "b", "c", "d", "e", None]),
            "paid": st.sampled_from([0.1, 0.7, -1e9, None]),
            "words": st.sampled_from([["p", "q", "p"], ["q"], [], None]),
            "at": st.integers(-9_000, 30_000),
        }
    ),
    max_size=30,
)
batches = st.lists(records | st.builds(crash, st.none() | st.just(0)), max_size=6)


def played(
    given_batches: list[Any], strategy: Any, how: Any, *, split: bool, exact: bool, **layout: int
) -> Result:
    stream = dz.stream("events", schema=SCHEMA, event_time="at", max_delay="1s")
    if split:
        stream = stream.explode("words")
    joined = stream.join(dz.table(ADS), on="ad", how=how, strategy=strategy).filter(pl.col("at") < 29_000)
    measures = {"n": dz.count(), "first": dz.first("ad"), "last": dz.last("at")}
    if not exact:
        measures |= {"weight": dz.sum("weight"), "paid": dz.mean(pl.col("paid") * pl.col("weight"))}
    counts = joined.window(dz.tumbling("10s")).group_by("campaign").agg(**measures)
    return dz.testing.run(counts.to(dz.console()).job("test"), given_batches, **layout)


def texts(result: Result) -> list[list[str]]:
    """Rows batch by batch; as text, so that the last bit counts."""
    return [sorted(map(str, batch.rows.rows())) for batch in result.batches]


@settings(max_examples=25, deadline=None)
@given(batches, layouts, st.sampled_from(["inner", "left"]), st.booleans(), st.booleans())
def test_rows_are_the_same_however_a_table_is_joined(
    given_batches: list[Any], layout: dict[str, int], how: str, split: bool, exact: bool
) -> None:
    once = played(given_batches, "broadcast", how, split=split, exact=exact, **layout)
    other = played(given_batches, "shuffled", how, split=split, exact=exact, **layout)
    assert texts(other) == texts(once)
    assert other.late_records == once.late_records
    assert sorted(map(str, other.late.rows())) == sorted(map(str, once.late.rows()))

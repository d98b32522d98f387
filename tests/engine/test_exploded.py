"""Lists as rows: what Python's own loops give, whatever is empty or null."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.engine import eager
from drizzle_streams.engine.operators import Steps
from drizzle_streams.engine.program import Explode, WithColumns

ROWS = st.lists(
    st.tuples(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(-9, 9)), max_size=4)), st.text())
)


@given(rows=ROWS)
def test_every_element_is_a_row_beside_what_its_row_had(rows: list[tuple[list[int | None] | None, str]]):
    schema = {"many": pl.List(pl.Int64), "text": pl.String}
    found = eager.exploded(pl.DataFrame(rows, schema=schema, orient="row"), "many")
    assert found.schema == {"many": pl.Int64, "text": pl.String}
    assert found.rows() == [(one, text) for many, text in rows for one in many or ()]


def test_only_what_is_kept_is_repeated() -> None:
    schema = {
        "many": pl.List(pl.Int64()),
        "text": pl.String(),
        "long": pl.String(),
        "__partition": pl.UInt16(),
    }
    frame = pl.DataFrame([([1, 2], "a", "x", 7), ([], "b", "y", 8)], schema=schema, orient="row")
    steps = Steps([Explode("many", kept=("text",))], {}, schema)
    assert steps.run(frame).rows(named=True) == [
        {"many": 1, "text": "a", "__partition": 7},
        {"many": 2, "text": "a", "__partition": 7},
    ]


@pytest.mark.parametrize(("column", "settled"), [("at", 1), ("other", 0)])
def test_a_column_that_is_exploded_has_its_values_only_then(column: str, settled: int) -> None:
    schema = {"at": pl.List(pl.Int64()), "other": pl.Int64()}
    steps = Steps([Explode("at"), WithColumns((pl.lit(1).alias("more"),))], {}, schema)
    assert steps.settled(column) == settled

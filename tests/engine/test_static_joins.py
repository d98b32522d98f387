"""Stream-static joins against a nested loop, with keys that collide."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_streams.engine import joins, keys
from drizzle_streams.engine.joins import TableJoin
from drizzle_streams.engine.program import JoinTable

LEFT = {"k": pl.String(), "j": pl.Int32(), "v": pl.Int64()}
RIGHT = {"id": pl.String(), "n": pl.Int64(), "v": pl.Int64(), "w": pl.String()}

NAMES = st.sampled_from(["a", "b", "c", "a-key-of-more-than-twelve-bytes", "", None])
NUMBERS = st.sampled_from([0, 1, None])
left_rows = st.lists(st.tuples(NAMES, NUMBERS, st.integers(0, 9)), max_size=12)
right_rows = st.lists(st.tuples(NAMES, NUMBERS, st.integers(0, 9), st.text(max_size=3)), max_size=12)


def expected(left: list[Any], right: list[Any], how: str, width: int) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for row in left:
        matches = [other for other in right if None not in row[:width] and row[:width] == other[:width]]
        rows += [(*row, *other[width:]) for other in matches]
        if not matches and how == "left":
            rows.append((*row, *[None] * (len(RIGHT) - width)))
    return rows


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("width", [1, 2])
@settings(max_examples=40)
@given(left=left_rows, right=right_rows, values=st.sampled_from([None, 2]))
def test_a_join_gives_what_a_nested_loop_gives(
    how: Any, width: int, left: list[Any], right: list[Any], values: int | None
) -> None:
    step = JoinTable("t", ("k", "j")[:width], ("id", "n")[:width], how)
    frame = pl.DataFrame(left, schema=LEFT, orient="row")
    table = pl.DataFrame(right, schema=RIGHT, orient="row")
    with pytest.MonkeyPatch.context() as patch:
        if values is not None:
            patch.setattr(joins, "key_hash", lambda *given: keys.key_hash(*given) % values)
        joined = TableJoin(step, table, LEFT).run(frame)
    assert joined.rows() == expected(left, right, how, width)
    renamed = ["v_right" if name == "v" else name for name in list(RIGHT)[width:]]
    assert joined.columns == [*LEFT, *renamed]


def test_a_table_of_keys_alone_filters() -> None:
    step = JoinTable("t", ("k",), ("id",), "inner")
    join = TableJoin(step, pl.DataFrame({"id": ["b", "a"]}), {"k": pl.String()})
    assert join.run(pl.DataFrame({"k": ["x", "a", "b", "a"]})).rows() == [("a",), ("b",), ("a",)]


@pytest.mark.parametrize("how", ["inner", "left"])
def test_an_empty_table_joins(how: Any) -> None:
    step = JoinTable("t", ("k",), ("id",), how)
    join = TableJoin(step, pl.DataFrame(schema={"id": pl.String, "w": pl.Int64}), {"k": pl.String()})
    assert join.run(pl.DataFrame({"k": ["x", None]})).rows() == (
        [("x", None), (None, None)] if how == "left" else []
    )


def test_a_probe_touches_few_rows_of_a_large_table() -> None:
    """Not a timing: nothing as long as the table is made for a batch, but for what matches."""
    table = pl.DataFrame({"id": [f"id-{n}" for n in range(20_000)]}).with_row_index("number")
    join = TableJoin(JoinTable("t", ("k",), ("id",), "inner"), table, {"k": pl.String()})
    frame = pl.DataFrame({"k": [f"id-{n}" for n in range(0, 40_000, 1000)]})
    assert join.run(frame).get_column("number").to_list() == list(range(0, 20_000, 1000))

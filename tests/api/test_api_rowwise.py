"""Only expressions that look at one row are taken: anything else would depend on where batches are cut.

The judge here is Polars itself: an expression that is taken gives the same rows whether a frame is taken
whole or in pieces, and one that is refused is shown to differ, to fail or to change the number of rows.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import polars as pl
import polars.selectors as cs
import pytest

from drizzle_streams.api.rowwise import check_rowwise
from drizzle_streams.api.trees import columns_of, resolved
from drizzle_streams.errors import BuildError

FRAME = pl.DataFrame(
    {
        "a": [3, 1, 2, 2, None, 9],
        "b": [2, 2, 1, 7, 5, 1],
        "s": ["x", "y,z", "", "x", None, "2024-01-02"],
        "t": ["x", "z", "q", "", "v", None],
        "l": [[1, 2], [3], [], None, [2, 9], [9]],
        "d": [datetime(2024, 1, 1, hour) for hour in range(6)],  # noqa: DTZ001 - a Datetime without zone
        "st": [{"x": value} for value in (1, 2, 3, 4, 5, 6)],
    },
    schema={
        "a": pl.Int64,
        "b": pl.Int64,
        "s": pl.String,
        "t": pl.String,
        "l": pl.List(pl.Int64),
        "d": pl.Datetime("us"),
        "st": pl.Struct({"x": pl.Int64}),
    },
)
SCHEMA = dict(FRAME.schema)
c = pl.col


def double(value: int) -> int:
    return value + value


TAKEN: dict[str, Callable[[], pl.Expr]] = {
    "comparison": lambda: c("a") > 1,
    "arithmetic": lambda: c("a") * 2 + c("b"),
    "literal": lambda: pl.lit(1),
    "arithmetic of literals": lambda: pl.lit(1) + 1,
    "list literal": lambda: pl.lit([1, 2]),
    "alias": lambda: c("a").alias("z"),
    "suffix": lambda: c("a").name.suffix("_z"),
    "cast": lambda: c("a").cast(pl.String),
    "fill_null": lambda: c("a").fill_null(0),
    "is_in constants": lambda: c("a").is_in([1, 2]),
    "is_in a Series": lambda: c("a").is_in(pl.Series([1, 2])),
    "is_in a list of the row": lambda: c("a").is_in(c("l")),
    "replace": lambda: c("a").replace({1: 2}),
    "replace_strict": lambda: c("a").replace_strict({1: 2}, default=0),
    "when": lambda: pl.when(c("a") > 1).then(2).otherwise(c("b")),
    "when without otherwise": lambda: pl.when(c("a") > 1).then(2),
    "clip": lambda: c("a").clip(0, 2),
    "clip by a column": lambda: c("a").clip(0, c("b")),
    "horizontal": lambda: pl.sum_horizontal("a", "b"),
    "horizontal over a selector": lambda: pl.max_horizontal(cs.integer()),
    "coalesce": lambda: pl.coalesce("a", "b"),
    "struct": lambda: pl.struct("a", "b"),
    "struct field": lambda: c("st").struct.field("x"),
    "struct with_fields": lambda: c("st").struct.with_fields(pl.field("x") + 1),
    "concat_str": lambda: pl.concat_str("s", "t", separator="-"),
    "format": lambda: pl.format("{}:{}", "s", "a"),
    "str.len": c("s").str.len_chars,
    "str.split": lambda: c("s").str.split(","),
    "str.contains": lambda: c("s").str.contains("x"),
    "str.contains a column": lambda: c("s").str.starts_with(c("t")),
    "str.contains_any": lambda: c("s").str.contains_any(["x"]),
    "str.replace by a column": lambda: c("s").str.replace("x", c("t")),
    "str.to_date with a format": lambda: c("s").str.to_date("%Y-%m-%d", strict=False),
    "dt.truncate": lambda: c("d").dt.truncate("1h"),
    "list.sum": c("l").list.sum,
    "list.eval": lambda: c("l").list.eval(pl.element() * 2),
    "list.eval with an aggregate": lambda: c("l").list.eval(pl.element().max()),
    "list.filter": lambda: c("l").list.filter(pl.element() > 1),
    "a selector": lambda: cs.integer() * 2,
    "all columns": pl.all,
    "a regex": lambda: c("^a|b$"),
    "exclude": lambda: pl.exclude("a"),
    "a Python function": lambda: c("a").map_elements(double, return_dtype=pl.Int64),
    "a Python function below": lambda: c("a").map_elements(double, return_dtype=pl.Int64) + 1,
    "a Python function of whole columns": lambda: c("a").map_batches(
        lambda column: column * 2, return_dtype=pl.Int64, is_elementwise=True
    ),
    "round": lambda: (c("a") / 3).round(1),
    "datetime of parts": lambda: pl.datetime(2024, 1, c("b")),
    "date literal": lambda: c("d") > date(2024, 1, 1),
}

REFUSED: dict[str, tuple[Callable[[], pl.Expr], str]] = {
    "sum": (lambda: c("a").sum(), "group_by"),
    "len": (pl.len, "group_by"),
    "count of a column": (lambda: c("a").count(), "group_by"),
    "over": (lambda: c("a").sum().over("b"), "group_by"),
    "over a row": (lambda: c("a").over("b"), "group_by"),
    "first": (lambda: c("a").first(), "group_by"),
    "an aggregate below": (lambda: c("a") - c("a").mean(), "group_by"),
    "an aggregate in a condition": (lambda: pl.when(c("a") > c("a").mean()).then(1), "group_by"),
    "an aggregate in an argument": (lambda: c("a").clip(0, c("b").max()), "group_by"),
    "len below": (lambda: c("a") + pl.len(), "group_by"),
    "cum_sum": (lambda: c("b").cum_sum(), "group_by"),
    "shift": (lambda: c("a").shift(1), "group_by"),
    "diff": (lambda: c("a").diff(), "group_by"),
    "rank": (lambda: c("b").rank(), "group_by"),
    "sort": (lambda: c("b").sort(), "group_by"),
    "reverse": (lambda: c("a").reverse(), "group_by"),
    "forward_fill": (lambda: c("a").forward_fill(), "group_by"),
    "fill_null with a strategy": (lambda: c("a").fill_null(strategy="mean"), "group_by"),
    "interpolate": (lambda: c("a").interpolate(), "group_by"),
    "is_duplicated": (lambda: c("b").is_duplicated(), "group_by"),
    "is_first_distinct": (lambda: c("b").is_first_distinct(), "group_by"),
    "rle_id": (lambda: c("b").rle_id(), "group_by"),
    "rolling": (lambda: c("b").rolling_sum(2), "group_by"),
    "cumulative_eval": (lambda: c("b").cumulative_eval(pl.element().sum()), "group_by"),
    "unique": (lambda: c("b").unique(), "group_by"),
    "head": (lambda: c("a").head(1), "group_by"),
    "gather": (lambda: c("a").gather([0]), "group_by"),
    "implode": (lambda: c("a").implode(), "group_by"),
    "filter of a column": (lambda: c("a").filter(c("b") > 1), "Filter the stream"),
    "drop_nulls": (lambda: c("a").drop_nulls(), "group_by"),
    "explode": (lambda: c("l").explode(), "A row must stay a row"),
    "int_range": (lambda: pl.int_range(pl.len()), "group_by"),
    "shuffle": (lambda: c("a").shuffle(seed=1), "group_by"),
    "sample": (lambda: c("a").sample(1, seed=1), "group_by"),
    "is_in the column": (lambda: c("a").is_in(c("b").implode()), "group_by"),
    "replace by columns": (lambda: c("a").replace(c("a"), c("b")), "list of constants"),
    "a Series": (lambda: c("a") + pl.lit(pl.Series([1, 2, 3, 4, 5, 6])), "dz.table"),
    "a guessed format": (lambda: c("s").str.to_date(strict=False), "Give the format"),
    "a Python function of the batch": (
        lambda: c("b").map_batches(lambda column: column.cum_sum(), return_dtype=pl.Int64),
        "is_elementwise=True",
    ),
    "fold": (lambda: pl.fold(0, lambda x, y: x + y, [c("a"), c("b")], return_dtype=pl.Int64), "group_by"),
}


def without_warnings(make: Callable[[], pl.Expr]) -> pl.Expr:
    """Polars advises against slow functions; here they are wanted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def split(expr: pl.Expr, cut: int) -> pl.DataFrame:
    """What the expression gives when a batch ends after `cut` rows."""
    return pl.concat([part.with_columns(expr) for part in (FRAME[:cut], FRAME[cut:])])


@pytest.mark.parametrize("name", TAKEN)
def test_row_by_row_expressions_are_taken_and_do_not_see_batches(name: str) -> None:
    expr = resolved(without_warnings(TAKEN[name]), SCHEMA, name)
    check_rowwise(expr, SCHEMA, name)
    for cut in range(FRAME.height + 1):
        assert split(expr, cut).equals(FRAME.with_columns(expr)), cut


@pytest.mark.parametrize("name", REFUSED)
def test_expressions_over_several_rows_are_refused_with_a_remedy(name: str) -> None:
    make, remedy = REFUSED[name]
    with pytest.raises(BuildError, match=f"^the step: wanted an expression whose .*, found .*{remedy}"):
        check_rowwise(without_warnings(make), SCHEMA, "the step")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in REFUSED
        if name not in {"rolling", "a Series", "fold", "over a row", "a guessed format"}
    ],
)
def test_what_is_refused_does_see_batches(name: str) -> None:
    """The test of the test above: were they row by row, refusing them would only be annoying."""
    expr = without_warnings(REFUSED[name][0])

    def outcome(*frames: pl.DataFrame) -> Any:
        try:
            return pl.concat([frame.select(x=expr) for frame in frames])["x"].to_list()
        except pl.exceptions.PolarsError as error:
            return type(error)

    whole = outcome(FRAME)
    several = [outcome(FRAME[:cut], FRAME[cut:]) for cut in range(1, FRAME.height)]
    changes_rows = isinstance(whole, list) and len(whole) != FRAME.height
    assert changes_rows or any(parts != whole for parts in several)


def test_a_column_as_a_set_is_refused() -> None:
    with pytest.raises(BuildError, match=r'found col\("b"\)\. Compare with a list of constants'):
        check_rowwise(c("a").is_in(c("b")), SCHEMA, "the step")


def test_a_python_function_says_what_it_returns() -> None:
    expr = without_warnings(lambda: c("a").map_elements(str))
    with pytest.raises(
        BuildError, match=r"wanted a Python function that says what it returns.*return_dtype="
    ):
        check_rowwise(expr, SCHEMA, "the step")


def test_selectors_are_fixed_to_the_columns_they_mean_now() -> None:
    fixed = resolved(cs.integer().name.suffix("_x"), SCHEMA, "the step")
    assert columns_of(fixed, "the step") == ("a", "b")
    wider = FRAME.with_columns(__partition=pl.lit(1))
    assert wider.select(fixed).columns == ["a_x", "b_x"]


def test_a_selector_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(
        BuildError, match=r"wanted a selector that matches at least one column, found cs\.boolean"
    ):
        resolved(cs.boolean(), SCHEMA, "the step")


def test_a_function_that_cannot_be_shipped_is_an_error() -> None:
    lock = threading.Lock()

    def guarded(value: int) -> int:
        with lock:
            return value

    expr = without_warnings(lambda: c("a").map_elements(guarded, return_dtype=pl.Int64))
    with pytest.raises(BuildError, match=r"wanted an expression that can be sent.*locks"):
        check_rowwise(expr, SCHEMA, "the step")

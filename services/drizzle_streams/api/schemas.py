"""The schema after every step, computed at build time by Polars itself on an empty frame.

A step is also run once on the empty frame: some type errors of Polars come only then. A step with a
Python function is not run, so that no user code runs while a job is being described.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import polars as pl

from drizzle_streams.api.names import check_new_column, listed, unknown_column
from drizzle_streams.api.rowwise import check_rowwise
from drizzle_streams.api.trees import columns_of, first_line, has_function, resolved
from drizzle_streams.errors import BuildError, explain

Schema = dict[str, pl.DataType]
IntoSchema = Mapping[str, pl.DataType | type]
Scalar = str | int | float | bool | bytes | Decimal | date | datetime | time | timedelta | None
IntoExpr = pl.Expr | Scalar

_SCALARS = (int, float, bool, bytes, Decimal, date, time, timedelta, type(None))


def schema_of(given: IntoSchema, thing: str) -> Schema:
    """A user's schema with its types fully spelled out."""
    if not isinstance(given, Mapping) or not given:
        raise BuildError(
            explain(
                f"{thing}: schema",
                wanted="a mapping of column names to Polars types",
                found=repr(given)[:120],
                remedy='Write, for example, schema={"user": pl.String, "amount": pl.Int64}.',
            )
        )
    for name in given:
        check_new_column(str(name), thing)
    try:
        found = pl.LazyFrame(schema=dict(given)).collect_schema()
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise BuildError(
            explain(
                f"{thing}: schema",
                wanted="names and Polars types",
                found=first_line(error),
                remedy="Use types such as pl.String, pl.Int64, pl.Float64, pl.Boolean, pl.Datetime('ms').",
            )
        ) from error
    for name, dtype in found.items():
        if dtype.is_object() or dtype == pl.Null:
            raise BuildError(
                explain(
                    f"{thing}: column {name!r}",
                    wanted="a type with values",
                    found=str(dtype),
                    remedy="Name one.",
                )
            )
    return dict(found)


def into_exprs(positional: Iterable[object], named: Mapping[str, object], thing: str) -> list[pl.Expr]:
    """Arguments as Polars takes them: names, expressions, lists of both, and name=expression."""
    exprs: list[pl.Expr] = []
    for item in positional:
        if isinstance(item, Sequence) and not isinstance(item, str | bytes):
            exprs.extend(into_expr(inner, thing) for inner in item)
        else:
            exprs.append(into_expr(item, thing))
    exprs.extend(into_expr(item, thing).alias(name) for name, item in named.items())
    if not exprs:
        raise BuildError(
            explain(thing, wanted="at least one column", found="none", remedy="Name columns to give.")
        )
    return exprs


def into_expr(item: object, thing: str) -> pl.Expr:
    """An expression; a string names a column, another scalar stands for itself."""
    if isinstance(item, pl.Expr):
        return item
    if isinstance(item, str):
        return pl.col(item)
    if isinstance(item, _SCALARS):
        return pl.lit(item)
    raise BuildError(
        explain(
            thing,
            wanted="a column name or a Polars expression",
            found=f"{type(item).__name__} {str(item)[:60]!r}",
            remedy='Write, for example, pl.col("amount") * 2.',
        )
    )


def checked(expr: pl.Expr, schema: Schema, thing: str) -> pl.Expr:
    """The expression with its selectors resolved, if it is row by row and reads columns that exist."""
    for name in columns_of(expr, thing):
        if name not in schema:
            raise unknown_column(name, schema, thing)
    with_names = resolved(expr, schema, thing)
    check_rowwise(with_names, schema, thing)
    return with_names


def type_of(expr: pl.Expr, schema: Schema, thing: str) -> pl.DataType:
    """The type of a checked expression."""
    found = _run(schema, lambda frame: frame.select(expr), (expr,), thing)
    if len(found) != 1:
        raise BuildError(
            explain(
                thing,
                wanted="one column",
                found=listed(found),
                remedy="Aggregate each in an argument of its own.",
            )
        )
    return next(iter(found.values()))


def after_filter(schema: Schema, predicate: pl.Expr, thing: str) -> None:
    """Raise unless the predicate is one Boolean column."""
    found = _run(schema, lambda frame: frame.select(predicate), (predicate,), thing)
    types = list(found.values())
    if len(types) != 1 or types[0] != pl.Boolean:
        raise BuildError(
            explain(
                thing,
                wanted="one Boolean predicate",
                found=", ".join(f"{name!r} of type {dtype}" for name, dtype in found.items()),
                remedy='Compare with something, for example pl.col("amount") > 0.',
            )
        )


def after_select(schema: Schema, exprs: Sequence[pl.Expr], thing: str) -> Schema:
    """The schema that a select gives."""
    found = _run(schema, lambda frame: frame.select(exprs), exprs, thing)
    _check_outputs(found, schema, exprs, thing)
    return found


def after_with_columns(schema: Schema, exprs: Sequence[pl.Expr], thing: str) -> Schema:
    """The schema that with_columns gives."""
    found = _run(schema, lambda frame: frame.with_columns(exprs), exprs, thing)
    _check_outputs({name: dtype for name, dtype in found.items() if name not in schema}, schema, (), thing)
    return found


def outputs_of(schema: Schema, expr: pl.Expr) -> tuple[str, ...]:
    """The names that a checked expression gives."""
    return tuple(pl.LazyFrame(schema=schema).select(expr).collect_schema())


def is_plain(expr: pl.Expr) -> bool:
    """Whether the expression is a column under its own name, or several."""
    return expr.meta.is_column_selection()


def _check_outputs(found: Schema, schema: Schema, exprs: Sequence[pl.Expr], thing: str) -> None:
    passed = {name for expr in exprs if is_plain(expr) for name in outputs_of(schema, expr)}
    for name in found:
        if name not in passed:
            check_new_column(name, thing)


def _run(
    schema: Schema, step: Callable[[pl.LazyFrame], pl.LazyFrame], exprs: Sequence[pl.Expr], thing: str
) -> Schema:
    try:
        result = step(pl.LazyFrame(schema=schema))
        found = dict(result.collect_schema())
        if not any(has_function(expr, thing) for expr in exprs):
            result.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise BuildError(
            explain(
                thing,
                wanted=f"expressions that fit the columns {listed_types(schema)}",
                found=first_line(error),
                remedy="Correct the expression, or cast the column first.",
            )
        ) from error
    return found


def listed_types(schema: Schema) -> str:
    """Columns with their types, bounded, for an error message."""
    shown = [f"{name}: {dtype}" for name, dtype in list(schema.items())[:12]]
    return ", ".join(shown) + (", …" if len(schema) > len(shown) else "")

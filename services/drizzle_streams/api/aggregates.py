"""Aggregates that split into partial, merge and finish, and therefore cost one row per group and batch.

`agg(clicks=dz.count(), spent=dz.sum("amount"))`: the argument's name is the column's name. Each takes a
column name or a row-by-row expression; nulls do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

import polars as pl

from drizzle_streams.api.schemas import IntoExpr, Schema, checked, into_expr, type_of
from drizzle_streams.engine.program import Aggregate, AggregateKind
from drizzle_streams.errors import BuildError, explain

_CAST: Final = "Cast it first, for example pl.col(...).cast(pl.Float64)."


@dataclass(frozen=True, slots=True)
class Measure:
    """An aggregate that has no name yet. Made by `count`, `sum`, `min`, `max`, `mean`, `first`, `last`."""

    kind: AggregateKind
    expr: pl.Expr | None

    def __repr__(self) -> str:
        return f"dz.{self.kind.value}({'' if self.expr is None else self.expr})"


def count(expr: IntoExpr = None) -> Measure:
    """How many rows; with an expression, how many of its values are not null. Int64."""
    return Measure(AggregateKind.COUNT, None if expr is None else into_expr(expr, "dz.count"))


def sum(expr: IntoExpr) -> Measure:  # noqa: A001 - read as dz.sum
    """The sum of numbers: Int64 or UInt64 of integers and Booleans, Float64 of floats; 0 of none."""
    return Measure(AggregateKind.SUM, into_expr(expr, "dz.sum"))


def min(expr: IntoExpr) -> Measure:  # noqa: A001 - read as dz.min
    """The smallest value; null of none."""
    return Measure(AggregateKind.MIN, into_expr(expr, "dz.min"))


def max(expr: IntoExpr) -> Measure:  # noqa: A001 - read as dz.max
    """The largest value; null of none."""
    return Measure(AggregateKind.MAX, into_expr(expr, "dz.max"))


def mean(expr: IntoExpr) -> Measure:
    """The mean of numbers, Float64; null of none."""
    return Measure(AggregateKind.MEAN, into_expr(expr, "dz.mean"))


def first(expr: IntoExpr) -> Measure:
    """The value with the lowest event time; without event time, the one that came first."""
    return Measure(AggregateKind.FIRST, into_expr(expr, "dz.first"))


def last(expr: IntoExpr) -> Measure:
    """The value with the highest event time; without event time, the one that came last."""
    return Measure(AggregateKind.LAST, into_expr(expr, "dz.last"))


def named(name: str, measure: object, schema: Schema, thing: str) -> tuple[Aggregate, pl.DataType]:
    """The aggregate under its name, checked against the schema, and the type of its column."""
    if not isinstance(measure, Measure):
        raise BuildError(
            explain(
                thing,
                wanted="dz.count(), dz.sum(...), dz.min, dz.max, dz.mean, dz.first or dz.last",
                found=f"{name}={str(measure)[:80]}",
                remedy=f"Write {name}={_suggestion(measure)}; Polars' own would see one batch only.",
            )
        )
    if measure.expr is None:
        return Aggregate(name, measure.kind), pl.Int64()
    expr = checked(measure.expr, schema, thing)
    return Aggregate(name, measure.kind, expr), _result(measure, type_of(expr, schema, thing), thing)


def _result(measure: Measure, dtype: pl.DataType, thing: str) -> pl.DataType:
    """The type of a result: sums go on for as long as the job, so the engine makes them wide."""
    match measure.kind:
        case AggregateKind.COUNT:
            return pl.Int64()
        case AggregateKind.SUM:
            return _sum_type(measure, dtype, thing)
        case AggregateKind.MEAN:
            if dtype.is_numeric() or dtype == pl.Boolean:
                return pl.Float64()
            raise _mismatch(measure, "numbers or Booleans", dtype, thing, _CAST)
        case AggregateKind.MIN | AggregateKind.MAX:
            if dtype.is_nested() or isinstance(dtype, pl.Categorical | pl.Object):
                remedy = "Aggregate a number, a text or a time."
                raise _mismatch(measure, "values with an order", dtype, thing, remedy)
            return dtype
        case AggregateKind.FIRST | AggregateKind.LAST:
            return dtype
        case _:
            assert_never(measure.kind)


def _sum_type(measure: Measure, dtype: pl.DataType, thing: str) -> pl.DataType:
    if dtype.is_unsigned_integer() and dtype != pl.UInt128:
        return pl.UInt64()
    if dtype == pl.Boolean or (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)):
        return pl.Int64()
    if dtype.is_float():
        return pl.Float64()
    if dtype.is_numeric() or isinstance(dtype, pl.Duration):
        return type_of(pl.col("x").sum(), {"x": dtype}, thing)
    raise _mismatch(measure, "numbers, Booleans or durations", dtype, thing, _CAST)


def _mismatch(measure: Measure, wanted: str, dtype: pl.DataType, thing: str, remedy: str) -> BuildError:
    return BuildError(explain(f"{thing}: {measure!r}", wanted=wanted, found=f"type {dtype}", remedy=remedy))


def _suggestion(measure: object) -> str:
    text = str(measure)
    for kind in AggregateKind:
        if f".{kind.value}()" in text and isinstance(measure, pl.Expr):
            return f"dz.{kind.value}({', '.join(repr(name) for name in measure.meta.root_names())})"
    return "dz.count()"

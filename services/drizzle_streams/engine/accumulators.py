"""What an aggregate remembers between batches, and the four things done with it.

An accumulator is a column: `partial` makes it from rows, `merge` from several of its own
values (rows of blocks), `combine` from the one in state and a new one, and `finish` of the
aggregate reads it. Splitting rows anywhere and merging gives the same values; with float
sums up to rounding, and exactly the same for the same batches.

FIRST and LAST remember where their value stood: event time if there is one, then upstream
partition and offset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from drizzle_streams.engine.columns import OFFSET, PARTITION
from drizzle_streams.engine.program import Aggregate, AggregateKind
from drizzle_streams.errors import BuildError, explain

RECORDS: Final = "__records"
"""int64: how many original records a row stands for."""
TIME: Final = "__time"
"""int64, ms: event time of a row, where FIRST or LAST need it."""

_OLD: Final = "__old"


@dataclass(frozen=True, slots=True)
class Accumulator:
    """One column of a partial and of state. `combine` finds the value in state under `old(name)`.

    `summand`: what a row adds, never null, where merging and combining are adding.
    """

    name: str
    partial: pl.Expr
    merge: pl.Expr
    combine: pl.Expr
    summand: pl.Expr | None = None


@dataclass(frozen=True, slots=True)
class AggregateParts:
    """An aggregate taken apart: its input as a column, its accumulators, its finished value.

    `finish` is an accumulator that holds the value as it is, or an expression over several.
    """

    input: pl.Expr | None
    accumulators: tuple[Accumulator, ...]
    finish: str | pl.Expr


def old(name: str) -> str:
    """The name under which the accumulator in state stands beside the new one."""
    return _OLD + name


def records_accumulator() -> Accumulator:
    """The accumulator every group has: how many records it stands for."""
    return _sum_of(RECORDS, pl.len().cast(pl.Int64), pl.lit(1, dtype=pl.Int64))


def take_apart(
    aggregate: Aggregate, number: int, schema: Mapping[str, pl.DataType], *, timed: bool
) -> AggregateParts:
    """The parts of the aggregate with that number, over rows of that schema."""
    if aggregate.expr is None:
        if aggregate.kind is not AggregateKind.COUNT:
            raise _unfit(aggregate, "an expression", "none")
        return AggregateParts(None, (), RECORDS)
    expr = aggregate.expr
    dtype = pl.DataFrame(schema=schema).select(expr.alias("_")).schema["_"]
    name = f"__in{number}"
    build = _BUILDERS[aggregate.kind]
    cast_to, accumulators, finish = build(aggregate, number, pl.col(name), dtype, timed)
    value = expr if cast_to is None else expr.cast(cast_to)
    return AggregateParts(value.alias(name), accumulators, finish)


_Built = tuple[pl.DataType | None, tuple[Accumulator, ...], str | pl.Expr]


def _count(_: Aggregate, number: int, value: pl.Expr, _dtype: pl.DataType, _timed: bool) -> _Built:
    name = f"__a{number}"
    return None, (_count_of(name, value),), name


def _sum(aggregate: Aggregate, number: int, value: pl.Expr, dtype: pl.DataType, _timed: bool) -> _Built:
    name = f"__a{number}"
    return _sum_type(aggregate, dtype), (_sum_of(name, value.sum(), _or_zero(value)),), name


def _mean(aggregate: Aggregate, number: int, value: pl.Expr, dtype: pl.DataType, _timed: bool) -> _Built:
    if not (dtype.is_numeric() or dtype == pl.Boolean):
        raise _unfit(aggregate, "numbers or booleans", str(dtype))
    added, counted = f"__a{number}", f"__b{number}"
    parts = (_sum_of(added, value.sum(), _or_zero(value)), _count_of(counted, value))
    quotient = pl.col(added).cast(pl.Float64) / pl.col(counted)
    return _sum_type(aggregate, dtype), parts, pl.when(pl.col(counted) > 0).then(quotient)


def _extreme(aggregate: Aggregate, number: int, value: pl.Expr, dtype: pl.DataType, _timed: bool) -> _Built:
    if dtype.is_nested() or isinstance(dtype, pl.Categorical | pl.Object):
        raise _unfit(aggregate, "values that have an order", str(dtype))
    name = f"__a{number}"
    new, before = pl.col(name), pl.col(old(name))
    least = aggregate.kind is AggregateKind.MIN
    if dtype.is_float():  # as the aggregations do, these leave NaN out where there is a number
        combine = pl.min_horizontal(new, before) if least else pl.max_horizontal(new, before)
    else:
        wins = before < new if least else before > new
        combine = pl.when(wins).then(before).otherwise(pl.coalesce(new, before))
    partial, merge = (value.min(), new.min()) if least else (value.max(), new.max())
    return None, (Accumulator(name, partial.alias(name), merge, combine.alias(name)),), name


def _picked(aggregate: Aggregate, number: int, value: pl.Expr, _dtype: pl.DataType, timed: bool) -> _Built:
    """FIRST and LAST: the value and where it stood; `partial` expects rows in that order."""
    first = aggregate.kind is AggregateKind.FIRST
    held = f"__a{number}"
    order = [(f"__p{number}", pl.col(PARTITION)), (f"__o{number}", pl.col(OFFSET))]
    if timed:
        order.insert(0, (f"__t{number}", pl.col(TIME)))
    names = [name for name, _ in order]
    wins = _wins(names, first=first)
    parts: list[Accumulator] = []
    for name, source in [(held, value), *order]:
        known = pl.when(value.is_not_null()).then(source)
        # Groups without a value stand nowhere (null): `nulls_last` keeps them from winning either end.
        merged = pl.col(name).sort_by(names, nulls_last=first)
        combine = (
            pl.when(wins).then(pl.col(old(name))).otherwise(pl.coalesce(pl.col(name), pl.col(old(name))))
        )
        parts.append(
            Accumulator(
                name,
                (known.first(ignore_nulls=True) if first else known.last(ignore_nulls=True)).alias(name),
                merged.first() if first else merged.last(),
                combine.alias(name),
            )
        )
    return None, tuple(parts), held


_BUILDERS: Final[Mapping[AggregateKind, Callable[[Aggregate, int, pl.Expr, pl.DataType, bool], _Built]]] = {
    AggregateKind.COUNT: _count,
    AggregateKind.SUM: _sum,
    AggregateKind.MEAN: _mean,
    AggregateKind.MIN: _extreme,
    AggregateKind.MAX: _extreme,
    AggregateKind.FIRST: _picked,
    AggregateKind.LAST: _picked,
}


def _wins(names: list[str], *, first: bool) -> pl.Expr:
    """Whether the value in state stands before (after) the new one, in the order of the columns."""
    found = pl.lit(value=False)
    for name in reversed(names):
        before, new = pl.col(old(name)), pl.col(name)
        found = (before < new if first else before > new) | ((before == new) & found)
    return found


def _sum_of(name: str, partial: pl.Expr, summand: pl.Expr) -> Accumulator:
    value = pl.col(name)
    # A zero of the column's own type, whatever that is: a Duration has no literal 0.
    combine = pl.coalesce(value + pl.col(old(name)), value)
    return Accumulator(name, partial.alias(name), value.sum(), combine, summand.alias(name))


def _count_of(name: str, value: pl.Expr) -> Accumulator:
    present = value.is_not_null()
    return _sum_of(name, present.sum().cast(pl.Int64), present.cast(pl.Int64))


def _or_zero(value: pl.Expr) -> pl.Expr:
    return value.fill_null(strategy="zero")


def _sum_type(aggregate: Aggregate, dtype: pl.DataType) -> pl.DataType | None:
    """The type to add up in: wide enough, and the same before and after merging."""
    if isinstance(dtype, pl.Int128 | pl.UInt128):
        return None
    if dtype.is_unsigned_integer():
        return pl.UInt64()
    if dtype.is_integer() or isinstance(dtype, pl.Boolean):
        return pl.Int64()
    if dtype.is_float():
        return pl.Float64()
    if dtype.is_numeric() or isinstance(dtype, pl.Duration):
        return None
    raise _unfit(aggregate, "numbers, booleans or durations", str(dtype))


def _unfit(aggregate: Aggregate, wanted: str, found: str) -> BuildError:
    return BuildError(
        explain(
            f"aggregate {aggregate.name!r} ({aggregate.kind})",
            wanted=wanted,
            found=found,
            remedy="Cast the column, or aggregate another one.",
        )
    )

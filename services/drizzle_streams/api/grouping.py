"""Keys and aggregates of a group_by: what they read, what they are called, what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from drizzle_streams.api.aggregates import Measure, named
from drizzle_streams.api.names import check_new_column
from drizzle_streams.api.plan import EventTime, Plan, Result
from drizzle_streams.api.schemas import (
    IntoExpr,
    Schema,
    after_with_columns,
    checked,
    into_expr,
    is_plain,
    outputs_of,
)
from drizzle_streams.api.windows import Tumbling
from drizzle_streams.engine.columns import WINDOW_END, WINDOW_START
from drizzle_streams.engine.keys import is_key_type
from drizzle_streams.engine.program import Aggregate, AggregateKind, Aggregation, TumblingWindow, WithColumns
from drizzle_streams.errors import BuildError, explain


def with_keys(plan: Plan, keys: Sequence[IntoExpr], thing: str) -> tuple[Plan, tuple[str, ...]]:
    """The plan with expressions among the keys as columns, and the names of all keys."""
    if not keys:
        raise no_key(thing)
    names: list[str] = []
    for key in keys:
        expr = checked(into_expr(key, thing), plan.schema, thing)
        outputs = outputs_of(plan.schema, expr)
        if not is_plain(expr):
            plan = _with_key_column(plan, expr, outputs, thing)
        names.extend(outputs)
    for name in names:
        if names.count(name) > 1:
            raise BuildError(
                explain(
                    thing,
                    wanted="each key once",
                    found=f"{name!r} {names.count(name)} times",
                    remedy="Drop one.",
                )
            )
        _check_key(name, plan.schema[name], thing)
    return plan, tuple(names)


def aggregated(
    plan: Plan, keys: tuple[str, ...], measures: Mapping[str, Measure], window: Tumbling | None, thing: str
) -> Plan:
    """The plan after `agg`: window columns, keys, aggregates."""
    if not measures:
        raise BuildError(
            explain(
                thing, wanted="at least one aggregate", found="none", remedy="Write .agg(rows=dz.count())."
            )
        )
    schema: Schema = {} if window is None else {WINDOW_START: pl.Int64(), WINDOW_END: pl.Int64()}
    schema |= {key: plan.schema[key] for key in keys}
    aggregates: list[Aggregate] = []
    for name, measure in measures.items():
        check_new_column(name, thing)
        if name in schema:
            raise BuildError(
                explain(
                    thing,
                    wanted="names that differ",
                    found=f"{name!r} as key and aggregate",
                    remedy="Rename it.",
                )
            )
        aggregate, schema[name] = named(name, measure, plan.schema, thing)
        aggregates.append(aggregate)
    aggregation, clock = _timed(Aggregation(keys, tuple(aggregates)), plan, window)
    result = Result(keys, windowed=window is not None, final=clock is not None)
    return replace(plan.then(aggregation, schema), event_time=clock, result=result)


def no_key(thing: str) -> BuildError:
    """The error for an aggregation without a key."""
    return BuildError(
        explain(
            thing,
            wanted="at least one key to group by",
            found="none",
            remedy='Write .group_by("<column>").agg(...); for one total, group by a constant: '
            '.with_columns(all=pl.lit("all")).group_by("all").',
        )
    )


def _timed(
    aggregation: Aggregation, plan: Plan, window: Tumbling | None
) -> tuple[Aggregation, EventTime | None]:
    """The aggregation with its window, and the event time of the rows it gives.

    Closed windows come in the order of time on every partition, so what follows needs no delay.
    Updates have no event time: a window over them would count them twice. Without a window only
    `first` and `last` look at event time.
    """
    clock = plan.event_time
    if window is None or clock is None:
        ordered = any(one.kind in (AggregateKind.FIRST, AggregateKind.LAST) for one in aggregation.aggregates)
        if ordered and clock is not None and clock.column in plan.schema:
            return replace(aggregation, event_time=clock.column), None
        return aggregation, None
    timed = replace(
        aggregation,
        window=TumblingWindow(window.size_ms),
        event_time=clock.column,
        max_delay_ms=clock.max_delay_ms,
        allowed_lateness_ms=window.allowed_lateness_ms,
        emit=window.emit,
    )
    if window.emit == "update":
        return timed, None
    return timed, EventTime(WINDOW_START, 0)


def _with_key_column(plan: Plan, expr: pl.Expr, outputs: Sequence[str], thing: str) -> Plan:
    taken = [name for name in outputs if name in plan.schema]
    if taken:
        raise BuildError(
            explain(
                thing,
                wanted="a key expression with a name of its own",
                found=f"{str(expr)[:80]}, which would replace the column {taken[0]!r}",
                remedy='Name it: (...).alias("<new name>").',
            )
        )
    return plan.then(WithColumns((expr,)), after_with_columns(plan.schema, (expr,), thing))


def _check_key(name: str, dtype: pl.DataType, thing: str) -> None:
    if is_key_type(dtype):
        return
    raise BuildError(
        explain(
            f"{thing}: key {name!r}",
            wanted="a text, an integer, a Boolean, a date or a time",
            found=f"type {dtype}",
            remedy="Cast or round it to one of these in with_columns: equal keys must have equal bytes.",
        )
    )

"""How the aggregation closes a stage: rows in, what goes through the shuffle out, aggregated or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.aggregation import AggregationPlan
from drizzle_streams.engine.columns import JOINED, OFFSET, ORDER, PARTITION
from drizzle_streams.engine.program import Aggregation

_NUMBER_BITS: Final = 32
"""Rows that a join makes of one row are numbered by that many bits, the rows before it by the others."""


@dataclass(frozen=True, slots=True)
class Closed:
    """`frame` goes through the shuffle, made of `rows` rows; `late` are those without event time, if any."""

    frame: pl.DataFrame
    rows: int
    late: pl.DataFrame | None


class Closing:
    """The aggregation behind the steps of a stage, over rows of that schema. Thread-safe: constant."""

    def __init__(self, aggregation: Aggregation, schema: Mapping[str, pl.DataType], key_groups: int) -> None:
        self._plan = AggregationPlan(aggregation, schema, key_groups)
        raw = replace(aggregation, partial=False)
        self._raw = AggregationPlan(raw, schema, key_groups)

    def close(self, rows: pl.DataFrame, *, partial: bool) -> Closed:
        """Aggregated where that is wanted, and the job allows it."""
        plan = self._plan if partial else self._raw
        if plan.spec.partial:
            return _closed(plan, rows, self._plan, aggregate=True)
        return _closed(plan, _with_offsets(rows), self._plan, aggregate=False)


class JoinedClosing:
    """The same for rows that were joined in a join that may be shuffled; they know where, as `JOINED`.

    A group then has a partial for each partition of the join, so totals must not depend on how rows
    were added up, nor on an order that partials do not remember. Where they do (`aggregates` is False),
    rows go through the shuffle as they are, and know their order.
    `unique`: no two rows had the same offset before the join.
    """

    def __init__(
        self, aggregation: Aggregation, schema: Mapping[str, pl.DataType], key_groups: int, *, unique: bool
    ) -> None:
        self._plan = AggregationPlan(aggregation, schema, key_groups, (JOINED,))
        self._numbers = self._plan.rounds or self._plan.ordered
        self.aggregates = aggregation.partial and not (
            self._plan.rounds or (self._plan.ordered and not unique)
        )
        apart, numbered = (JOINED,), dict(schema)
        if self._numbers:
            apart, numbered = (JOINED, ORDER), {**schema, ORDER: pl.UInt64()}
        self._raw = AggregationPlan(replace(aggregation, partial=False), numbered, key_groups, apart)

    def close(self, rows: pl.DataFrame, *, partial: bool) -> Closed:
        """Aggregated where that is wanted, and changes nothing."""
        if partial and self.aggregates:
            return _closed(self._plan, rows, self._plan, aggregate=True)
        return _closed(self._raw, _numbered(rows) if self._numbers else rows, self._plan, aggregate=False)


def _closed(
    plan: AggregationPlan, rows: pl.DataFrame, late_by: AggregationPlan, *, aggregate: bool
) -> Closed:
    inputs, untimed = plan.prepare(rows)
    placed = plan.place(plan.partial(inputs) if aggregate else inputs)
    late = None if untimed is None else late_by.finish_late(late_by.partial(untimed))
    return Closed(placed, inputs.height, late)


def _with_offsets(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows, numbered where they have no offsets: only their order counts."""
    return rows if OFFSET in rows.columns else rows.with_row_index(OFFSET).cast({OFFSET: pl.Int64})


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with `ORDER`: those that were made of one row are neighbours, and numbered from 0."""
    made_of = [name for name in (PARTITION, OFFSET, ORDER) if name in rows.columns]
    number = pl.int_range(pl.len(), dtype=pl.UInt64)
    another = pl.any_horizontal([pl.col(name) != pl.col(name).shift(1) for name in made_of]).fill_null(
        value=True
    )
    first = pl.when(another).then(number).forward_fill()
    order = number - first
    if ORDER in rows.columns:
        order = order + pl.col(ORDER) * pl.lit(1 << _NUMBER_BITS, dtype=pl.UInt64)
    return eager.with_columns(rows, [order.alias(ORDER)])

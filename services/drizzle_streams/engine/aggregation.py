"""Aggregation in three halves: partial before the shuffle, merge after it, finish on the way out.

    rows --prepare--> inputs --partial--> groups per upstream partition --merge--> groups
    groups + groups in state --combine--> groups with their totals --finish--> results

Rules:
- A partial groups by keys, window and upstream partition: what a partition contributes does
  not depend on which other partitions were computed in the same call.
- Without the partial before the shuffle the same partial runs behind it, on the same rows in
  the same order: the results are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.accumulators import (
    RECORDS,
    TIME,
    Accumulator,
    AggregateParts,
    old,
    records_accumulator,
    take_apart,
)
from drizzle_streams.engine.columns import (
    KEY_GROUP,
    KEY_HASH,
    OFFSET,
    ORDER,
    PARTITION,
    WINDOW_END,
    WINDOW_START,
    is_reserved,
)
from drizzle_streams.engine.groups import ROWS_MAX, can_be_summed, totals
from drizzle_streams.engine.index import sorted_by, sorted_within
from drizzle_streams.engine.keys import key_group, key_hash
from drizzle_streams.engine.program import Aggregate, AggregateKind, Aggregation
from drizzle_streams.engine.windows import SLOT, event_time_ms, slot, window_start
from drizzle_streams.errors import BuildError, explain


class AggregationPlan:
    """One aggregation over rows of a known schema, ready to run. Thread-safe: constant.

    `groups` names the columns that make a group (keys, then the window), `accumulators` those
    that hold its totals; `no_groups` is merged groups without a row. `additive`: all totals are
    sums; `in_place`: the accumulators, if their values can be written in place of older ones.
    `rounds`, `ordered`: whether totals depend on how rows were added up, on the order of rows.
    `apart` are columns of the rows that stay: no partial spans several of their values.
    """

    def __init__(
        self,
        aggregation: Aggregation,
        schema: Mapping[str, pl.DataType],
        key_groups: int,
        apart: tuple[str, ...] = (),
    ) -> None:
        _check(aggregation, schema)
        self.spec = aggregation
        self._apart = apart
        picks = any(needs_order(one) for one in aggregation.aggregates)
        self._timed = picks and aggregation.event_time is not None
        parts = [
            take_apart(one, number, schema, timed=self._timed)
            for number, one in enumerate(aggregation.aggregates)
        ]
        self._finish = list(
            zip((one.name for one in aggregation.aggregates), (part.finish for part in parts), strict=True)
        )
        held = [records_accumulator(), *(acc for part in parts for acc in part.accumulators)]
        self.accumulators = [acc.name for acc in held]
        self._partial = [acc.partial for acc in held]
        self._merge = [acc.merge for acc in held]
        self._combine = [acc.combine for acc in held]
        self.additive = all(acc.summand is not None for acc in held)
        self.groups = [*aggregation.keys, *([WINDOW_START] if aggregation.window else [])]
        self._hash = key_hash(aggregation.keys, schema)
        self._place = [key_group(key_groups), slot(aggregation.window)]
        self._prepare = self._preparation(parts, schema)
        self.ordered = picks
        nothing = pl.DataFrame(schema={**schema, PARTITION: pl.UInt16, OFFSET: pl.Int64})
        self._summands: list[pl.Expr] | None = None  # for the empty frames that tell the types
        no_partials = self.partial(self.prepare(nothing)[0])
        self.rounds = any(dtype.is_float() for dtype in no_partials.schema.values())
        self._summands = self._exact_sums(held, no_partials.schema)
        if self._summands is not None and aggregation.partial:
            self._prepare = [*self._prepare, self._hash]  # of columns that are read here anyway
        self.no_groups = self.merge(self.place(no_partials))
        fixed = all(_is_fixed(self.no_groups.schema[name]) for name in self.accumulators)
        self.in_place = self.accumulators if fixed else []

    def _exact_sums(self, held: list[Accumulator], types: Mapping[str, pl.DataType]) -> list[pl.Expr] | None:
        """What rows add to all accumulators but the first, their number; None if that is not all there is."""
        summands = [acc.summand for acc in held[1:] if acc.summand is not None]
        exact = self.additive and all(can_be_summed(types[acc.name]) for acc in held)
        return summands if exact else None

    def _preparation(self, parts: list[AggregateParts], schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
        spec = self.spec
        columns = [pl.col(name) for name in (*spec.keys, PARTITION, *self._apart)]
        if spec.event_time is not None and (spec.window is not None or self._timed):
            time = event_time_ms(spec.event_time, schema[spec.event_time])
            if spec.window is not None:
                columns.append(window_start(time, spec.window))
            if self._timed:
                columns.append(time.alias(TIME))
        if not spec.partial or any(needs_order(one) for one in spec.aggregates):
            columns.append(pl.col(OFFSET))
        return columns + [part.input for part in parts if part.input is not None]

    def prepare(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The inputs of the aggregation, and apart from them those that lack an event time, if any."""
        inputs = eager.select(rows, self._prepare)
        for name in (WINDOW_START, TIME):
            if name in inputs.columns and inputs.get_column(name).null_count():
                lacking = inputs.get_column(name).is_null()
                return eager.rows_where(inputs, ~lacking), eager.rows_where(inputs, lacking)
        return inputs, None

    def partial(self, inputs: pl.DataFrame) -> pl.DataFrame:
        """One row per group and upstream partition: groups, `PARTITION`, accumulators; in any order."""
        if self.ordered:
            order = [*([TIME] if self._timed else []), PARTITION, OFFSET]
            inputs = inputs.sort(order, maintain_order=True)  # a join may have made several rows of one
        found = self._partial_by_runs(inputs) if self._summands is not None else None
        if found is not None:
            return found
        groups = [*self.groups, PARTITION, *self._apart]
        return inputs.group_by(groups, maintain_order=True).agg(self._partial)

    def _partial_by_runs(self, inputs: pl.DataFrame) -> pl.DataFrame | None:
        """The same as `place` leaves it; None if that needs a `group_by`."""
        if not 0 < inputs.height <= ROWS_MAX:
            return None
        if KEY_HASH not in inputs.columns:
            inputs = eager.with_columns(inputs, [self._hash])
        held = (PARTITION, *self._apart)
        then = [*held, *self.groups[len(self.spec.keys) :]]
        given = [pl.col(name) for name in (*self.groups, *held, KEY_HASH)]
        rows = eager.select(inputs, [*given, *(self._summands or ()), *self._place])
        found = totals(rows, KEY_HASH, self.spec.keys, then, self.accumulators[1:], counted=RECORDS)
        if found is None:
            return None
        return _columns(found, *self.groups, *held, *self.accumulators, KEY_GROUP, SLOT)

    def place(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add key group and slot; sort by hash (so by key group), upstream partition, then what is left."""
        if SLOT in frame.columns:
            return frame  # a partial by runs
        rest = [name for name in (OFFSET, ORDER) if name in frame.columns] or self.groups[::-1]
        placed = eager.with_columns(eager.with_columns(frame, [self._hash]), self._place)
        placed = sorted_within(placed, KEY_HASH, PARTITION, rest)
        return eager.framed([column for column in placed.get_columns() if column.name != KEY_HASH])

    def only(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Placed partials without other columns."""
        return _columns(partials, *self.groups, PARTITION, *self.accumulators, KEY_GROUP, SLOT)

    def by_partition(self, partials: pl.DataFrame) -> pl.DataFrame:
        """One row per group and upstream partition where there were several; not for totals that round."""
        held = [pl.col(KEY_GROUP).first(), pl.col(SLOT).first(), *self._merge]
        merged = partials.group_by([*self.groups, PARTITION], maintain_order=True).agg(held)
        return self.only(merged.sort(SLOT, *self.groups, PARTITION))

    def merge(self, partials: pl.DataFrame) -> pl.DataFrame:
        """One row per group, sorted by slot: groups, `KEY_GROUP`, slot, accumulators.

        `partials` are placed, or several placed frames behind each other.
        """
        if self._summands is not None:
            rows = _columns(partials, *self.groups, KEY_GROUP, SLOT, *self.accumulators)
            found = totals(rows, SLOT, self.groups, (), self.accumulators)
            if found is not None:
                return found
        if self.rounds:  # adding floats rounds: always add them in the order of partitions
            partials = partials.sort(PARTITION, maintain_order=True)
        held = [pl.col(KEY_GROUP).first(), pl.col(SLOT).first(), *self._merge]
        merged = partials.group_by(self.groups, maintain_order=True).agg(held)
        return sorted_by(merged, SLOT, self.groups)

    def combine(self, new: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
        """Groups with their totals: `before` holds the accumulators in state, row by row, null where none."""
        renamed = [before.get_column(name).alias(old(name)) for name in self.accumulators]
        named = (pl.col(name) for name in (*self.groups, KEY_GROUP, SLOT))
        return eager.select(new.hstack(renamed), (*named, *self._combine))

    def finish(self, groups: pl.DataFrame, *extra: str) -> pl.DataFrame:
        """Results: window, keys, aggregates, and the `extra` columns of the groups behind them."""
        window = self.spec.window
        columns = [groups.get_column(name) for name in self.spec.keys]
        if window is not None:
            start = groups.get_column(WINDOW_START)
            columns = [start, (start + window.size_ms).alias(WINDOW_END), *columns]
        columns += [
            groups.get_column(held).alias(name)
            if isinstance(held, str)
            else eager.column(groups, held.alias(name))
            for name, held in self._finish
        ]
        return eager.framed([*columns, *(groups.get_column(name) for name in extra)])

    def finish_late(self, partials: pl.DataFrame) -> pl.DataFrame:
        """Late groups as results of their own, with `RECORDS`: the number of records each stands for."""
        return self.finish(partials, RECORDS)


def needs_order(aggregate: Aggregate) -> bool:
    """Whether an aggregate depends on the order of rows."""
    return aggregate.kind in {AggregateKind.FIRST, AggregateKind.LAST}


def needs_offsets(aggregation: Aggregation) -> bool:
    """Whether rows must know their offsets."""
    return not aggregation.partial or any(needs_order(one) for one in aggregation.aggregates)


def _columns(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    return eager.framed([frame.get_column(name) for name in names])


def _is_fixed(dtype: pl.DataType) -> bool:
    """Whether values of the type can be written in place of others."""
    return dtype.is_numeric() or dtype.is_temporal() or isinstance(dtype, pl.Boolean | pl.String)


def _check(spec: Aggregation, schema: Mapping[str, pl.DataType]) -> None:
    for name in (*spec.keys, *([spec.event_time] if spec.event_time else [])):
        if name not in schema:
            known = ", ".join(one for one in schema if not is_reserved(one))
            remedy = "Keep it through select, or name another one."
            raise BuildError(
                explain(f"column {name!r}", wanted="it before an aggregation", found=known, remedy=remedy)
            )
    if not spec.keys:
        raise BuildError(
            explain("aggregation", wanted="key columns", found="none", remedy="Group by a column.")
        )
    if spec.window is not None and spec.event_time is None:
        raise BuildError(
            explain(
                "window", wanted="an event time", found="none", remedy="Declare event_time of the stream."
            )
        )
    if spec.window is None and spec.emit == "close":
        raise BuildError(
            explain("emit='close'", wanted="a window", found="none", remedy="Add a window, or emit updates.")
        )

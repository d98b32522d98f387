"""Row-by-row steps of a stage: filter, select, with_columns, and joins with static tables.

The engine's own columns ride along through every step, so a row always knows where it came
from. Steps keep the order of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.columns import is_reserved
from drizzle_streams.engine.joins import TableJoin
from drizzle_streams.engine.program import Filter, JoinTable, Select, Step, WithColumns

_Schema = Mapping[str, pl.DataType]
_Ready = Filter | Select | WithColumns | TableJoin


class Steps:
    """The steps of one stage, ready to run. Thread-safe: nothing changes after construction.

    `schema` is that of the frames to come, the engine's columns included. `schemas[i]` is the
    schema before step i; the last one is the schema of the result.
    """

    def __init__(self, steps: Sequence[Step], tables: Mapping[str, pl.DataFrame], schema: _Schema) -> None:
        self._steps: list[_Ready] = []
        empty = pl.DataFrame(schema=schema)
        self.schemas: list[dict[str, pl.DataType]] = [dict(empty.schema)]
        for step in steps:
            ready = TableJoin(step, tables[step.table], empty.schema) if isinstance(step, JoinTable) else step
            empty = _run(ready, empty)
            self._steps.append(ready)
            self.schemas.append(dict(empty.schema))

    def run(self, frame: pl.DataFrame, first: int = 0, end: int | None = None) -> pl.DataFrame:
        """Run the steps [first, end) on a frame that has been through the steps before."""
        for step in self._steps[first:end]:
            frame = _run(step, frame)
        return frame

    def settled(self, column: str) -> int:
        """How many steps must have run before a column has the values it ends with.

        The marks of a batch are taken there: before filters, because rows that a filter
        drops tell how far the stream's time has come as well as others.
        """
        settled = 0
        for number, step in enumerate(self._steps):
            if column not in self.schemas[number] or _assigns(step, column):
                settled = number + 1
        return settled


def _run(step: _Ready, frame: pl.DataFrame) -> pl.DataFrame:
    match step:
        case Filter(predicate):
            return eager.where(frame, predicate)
        case Select(exprs):
            own = (pl.col(name) for name in frame.columns if is_reserved(name))
            return eager.select(frame, (*exprs, *own))
        case WithColumns(exprs):
            return eager.with_columns(frame, exprs)
        case TableJoin():
            return step.run(frame)
        case _:
            assert_never(step)


def _assigns(step: _Ready, column: str) -> bool:
    if not isinstance(step, Select | WithColumns):
        return False
    computed = [expr for expr in step.exprs if not expr.meta.is_column_selection()]
    names = [expr.meta.output_name(raise_if_undetermined=False) for expr in computed]
    return any(name is None or name == column for name in names)

"""Row-by-row steps of a stage: filter, select, with_columns, explode, and joins with static tables.

The engine's own columns ride along through every step, so a row always knows where it came
from. Steps keep the order of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import assert_never

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.columns import is_reserved
from drizzle_streams.engine.joins import TableJoin
from drizzle_streams.engine.program import Explode, Filter, JoinTable, Select, Step, WithColumns
from drizzle_streams.model.replanning import FilterSeen

_Schema = Mapping[str, pl.DataType]
_Ready = Filter | Select | WithColumns | Explode | TableJoin


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
        self._runs = _runs(steps)

    def run(
        self,
        frame: pl.DataFrame,
        first: int = 0,
        end: int | None = None,
        order: Sequence[int] | None = None,
        seen: list[FilterSeen] | None = None,
    ) -> pl.DataFrame:
        """Run the steps [first, end) on a frame that has been through the steps before.

        `order` is from `ordered`; what movable filters let through is added to `seen`.
        """
        for number in (order or range(len(self._steps)))[first:end]:
            before = frame.height
            frame = _run(self._steps[number], frame)
            if seen is not None and number in self._runs:
                seen.append(FilterSeen(number, self._runs[number], before, frame.height))
        return frame

    def ordered(self, filters: Sequence[int]) -> list[int] | None:
        """The order of all steps with those filters in theirs; None for the order in which they were written.

        Only neighbours change places: what names other steps, or not all of a run, is left as written.
        """
        order = list(range(len(self._steps)))
        for first in set(self._runs.values()):
            run = [number for number in order if self._runs.get(number) == first]
            wanted = [number for number in filters if number in run]
            if sorted(wanted) == run:
                order[first : first + len(run)] = wanted
        return None if order == list(range(len(order))) else order

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


def _runs(steps: Sequence[Step]) -> dict[int, int]:
    """Movable filters with a movable neighbour, by number: the number of the first of their run."""
    found: dict[int, int] = {}
    for number, (before, step) in enumerate(pairwise(steps), 1):
        if _movable(before) and _movable(step):
            found[number - 1] = found.get(number - 1, number - 1)
            found[number] = found[number - 1]
    return found


def _movable(step: Step) -> bool:
    return isinstance(step, Filter) and step.movable


def _run(step: _Ready, frame: pl.DataFrame) -> pl.DataFrame:
    match step:
        case Filter(predicate=predicate):
            return eager.where(frame, predicate)
        case Select(exprs):
            own = (pl.col(name) for name in frame.columns if is_reserved(name))
            return eager.select(frame, (*exprs, *own))
        case WithColumns(exprs):
            return eager.with_columns(frame, exprs)
        case Explode(column, kept):
            return eager.exploded(_narrowed(frame, column, kept), column)
        case TableJoin():
            return step.run(frame)
        case _:
            assert_never(step)


def _narrowed(frame: pl.DataFrame, column: str, kept: Sequence[str] | None) -> pl.DataFrame:
    """Without the columns that nobody would read of many more rows."""
    if kept is None:
        return frame
    wanted = {column, *kept}
    return pl.DataFrame([one for one in frame.get_columns() if one.name in wanted or is_reserved(one.name)])


def _assigns(step: _Ready, column: str) -> bool:
    if isinstance(step, Explode):
        return step.column == column
    if not isinstance(step, Select | WithColumns):
        return False
    computed = [expr for expr in step.exprs if not expr.meta.is_column_selection()]
    names = [expr.meta.output_name(raise_if_undetermined=False) for expr in computed]
    return any(name is None or name == column for name in names)

"""Which stages call functions of the user's: whoever runs a task must know that it may take any time.

Known when a job is compiled, for that is when expressions are taken apart (`api.trees`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import polars as pl

from drizzle_streams.api.trees import has_function
from drizzle_streams.engine.program import Aggregation, Filter, Select, StageProgram, WithColumns


def marked(stage: StageProgram) -> StageProgram:
    """The stage, with what is to be known of its expressions (`StageProgram.calls_python`)."""
    return replace(stage, calls_python=any(has_function(expr, "an expression") for expr in _exprs(stage)))


def _exprs(stage: StageProgram) -> Iterator[pl.Expr]:
    """All expressions that its tasks evaluate: steps, and aggregates before the shuffle or behind it."""
    for step in stage.steps:
        match step:
            case Filter(predicate=predicate):
                yield predicate
            case Select(exprs=exprs) | WithColumns(exprs=exprs):
                yield from exprs
            case _:
                pass
    for aggregation in (stage.merge, stage.shuffle):
        yield from _measured(aggregation)


def _measured(aggregation: Aggregation | None) -> Iterator[pl.Expr]:
    if aggregation is not None:
        yield from (aggregate.expr for aggregate in aggregation.aggregates if aggregate.expr is not None)

"""Lists as rows, checked: the column is there and holds lists, and no keys tell its rows apart yet."""

from __future__ import annotations

import polars as pl

from drizzle_streams.api.names import unknown_column
from drizzle_streams.api.plan import Plan
from drizzle_streams.engine.program import Explode
from drizzle_streams.errors import BuildError, explain


def exploded(plan: Plan, column: object, thing: str) -> Plan:
    """The plan with a row for each element of a list column; raises `BuildError` where it cannot be made."""
    if not isinstance(column, str):
        remedy = (
            'Make it a column first: .with_columns(words=pl.col("line").str.split(" ")).explode("words").'
        )
        raise BuildError(
            explain(thing, wanted="the name of a column", found=repr(column)[:80], remedy=remedy)
        )
    if column not in plan.schema:
        raise unknown_column(column, plan.schema, thing)
    if plan.result is not None:
        raise BuildError(
            explain(
                thing,
                wanted="a stream before its first aggregation",
                found=f"the rows of an aggregation, told apart by {', '.join(plan.result.identity)}",
                remedy="Explode before the group_by: several rows of one key would replace each other.",
            )
        )
    dtype = plan.schema[column]
    if not isinstance(dtype, pl.List):
        raise BuildError(
            explain(
                f"{thing}: column {column!r}",
                wanted="a list",
                found=f"type {dtype}",
                remedy="Make one, for example with .str.split of a text, or .arr.to_list of an array.",
            )
        )
    inner = dtype.inner
    return plan.then(Explode(column), plan.schema | {column: inner() if isinstance(inner, type) else inner})

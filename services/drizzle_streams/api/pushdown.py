"""Cheaper steps with the same answer: filters first, and only the columns that something needs.

What is not read need not be parsed, and parsing is most of what a map task does. Both rewrites rely on
steps being row by row (`rowwise`): no step can see whether rows or columns it does not name are there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import polars as pl

from drizzle_streams.api.schemas import Schema, is_plain, outputs_of
from drizzle_streams.api.trees import Node, columns_of, kind_of, tree
from drizzle_streams.engine.program import Aggregation, Explode, Filter, JoinTable, Select, Step, WithColumns

Line = tuple[tuple[Step, Schema], ...]
"""Steps in order, each with the schema before it."""

_TOTAL = frozenset({"Alias", "BinaryExpr", "Boolean", "Column", "Function", "Literal", "Selector", "Ternary"})
_THING = "a step"


@dataclass(frozen=True, slots=True)
class Pruned:
    """Steps that keep to what is needed.

    `columns` are needed before them, `joined[i]` of the table of the join that comes i-th.
    """

    steps: tuple[Step, ...]
    columns: tuple[str, ...]
    joined: tuple[tuple[str, ...], ...]


def needed_by(aggregation: Aggregation) -> tuple[str, ...]:
    """The columns an aggregation reads."""
    names = [*aggregation.keys]
    for aggregate in aggregation.aggregates:
        names.extend(() if aggregate.expr is None else columns_of(aggregate.expr, _THING))
    if aggregation.event_time is not None:
        names.append(aggregation.event_time)
    return tuple(dict.fromkeys(names))


def filters_first(line: Line, event_time: str | None) -> Line:
    """The steps with every filter as early as its columns are there.

    Not before the event time is there: rows that a filter drops tell how far the stream's time has come.
    """
    ordered: list[tuple[Step, Schema]] = []
    for step, schema in line:
        place = len(ordered)
        if isinstance(step, Filter):
            while place and _may_go_before(step, *ordered[place - 1], event_time):
                place -= 1
        ordered.insert(place, (step, ordered[place][1] if place < len(ordered) else schema))
    return tuple(ordered)


def pruned(line: Line, needed: Collection[str]) -> Pruned:
    """The steps without the columns that neither a later step nor `needed` reads."""
    kept: list[Step] = []
    joined: list[tuple[str, ...]] = []
    wanted = dict.fromkeys(needed)
    for step, schema in reversed(line):
        match step:
            case Filter(predicate):
                kept.append(step)
                wanted |= dict.fromkeys(columns_of(predicate, _THING))
            case Select(exprs):
                left = _kept(exprs, schema, wanted) or exprs[:1]
                kept.append(Select(left))
                wanted = _read(left)
            case WithColumns(exprs):
                left = _kept(exprs, schema, wanted)
                made = {name for expr in left for name in outputs_of(schema, expr)}
                wanted = {name: None for name in wanted if name not in made} | _read(left)
                kept.extend([WithColumns(left)] if left else [])
            case JoinTable():
                kept.append(step)
                joined.append((*step.right_on, *(name for name in wanted if name not in schema)))
                wanted = {name: None for name in wanted if name in schema} | dict.fromkeys(step.left_on)
            case Explode(column):
                kept.append(replace(step, kept=tuple(wanted)))
                wanted |= {column: None}
            case _:
                assert_never(step)
    return Pruned(tuple(reversed(kept)), tuple(wanted), tuple(reversed(joined)))


def _may_go_before(step: Filter, other: Step, schema: Schema, event_time: str | None) -> bool:
    """Whether a filter may run before the step that stands in front of it."""
    names = columns_of(step.predicate, _THING)
    match other:
        case Filter():
            return False
        case Select(exprs):
            passed = {name for expr in exprs if is_plain(expr) for name in outputs_of(schema, expr)}
            return passed.issuperset(names) and event_time in (*passed, None)
        case WithColumns(exprs):
            return not {name for expr in exprs for name in outputs_of(schema, expr)} & {*names, event_time}
        case JoinTable():
            if event_time is not None and event_time not in schema:
                return False
            return all(name in schema for name in names) and _never_fails(tree(step.predicate, _THING))
        case Explode(column):
            return column not in {*names, event_time} and _never_fails(tree(step.predicate, _THING))
        case _:
            assert_never(other)


def _never_fails(node: Node) -> bool:
    """Whether an expression gives a value for any row: rows it fails on may not have come so far."""
    kind, body = kind_of(node)
    if kind not in _TOTAL:
        return False
    if kind == "Function":
        return kind_of(body["function"])[0] == "Boolean" and all(
            _never_fails(inner) for inner in body["input"]
        )
    if kind == "BinaryExpr":
        return _never_fails(body["left"]) and _never_fails(body["right"])
    if kind == "Ternary":
        return all(_never_fails(inner) for inner in body.values())
    return _never_fails(body[0]) if kind == "Alias" else True


def movable(step: Filter) -> Filter:
    """The filter, marked if it gives a value for any row."""
    return replace(step, movable=_never_fails(tree(step.predicate, _THING)))


def _kept(exprs: Sequence[pl.Expr], schema: Schema, wanted: Collection[str]) -> tuple[pl.Expr, ...]:
    return tuple(expr for expr in exprs if any(name in wanted for name in outputs_of(schema, expr)))


def _read(exprs: Sequence[pl.Expr]) -> dict[str, None]:
    return dict.fromkeys(name for expr in exprs for name in columns_of(expr, _THING))

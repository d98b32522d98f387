"""The rule that makes answers independent of batches: an expression looks at one row at a time.

Where a stream is cut into batches is an accident of time. `pl.col("x").sum()` in a filter would
be the sum of whatever happened to come in the last 50 ms, and another value in a replay with
other bounds. So whatever is not row by row is refused, and the error says what to do instead.

How it is told: `meta.is_row_separable` of Polars looks at the outermost node only and fails
where a Python function or a selector is below, so the tree is walked here and Polars is asked about
one function at a time. What is not known to be row by row is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from drizzle_streams.api.trees import Node, expression, kind_of, tree, wording
from drizzle_streams.errors import BuildError, explain

_LEAVES: Final = frozenset({"Column", "Selector", "Field", "Element"})
_INNER: Final = {
    "Alias": (0,),
    "KeepName": (),
    "RenameAlias": ("expr",),
    "Cast": ("expr",),
    "BinaryExpr": ("left", "right"),
    "Ternary": ("predicate", "truthy", "falsy"),
}
"""Nodes that are row by row if what is in these places is; `()` is the body itself."""

_SETS: Final[dict[tuple[str, ...], tuple[int, ...]]] = {
    ("Boolean", "IsIn"): (1,),
    ("Replace",): (1, 2),
    ("ReplaceStrict",): (1, 2),
    ("StringExpr", "ContainsAny"): (1,),
    ("StringExpr", "ExtractMany"): (1,),
    ("StringExpr", "FindMany"): (1,),
    ("StringExpr", "ReplaceMany"): (1, 2),
}
"""Functions whose inputs at these places are sets: a whole column there would be the batch's."""

_UNTYPED: Final = b"PLPYFN\x94\xc0"
"""How Polars begins a Python function that has no return_dtype (its dtype is a MessagePack nil)."""

_PLACEHOLDER: Final = {"Column": "_"}

_AGGREGATE: Final = "Aggregate with .group_by(...).agg(...); a batch is an accident of time."
_REMEDIES: Final = {
    "Agg": _AGGREGATE,
    "Len": _AGGREGATE,
    "Over": _AGGREGATE,
    "Rolling": _AGGREGATE,
    "AnonymousFunction": "If a row's result needs that row alone, pass is_elementwise=True to map_batches.",
    "Strptime": 'Give the format, for example str.to_datetime("%Y-%m-%d %H:%M:%S"): else it is guessed.',
    "Literal": "Use a list or a scalar; rows of a fixed data set belong into a dz.table and a join.",
    "Filter": "Filter the stream: .filter(...).",
    "Explode": "A row must stay a row here: .explode(column) of the stream gives a row per element.",
}


_ROW_BY_ROW: Final = "an expression whose result for a row depends on that row alone"


class _RefusedError(Exception):
    """Carries the offending part up to `check_rowwise`."""

    def __init__(self, part: Node, remedy: str, wanted: str = _ROW_BY_ROW) -> None:
        super().__init__()
        self.part = part
        self.remedy = remedy
        self.wanted = wanted


def check_rowwise(expr: pl.Expr, schema: Mapping[str, pl.DataType], thing: str) -> None:
    """Raise a `BuildError` unless every row's result depends on that row alone."""
    node = tree(expr, thing)
    try:
        _check(node, schema)
    except _RefusedError as refused:
        found = wording(refused.part)
        raise BuildError(explain(thing, wanted=refused.wanted, found=found, remedy=refused.remedy)) from None


def _check(node: Node, schema: Mapping[str, pl.DataType]) -> None:
    kind, body = kind_of(node)
    if kind in _LEAVES:
        return
    if kind in _INNER:
        for place in _INNER[kind] or (None,):
            _check(body if place is None else body[place], schema)
    elif kind == "Literal":
        if kind_of(body)[0] in ("Series", "Range"):
            raise _RefusedError(node, _remedy(node))
    elif kind == "Function":
        _check_function(node, body, schema)
    elif kind == "AnonymousFunction":
        _check_python(node, body, schema)
    elif kind == "Eval" and "Cumulative" not in json.dumps(body["variant"]):
        _check(body["expr"], schema)  # what is evaluated sees the elements of one row's list
    elif kind == "StructEval":
        for inner in (body["expr"], *body["evaluation"]):
            _check(inner, schema)
    else:
        raise _RefusedError(node, _remedy(node))


def _check_function(node: Node, body: Any, schema: Mapping[str, pl.DataType]) -> None:
    path = _path(body["function"])
    sets = _SETS.get(path, ())
    for place, inner in enumerate(body["input"]):
        if place not in sets:
            _check(inner, schema)
        elif not _is_set(inner, schema):
            raise _RefusedError(inner, "Compare with a list of constants, or join with a dz.table.")
    if path != ("StructExpr", "SelectFields") and not _separable(body):
        raise _RefusedError(node, _remedy(node))


def _check_python(node: Node, body: Any, schema: Mapping[str, pl.DataType]) -> None:
    flags = str(body["options"]["flags"])
    if "ROW_SEPARABLE" not in flags or "LENGTH_PRESERVING" not in flags:
        raise _RefusedError(node, _remedy(node))
    if bytes(body["function"][: len(_UNTYPED)]) == _UNTYPED:
        raise _RefusedError(
            node, "Pass return_dtype=, for example pl.String.", "a Python function that says what it returns"
        )
    for inner in body["input"]:
        _check(inner, schema)


def _is_set(node: Node, schema: Mapping[str, pl.DataType]) -> bool:
    """A set is a constant, or a list which each row has for itself."""
    if kind_of(node)[0] == "Literal":
        return True
    dtype = pl.LazyFrame(schema=schema).select(x=expression(node)).collect_schema()["x"]
    _check(node, schema)
    return isinstance(dtype, pl.List | pl.Array)


def _separable(body: Any) -> bool:
    """What Polars says of one function, its inputs replaced by plain columns: those were checked already."""
    inputs = [inner if kind_of(inner)[0] == "Literal" else _PLACEHOLDER for inner in body["input"]]
    alone = expression({"Function": {**body, "input": inputs}})
    try:
        return alone.meta.is_row_separable() and alone.meta.is_length_preserving()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return False  # Polars cannot tell


def _path(function: Node) -> tuple[str, ...]:
    """What a function is called: `("Boolean", "IsIn")`, `("Replace",)`."""
    kind, body = kind_of(function)
    inner = kind_of(body)[0] if kind in ("Boolean", "StringExpr", "StructExpr") else ""
    return (kind, inner) if inner else (kind,)


def _remedy(part: Node) -> str:
    kind, body = kind_of(part)
    if kind == "Function" and _path(body["function"]) == ("StringExpr", "Strptime"):
        kind = "Strptime"
    return _REMEDIES.get(
        kind, "Use .group_by(...).agg(...) for what spans rows, or a function of one row's values."
    )

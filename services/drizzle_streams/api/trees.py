"""Expressions as trees: Polars' own JSON form of an expression, walked and rebuilt.

Polars has no public way to look inside an expression or to replace a part of it; its JSON form
is the only one that shows both structure and options. The rules built on this reject what they
do not know, so a node that a later Polars adds is an error at build time, never a wrong answer.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl

from drizzle_streams.errors import BuildError, explain

Node = Any
"""A JSON value: `{"Kind": body}`, `"Kind"`, a list or a scalar."""


def tree(expr: pl.Expr, thing: str) -> Node:
    """The JSON tree of an expression; a function inside that cannot be shipped is a `BuildError`."""
    try:
        return json.loads(expr.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise BuildError(
            explain(
                thing,
                wanted="an expression that can be sent to the workers",
                found=f"{str(expr)[:120]} ({first_line(error)})",
                remedy="Keep open files, locks and connections out of the functions in it.",
            )
        ) from error


def expression(node: Node) -> pl.Expr:
    """The expression of a tree."""
    return pl.Expr.deserialize(io.StringIO(json.dumps(node)), format="json")


def wording(node: Node) -> str:
    """How Polars prints the part of an expression, bounded for an error message."""
    kind, body = kind_of(node)
    if kind == "AnonymousFunction":
        return f"a Python function over {', '.join(wording(inner) for inner in body['input'])}"
    return str(expression(node))[:160]


def kind_of(node: Node) -> tuple[str, Node]:
    """The kind of a node and its body."""
    if isinstance(node, dict) and len(node) == 1:
        return next(iter(node.items()))
    return (node, None) if isinstance(node, str) else ("", node)


def find(node: Node, kind: str) -> Iterator[Node]:
    """The bodies of all nodes of a kind, outermost first."""
    if isinstance(node, dict):
        for key, body in node.items():
            if key == kind:
                yield body
            yield from find(body, kind)
    elif isinstance(node, list):
        if node and isinstance(node[0], int):
            return  # serialised data: long, and no node inside
        for item in node:
            yield from find(item, kind)


def replace(node: Node, kind: str, by: Callable[[Node], Node]) -> Node:
    """The tree with the body of every node of a kind replaced."""
    if isinstance(node, dict):
        return {key: by(body) if key == kind else replace(body, kind, by) for key, body in node.items()}
    if isinstance(node, list) and not (node and isinstance(node[0], int)):
        return [replace(item, kind, by) for item in node]
    return node


def columns_of(expr: pl.Expr, thing: str) -> tuple[str, ...]:
    """The columns that an expression names, each once; all it reads once its selectors are `resolved`."""
    node = tree(expr, thing)
    names = [name for name in find(node, "Column") if name]
    for selector in find(node, "ByName"):
        names.extend(selector["names"] if selector["strict"] else ())
    return tuple(dict.fromkeys(names))


def resolved(expr: pl.Expr, schema: Mapping[str, pl.DataType], thing: str) -> pl.Expr:
    """The expression with its selectors (`pl.all()`, regexes, dtypes) fixed to the columns they mean now.

    Left open they would match other columns at run time: the engine adds columns of its own, and
    reads only those that the job needs.
    """
    node = tree(expr, thing)
    if next(find(node, "Selector"), None) is None:
        return expr

    def fix(selector: Node) -> Node:
        matched = (
            pl.LazyFrame(schema=schema).select(expression({"Selector": selector})).collect_schema().names()
        )
        if not matched:
            raise BuildError(
                explain(
                    thing,
                    wanted="a selector that matches at least one column",
                    found=f"{wording({'Selector': selector})}, which matches none of {list(schema)}",
                    remedy="Name the columns.",
                )
            )
        return {"ByName": {"names": matched, "strict": True}}

    return expression(replace(node, "Selector", fix))


def has_function(expr: pl.Expr, thing: str) -> bool:
    """Whether the expression calls a Python function."""
    return next(find(tree(expr, thing), "AnonymousFunction"), None) is not None


def first_line(error: BaseException) -> str:
    """An error in one line, for the `found` of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

"""Joins with a static table, checked: keys that exist and have one type, columns that do not clash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from drizzle_streams.api.names import check_new_column, listed, unknown_column
from drizzle_streams.api.plan import Plan
from drizzle_streams.api.tables import Table
from drizzle_streams.engine.keys import is_key_type
from drizzle_streams.engine.program import JoinTable
from drizzle_streams.errors import BuildError, explain

How = Literal["inner", "left"]
Strategy = Literal["auto", "broadcast", "shuffled"]


@dataclass(frozen=True, slots=True)
class Keys:
    """The columns to join on, side by side."""

    left: tuple[str, ...]
    right: tuple[str, ...]

    @classmethod
    def of(
        cls,
        on: str | Sequence[str] | None,
        left_on: str | Sequence[str] | None,
        right_on: str | Sequence[str] | None,
        thing: str,
    ) -> Keys:
        """The keys from either `on`, or `left_on` and `right_on`."""
        given = [
            name
            for name, value in (("on", on), ("left_on", left_on), ("right_on", right_on))
            if value is not None
        ]
        if given == ["on"]:
            names = _names(on, thing)
            return cls(names, names)
        left, right = _names(left_on, thing), _names(right_on, thing)
        if given != ["left_on", "right_on"] or len(left) != len(right):
            raise BuildError(
                explain(
                    thing,
                    wanted="on=, or left_on= and right_on= of the same length",
                    found=", ".join(f"{name}=" for name in given) or "neither",
                    remedy='Write, for example, .join(ads, on="ad_id").',
                )
            )
        return cls(left, right)


def joined(plan: Plan, table: object, keys: Keys, how: How, strategy: Strategy, thing: str) -> Plan:
    """The plan with the join; raises `BuildError` where it cannot be made."""
    if not isinstance(table, Table):
        raise BuildError(
            explain(
                thing,
                wanted="a table: dz.table(...)",
                found=type(table).__name__,
                remedy="Write dz.table(path or DataFrame); a join of two streams does not exist yet.",
            )
        )
    if how not in get_args(How):
        raise BuildError(
            explain(f"{thing}: how", wanted='"inner" or "left"', found=repr(how), remedy="Use one of these.")
        )
    if strategy not in get_args(Strategy):
        wanted = '"auto", "broadcast" or "shuffled"'
        remedy = "Leave it out for the default."
        raise BuildError(explain(f"{thing}: strategy", wanted=wanted, found=repr(strategy), remedy=remedy))
    _check_keys(plan, table, keys, thing)
    added = {name: dtype for name, dtype in table.schema.items() if name not in keys.right}
    clashes = [name for name in added if name in plan.schema]
    if clashes:
        raise BuildError(
            explain(
                thing,
                wanted="columns of the table that the stream does not have",
                found=f"{listed(clashes)} on both sides",
                remedy="Rename or drop them in the table: dz.table(frame.rename({...})).",
            )
        )
    for name in added:
        check_new_column(name, thing)
    index = next((i for i, known in enumerate(plan.tables) if known is table), len(plan.tables))
    tables = plan.tables if index < len(plan.tables) else (*plan.tables, table)
    step = JoinTable(str(index), keys.left, keys.right, how, strategy)
    return replace(plan.then(step, plan.schema | added), tables=tables)


def _check_keys(plan: Plan, table: Table, keys: Keys, thing: str) -> None:
    for left, right in zip(keys.left, keys.right, strict=True):
        if left not in plan.schema:
            raise unknown_column(left, plan.schema, thing)
        if right not in table.schema:
            raise unknown_column(right, table.schema, f"{thing}: table {table.name!r}")
        if not is_key_type(plan.schema[left]):
            raise BuildError(
                explain(
                    f"{thing}: key {left!r}",
                    wanted="a text, an integer, a Boolean, a date or a time",
                    found=f"type {plan.schema[left]}",
                    remedy="Cast or round it on both sides: equal keys must have equal bytes.",
                )
            )
        if plan.schema[left] != table.schema[right]:
            raise BuildError(
                explain(
                    f"{thing}: key {left!r}",
                    wanted=f"the type of the table's {right!r}, {table.schema[right]}",
                    found=str(plan.schema[left]),
                    remedy="Cast one of them.",
                )
            )


def _names(names: object, thing: str) -> tuple[str, ...]:
    listed_names = (
        (names,) if isinstance(names, str) else tuple(names) if isinstance(names, list | tuple) else ()
    )
    if not all(isinstance(name, str) for name in listed_names) or (names is not None and not listed_names):
        raise BuildError(
            explain(thing, wanted="column names as keys", found=repr(names)[:80], remedy='Write on="column".')
        )
    return listed_names

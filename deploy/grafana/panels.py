"""Boards as values: rows of panels, each of which says what it shows and in which unit.

The functions are the kinds of panels in use. `rendering.py` makes Grafana's JSON of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

GREEN, YELLOW, RED = "green", "yellow", "red"
RANGE = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL and the legend of its series (`{{label}}` is filled in)."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """`steps` are (from which value, colour) for what turns bad; None is the least value.

    `options` and `custom` are merged into Grafana's own.
    """

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 8
    least: float | None = 0
    most: float | None = None
    steps: tuple[tuple[float | None, str], ...] = ((None, GREEN),)
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: Mapping[str, Any] = field(default_factory=dict)
    decimals: int | None = None
    transformations: tuple[Json, ...] = ()
    mappings: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it, wrapped where the columns end."""

    title: str
    panels: tuple[Panel, ...]
    height: int = 8


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the top of a board: the values of a label. `metric` has that label."""

    name: str
    label: str
    metric: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """Something that happened, drawn as a line across every panel: wherever `expr` has a sample."""

    name: str
    colour: str
    expr: str
    title: str


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard; its file has the name of its uid."""

    uid: str
    title: str
    says: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...]
    annotations: tuple[Annotation, ...]


# --- kinds of panels ----------------------------------------------------------------------


def lines(title: str, says: str, unit: str, *queries: Query, **more: Any) -> Panel:
    """Values over time."""
    return Panel(title, says, unit, queries, **more)


def stacked(title: str, says: str, unit: str, *queries: Query, **more: Any) -> Panel:
    """Shares of a whole over time."""
    custom = {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40}
    return Panel(title, says, unit, queries, custom=custom, **more)


def steps(title: str, says: str, unit: str, *queries: Query, **more: Any) -> Panel:
    """Values that change now and then, drawn as steps."""
    return Panel(title, says, unit, queries, custom={"lineInterpolation": "stepAfter"}, **more)


def number(title: str, says: str, unit: str, query: Query, *, width: int = 3, **more: Any) -> Panel:
    """One number, large."""
    options = {
        "reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": ""},
        "orientation": "auto",
        "textMode": "auto",
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
    }
    return Panel(title, says, unit, (query,), kind="stat", width=width, options=options, **more)


def table(title: str, says: str, unit: str, query: Query, keep: Mapping[str, str], **more: Any) -> Panel:
    """The newest values by label; `keep` gives columns their headings, other labels are left out."""
    organize = {
        "id": "organize",
        "options": {
            "excludeByName": {"Time": True, "__name__": True, "instance": True},
            "indexByName": {name: place for place, name in enumerate(keep)},
            "renameByName": dict(keep),
        },
    }
    return Panel(
        title,
        says,
        unit,
        (query,),
        kind="table",
        transformations=(organize,),
        options={"showHeader": True},
        **more,
    )

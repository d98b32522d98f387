"""Drizzle: micro-batch stream processing whose coordinator speaks once per group of batches.

    import polars as pl
    import drizzle_streams as dz

    clicks = dz.stream("clicks", schema={"page": pl.String, "at": pl.Int64}, event_time="at")
    counts = clicks.window(dz.tumbling("10s")).group_by("page").agg(clicks=dz.count())
    job = counts.to(dz.redis("clicks")).job("clicks", batch_interval="50ms")

What a job file needs is here; each name is imported when it is first used, so that services and commands,
which live in this package too, start without what they do not use. `__init__.pyi` tells type checkers.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

_ROOMS: Final = {
    "BuildError": "errors",
    "DrizzleError": "errors",
    "Job": "api.job",
    "Stream": "api.stream",
    "Table": "api.tables",
    "console": "connectors.console",
    "count": "api.aggregates",
    "files": "api.stream",
    "first": "api.aggregates",
    "last": "api.aggregates",
    "load_jobs": "api.load",
    "max": "api.aggregates",
    "mean": "api.aggregates",
    "min": "api.aggregates",
    "redis": "connectors.redis",
    "stream": "api.stream",
    "sum": "api.aggregates",
    "table": "api.tables",
    "tumbling": "api.windows",
    "tuned": "api.sizes",
}

_WHOLE: Final = frozenset({"errors", "testing"})
_NAMES: Final = sorted([*_ROOMS, *_WHOLE])


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name in _WHOLE:
        return import_module(f"drizzle_streams.{name}")
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_NAMES)}")
    value = getattr(import_module(f"drizzle_streams.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})

"""Drizzle: micro-batch stream processing whose coordinator speaks once per group of batches.

    import polars as pl
    import drizzle_streams as dz

    clicks = dz.stream("clicks", schema={"page": pl.String, "at": pl.Int64}, event_time="at")
    counts = clicks.window(dz.tumbling("10s")).group_by("page").agg(clicks=dz.count())
    job = counts.to(dz.redis("clicks")).job("clicks", batch_interval="50ms")

What a job file needs is here; each name is imported when it is first used, so that services and commands,
which live in this package too, start without what they do not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drizzle_streams import errors as errors
    from drizzle_streams import testing as testing
    from drizzle_streams.api.aggregates import count as count
    from drizzle_streams.api.aggregates import first as first
    from drizzle_streams.api.aggregates import last as last
    from drizzle_streams.api.aggregates import max as max  # noqa: A004 - read as dz.max
    from drizzle_streams.api.aggregates import mean as mean
    from drizzle_streams.api.aggregates import min as min  # noqa: A004 - read as dz.min
    from drizzle_streams.api.aggregates import sum as sum  # noqa: A004 - read as dz.sum
    from drizzle_streams.api.job import Job as Job
    from drizzle_streams.api.load import load_jobs as load_jobs
    from drizzle_streams.api.stream import Stream as Stream
    from drizzle_streams.api.stream import stream as stream
    from drizzle_streams.api.tables import Table as Table
    from drizzle_streams.api.tables import table as table
    from drizzle_streams.api.windows import tumbling as tumbling
    from drizzle_streams.connectors.console import console as console
    from drizzle_streams.connectors.redis import redis as redis
    from drizzle_streams.errors import BuildError as BuildError
    from drizzle_streams.errors import DrizzleError as DrizzleError

_ROOMS: Final = {
    "BuildError": "errors",
    "DrizzleError": "errors",
    "Job": "api.job",
    "Stream": "api.stream",
    "Table": "api.tables",
    "console": "connectors.console",
    "count": "api.aggregates",
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
}

_WHOLE: Final = frozenset({"errors", "testing"})

__all__ = [
    "BuildError",
    "DrizzleError",
    "Job",
    "Stream",
    "Table",
    "console",
    "count",
    "errors",
    "first",
    "last",
    "load_jobs",
    "max",
    "mean",
    "min",
    "redis",
    "stream",
    "sum",
    "table",
    "testing",
    "tumbling",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name in _WHOLE:
        return import_module(f"drizzle_streams.{name}")
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"drizzle_streams.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

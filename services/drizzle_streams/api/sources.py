"""Where a plan begins: a stream by name, its columns, and which of them is event time."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import polars as pl

from drizzle_streams.api.durations import Duration, parse_ms, parse_whole_ms
from drizzle_streams.api.names import check_name, unknown_column
from drizzle_streams.api.plan import EventTime, Files, Plan, Source
from drizzle_streams.api.schemas import IntoSchema, Schema, schema_of
from drizzle_streams.errors import BuildError, explain

MAX_DELAY: Final = "5s"
"""How far out of order events may come unless the stream says otherwise. With emit="update" a larger
bound costs no latency: it keeps windows open, and so in memory, for longer. With emit="close" results
wait for it."""

IDLE_AFTER: Final = "10s"
"""A partition that gives nothing for so long no longer holds the watermark back."""


def source_plan(
    name: str,
    schema: IntoSchema,
    event_time: str | None,
    max_delay: Duration,
    idle_after: Duration,
    files: Files | None = None,
) -> Plan:
    """The plan of a stream as declared; arguments as of `stream`, `files` are checked ones."""
    thing = f"stream {check_name(name, 'stream')!r}"
    found = schema_of(schema, thing)
    plan = Plan(Source(name, found, files), found, None)
    return plan if event_time is None else with_clock(plan, event_time, max_delay, idle_after, thing)


def with_clock(plan: Plan, name: str, max_delay: Duration, idle_after: Duration, thing: str) -> Plan:
    """The plan with a column as its event time; raises `BuildError` when that cannot be."""
    _check_event_time(name, plan.schema, thing)
    return replace(
        plan,
        event_time=EventTime(name, parse_whole_ms(max_delay, f"{thing}: max_delay")),
        idle_after_ms=parse_ms(idle_after, f"{thing}: idle_after", at_least_ms=1),
    )


def _check_event_time(name: object, schema: Schema, thing: str) -> None:
    if not isinstance(name, str):
        raise BuildError(
            explain(f"{thing}: event_time", wanted="a column name", found=repr(name), remedy="Give its name.")
        )
    if name not in schema:
        raise unknown_column(name, schema, f"{thing}: event_time")
    dtype = schema[name]
    if not (dtype.is_integer() or dtype == pl.Datetime):
        raise BuildError(
            explain(
                f"{thing}: event_time {name!r}",
                wanted="integer milliseconds since the Unix epoch, or a Datetime",
                found=f"type {dtype}",
                remedy=f'Declare it as "{name}": pl.Int64; digits in a text are read as a number.',
            )
        )

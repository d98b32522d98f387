"""Streams as users write them: lazy, immutable, checked at every call.

    counts = (
        dz.stream("clicks", schema={"page": pl.String, "at": pl.Int64}, event_time="at")
        .filter(pl.col("page") != "/health")
        .window(dz.tumbling("10s"))
        .group_by("page")
        .agg(clicks=dz.count())
    )

Rules: an operation sees one row at a time, except an aggregation; the schema after every call is known,
so that a mistake is a `BuildError` there and then; nothing runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Literal, NoReturn

from drizzle_streams.api import joins, lists
from drizzle_streams.api.aggregates import Measure
from drizzle_streams.api.durations import Duration
from drizzle_streams.api.files import STREAM, checked_files, files_schema
from drizzle_streams.api.grouping import aggregated, no_key, with_keys
from drizzle_streams.api.job import Output, output
from drizzle_streams.api.names import check_new_column, listed
from drizzle_streams.api.plan import Plan
from drizzle_streams.api.schemas import (
    IntoExpr,
    IntoSchema,
    Schema,
    after_filter,
    after_select,
    after_with_columns,
    checked,
    into_exprs,
    is_plain,
    listed_types,
    outputs_of,
)
from drizzle_streams.api.sources import IDLE_AFTER, MAX_DELAY, source_plan, with_clock
from drizzle_streams.api.tables import Table
from drizzle_streams.api.windows import Tumbling
from drizzle_streams.engine.columns import WINDOW_END
from drizzle_streams.engine.program import Filter, Select, WithColumns
from drizzle_streams.errors import BuildError, explain
from drizzle_streams.model.files import Format


def stream(
    name: str,
    *,
    schema: IntoSchema,
    event_time: str | None = None,
    max_delay: Duration = MAX_DELAY,
    idle_after: Duration = IDLE_AFTER,
) -> Stream:
    """A stream of records by name, with the columns to read from them.

    `schema`: column names and Polars types; other fields of a record are not read.
    `event_time`: the column that says when an event happened: integer milliseconds since the Unix epoch, or
    a Datetime. Windows need it.
    `max_delay`: how far out of order events may come. The watermark stays so far behind the highest event
    time seen. With emit="update" it costs no latency, only memory for windows that stay open.
    `idle_after`: a partition without records for so long no longer holds the watermark back.
    """
    return Stream(source_plan(name, schema, event_time, max_delay, idle_after))


def files(
    pattern: str | Path,
    *,
    schema: IntoSchema | None = None,
    format: Format = "ndjson",  # noqa: A002 - the word that readers of files have for it
    event_time: str | None = None,
    max_delay: Duration = MAX_DELAY,
    idle_after: Duration = IDLE_AFTER,
) -> Stream:
    """The records of files, in the order of their names, read by the workers themselves.

    `format`: "ndjson", lines of JSON with the columns of `schema`; or "lines", text of any kind: a row for
    each line, with one column `line`, and no schema to give.
    `pattern`: a path that may have `*`, `?` and `**`; it must lead to the same files on every worker. They
    are looked up when the job is submitted, and a job whose files change or go fails. When all is read,
    windows close and the job stops. Batches begin as fast as workers take them, at most one chunk (8 MiB) of
    each partition in a batch interval. The other arguments are those of `stream`.
    """
    found = checked_files(pattern, format)
    columns = files_schema(found, schema)
    return Stream(source_plan(STREAM, columns, event_time, max_delay, idle_after, found))


class Stream:
    """A description of rows to come. Every method gives a new stream, or raises `BuildError`."""

    __slots__ = ("_plan",)

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    @property
    def schema(self) -> Schema:
        """The columns at this point and their types."""
        return dict(self._plan.schema)

    def filter(self, *predicates: IntoExpr) -> Stream:
        """Keep the rows for which every predicate is true; null is not true."""
        plan, thing = self._plan, self._thing("filter")
        given = [checked(expr, plan.schema, thing) for expr in into_exprs(predicates, {}, thing)]
        for expr in given:
            after_filter(plan.schema, expr, thing)
        return Stream(plan.then(Filter(reduce(and_, given)), plan.schema))

    def select(self, *exprs: IntoExpr | Sequence[IntoExpr], **named_exprs: IntoExpr) -> Stream:
        """Keep these columns only; arguments as in `polars.DataFrame.select`."""
        plan, thing = self._plan, self._thing("select")
        given = [checked(expr, plan.schema, thing) for expr in into_exprs(exprs, named_exprs, thing)]
        found = after_select(plan.schema, given, thing)
        passed = {name for expr in given if is_plain(expr) for name in outputs_of(plan.schema, expr)}
        self._check_untouched([name for name in found if name not in passed], thing)
        return Stream(plan.then(Select(tuple(given)), found))

    def with_columns(self, *exprs: IntoExpr | Sequence[IntoExpr], **named_exprs: IntoExpr) -> Stream:
        """Add or replace columns; arguments as in `polars.DataFrame.with_columns`."""
        plan, thing = self._plan, self._thing("with_columns")
        given = [checked(expr, plan.schema, thing) for expr in into_exprs(exprs, named_exprs, thing)]
        found = after_with_columns(plan.schema, given, thing)
        changed = [name for expr in given if not is_plain(expr) for name in outputs_of(plan.schema, expr)]
        self._check_untouched(changed, thing)
        return Stream(plan.then(WithColumns(tuple(given)), found))

    def join(
        self,
        other: Table,
        *,
        on: str | Sequence[str] | None = None,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        how: Literal["inner", "left"] = "inner",
        strategy: Literal["auto", "broadcast", "shuffled"] = "auto",
    ) -> Stream:
        """Join with a static table: `dz.table(...)`. A null key matches nothing.

        The table's columns other than its keys are added. Several matching rows of the table give several
        rows. "left" keeps rows without a match, with nulls.
        `strategy`: "broadcast" has every worker hold the whole table, which may have 16 MiB; "shuffled" has
        each hold a part of it, and rows go where their match is, which wants an aggregation behind the
        join. "auto" chooses for tables of more than 8 MiB, anew for each group, by the number of workers.
        Results are the same, to the last bit.
        """
        thing = self._thing("join")
        keys = joins.Keys.of(on, left_on, right_on, thing)
        return Stream(joins.joined(self._plan, other, keys, how, strategy, thing))

    def explode(self, column: str) -> Stream:
        """Put a row for each element of a list column in place of each row; no row for an empty list or null.

        The other columns are repeated. Lists come from the records, or from an expression such as
        `pl.col("line").str.split(" ")`.
        """
        return Stream(lists.exploded(self._plan, column, self._thing("explode")))

    def with_event_time(
        self, column: str, *, max_delay: Duration = MAX_DELAY, idle_after: Duration = IDLE_AFTER
    ) -> Stream:
        """Take another column as event time, for example one computed by with_columns. As in `stream`."""
        plan, thing = self._plan, self._thing("with_event_time")
        if plan.result is not None:
            raise BuildError(
                explain(
                    thing,
                    wanted="a stream before its first aggregation",
                    found="the rows of an aggregation, whose time is window_start",
                    remedy="Leave it out.",
                )
            )
        return Stream(with_clock(plan, column, max_delay, idle_after, thing))

    def window(self, window: Tumbling) -> WindowedStream:
        """Cut event time into windows; a group_by must follow."""
        plan, thing = self._plan, self._thing("window")
        if not isinstance(window, Tumbling):
            remedy = (
                f"Write dz.tumbling({window!r})." if isinstance(window, str) else 'Write dz.tumbling("10s").'
            )
            raise BuildError(explain(thing, wanted="a window", found=repr(window), remedy=remedy))
        self._check_final(thing)
        if plan.event_time is None:
            raise BuildError(
                explain(
                    thing,
                    wanted="a stream with event time",
                    found="none declared",
                    remedy=f'Declare it: dz.stream({plan.source.name!r}, ..., event_time="<column>").',
                )
            )
        if plan.event_time.column not in plan.schema:
            raise BuildError(
                explain(
                    thing,
                    wanted=f"the event time column {plan.event_time.column!r}",
                    found=f"only {listed(plan.schema)}",
                    remedy=f"Keep {plan.event_time.column!r} in the select before the window.",
                )
            )
        return WindowedStream(self, window)

    def group_by(self, *keys: IntoExpr) -> GroupedStream:
        """Group rows for a running aggregation: every batch gives the groups it changed.

        Keys are column names or row-by-row expressions with a name of their own. The groups are kept for as
        long as the job runs.
        """
        thing = self._thing("group_by")
        self._check_final(thing)
        plan, names = with_keys(self._plan, keys, thing)
        return GroupedStream(Stream(plan), names, None)

    def to(self, sink: object) -> Output:
        """Say where the rows go, for example `dz.redis("clicks")`."""
        return output(self._plan, sink, self._thing("to"))

    def agg(self, **_measures: Measure) -> NoReturn:
        """Refuse: an aggregation needs a key."""
        raise no_key(self._thing("agg"))

    def job(self, name: str, **_settings: object) -> NoReturn:
        """Refuse: a job needs a sink."""
        raise BuildError(
            explain(
                self._thing("job"),
                wanted="a sink before job",
                found="none",
                remedy=f'Write .to(dz.redis("results")).job({name!r}).',
            )
        )

    def _thing(self, call: str) -> str:
        return f"stream {self._plan.source.name!r}: {call}"

    def _check_final(self, thing: str) -> None:
        result = self._plan.result
        if result is not None and not result.final:
            running = not result.windowed
            raise BuildError(
                explain(
                    thing,
                    wanted="rows that do not change any more",
                    found="the updates of a running aggregation"
                    if running
                    else 'the updates of emit="update"',
                    remedy='Updates would count twice: aggregate first with dz.tumbling(..., emit="close").',
                )
            )

    def _check_untouched(self, changed: Sequence[str], thing: str) -> None:
        plan = self._plan
        clock = plan.event_time.column if plan.event_time else None
        for name in changed:
            if name == clock:
                raise BuildError(
                    explain(
                        thing,
                        wanted=f"the event time {name!r} as it was read",
                        found=f"another value for {name!r}",
                        remedy="Give the new column another name.",
                    )
                )
            if plan.result is not None and name in (*plan.result.identity, WINDOW_END):
                raise BuildError(
                    explain(
                        thing,
                        wanted=f"{name!r} as the aggregation gave it: it tells the rows apart",
                        found=f"another value for {name!r}",
                        remedy="Give the new column another name.",
                    )
                )

    def __repr__(self) -> str:
        return f"Stream({self._plan.source.name!r}: {listed_types(self._plan.schema)})"


class WindowedStream:
    """A stream cut into windows; only a group_by can follow."""

    __slots__ = ("_stream", "_window")

    def __init__(self, stream: Stream, window: Tumbling) -> None:
        self._stream = stream
        self._window = window

    def group_by(self, *keys: IntoExpr) -> GroupedStream:
        """Group the rows of each window by columns, or by row-by-row expressions with a name of their own."""
        thing = self._stream._thing("group_by")
        plan, names = with_keys(self._stream._plan, keys, thing)
        for name in names:
            check_new_column(name, thing)
        return GroupedStream(Stream(plan), names, self._window)

    def agg(self, **_measures: Measure) -> NoReturn:
        """Refuse: an aggregation needs a key."""
        raise no_key(self._stream._thing("agg"))

    def __repr__(self) -> str:
        return f"{self._stream!r}.window({self._window!r})"


class GroupedStream:
    """A stream grouped by keys; only an agg can follow."""

    __slots__ = ("_keys", "_stream", "_window")

    def __init__(self, stream: Stream, keys: tuple[str, ...], window: Tumbling | None) -> None:
        self._stream = stream
        self._keys = keys
        self._window = window

    def agg(self, **measures: Measure) -> Stream:
        """Aggregate each group: `agg(clicks=dz.count(), spent=dz.sum("amount"))`.

        Gives window_start and window_end (Int64, ms; only after `window`), the keys and the aggregates.
        """
        plan, thing = self._stream._plan, self._stream._thing("agg")
        return Stream(aggregated(plan, self._keys, measures, self._window, thing))

    def __repr__(self) -> str:
        return f"{self._stream!r}.group_by({', '.join(map(repr, self._keys))})"

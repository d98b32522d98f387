"""Every mistake is a `BuildError` at the call that makes it: the thing, the wanted, the found, the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import drizzle_streams as dz
from drizzle_streams.errors import BuildError, DrizzleError
from tests.api.api_worlds import AnySink, clicks, counted

c = pl.col
PAGES = pl.DataFrame({"page": ["/"], "topic": ["home"], "owner": ["ann"]})


def table(**columns: Any) -> dz.Table:
    return dz.table(pl.DataFrame(columns or {"page": ["/"], "topic": ["home"]}))


def any_way(thing: Any) -> Any:
    """What a type checker would refuse, said to a person who uses none."""
    return thing


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    # -- files and lists
    "a format of files": (
        lambda: dz.files("*.csv", format=any_way("csv")),
        r'^files: format: wanted "ndjson" or "lines", found \'csv\'',
    ),
    "a path of another kind": (
        lambda: dz.files("*.csv", schema={"a": pl.Int64}),
        r"^files: wanted a path or a pattern of paths that ends in \.ndjson or \.jsonl, found '\*\.csv'",
    ),
    "a path that is none": (
        lambda: dz.files(any_way(None), format="lines"),
        r"^files: wanted a path or a pattern of paths, found None.*format=\"lines\"",
    ),
    "lines with a schema": (
        lambda: dz.files("*.log", format="lines", schema={"a": pl.Int64}),
        r"^files: schema: wanted none for lines of text: their one column is 'line', found .*Leave it out",
    ),
    "JSON without a schema": (
        lambda: dz.files("*.ndjson"),
        r"^files: schema: wanted columns to read, found None.*schema=",
    ),
    "an expression to explode": (
        lambda: clicks().explode(any_way(c("page").str.split("/"))),
        r"^stream 'clicks': explode: wanted the name of a column.*\.explode\(\"words\"\)",
    ),
    "a column to explode that is not there": (
        lambda: clicks().explode("tag"),
        r"explode: wanted .*found 'tag'.*'tags'",
    ),
    "a column to explode that is no list": (
        lambda: clicks().explode("page"),
        r"explode: column 'page': wanted a list, found type String.*str\.split",
    ),
    "rows of an aggregation to explode": (
        lambda: counted().with_columns(parts=c("page").str.split("/")).explode("parts"),
        r"explode: wanted a stream before its first aggregation, found .*told apart by page, window_start",
    ),
    # -- streams
    "stream name": (
        lambda: dz.stream("ad events", schema={"a": pl.Int64}),
        r"^stream name: wanted 1 to 64 letters.*found 'ad events'.*\"ad-events\"",
    ),
    "stream name that is none": (
        lambda: dz.stream(any_way(7), schema={"a": pl.Int64}),
        r"^stream name: wanted .*found 7\.",
    ),
    "no schema": (lambda: dz.stream("s", schema={}), r"^stream 's': schema: wanted a mapping .*found \{\}"),
    "schema of another kind": (
        lambda: dz.stream("s", schema=any_way(["a"])),
        r"schema: wanted a mapping of column names.*found \['a'\]",
    ),
    "a type that is none": (
        lambda: dz.stream("s", schema={"a": any_way("Int64")}),
        r"schema: wanted names and Polars types, found cannot parse.*pl\.String",
    ),
    "a type without values": (
        lambda: dz.stream("s", schema={"a": pl.Object}),
        r"column 'a': wanted a type with values, found Object",
    ),
    "reserved column in a schema": (
        lambda: dz.stream("s", schema={"__partition": pl.Int64}),
        r"^stream 's': column name: wanted a name that does not start with '__'.*found '__partition'",
    ),
    "window column in a schema": (
        lambda: dz.stream("s", schema={"window_start": pl.Int64}),
        r"wanted a name other than window_start and window_end, found 'window_start'",
    ),
    "event time that is not there": (
        lambda: clicks(event_time="att"),
        r"^stream 'clicks': event_time: wanted one of the columns .*found 'att'.*Did you mean 'at'\?",
    ),
    "event time of another type": (
        lambda: clicks(event_time="page"),
        r"event_time 'page': wanted integer milliseconds .*, or a Datetime, found type String",
    ),
    "event time that is no name": (
        lambda: clicks(event_time=c("at")),
        r"event_time: wanted a column name, found",
    ),
    "max_delay": (
        lambda: clicks(max_delay="5"),
        r"^stream 'clicks': max_delay: wanted a duration, found '5'",
    ),
    "idle_after": (lambda: clicks(idle_after="0s"), r"idle_after: wanted 1ms to .*, found '0s'"),
    # -- filter
    "unknown column": (
        lambda: clicks().filter(c("pages") == "/"),
        r"^stream 'clicks': filter: wanted one of the columns 'page', .*found 'pages'.*Did you mean 'page'\?",
    ),
    "unknown column, another case": (lambda: clicks().filter(c("Page") == "/"), r"Did you mean 'page'\?"),
    "unknown column, nothing like it": (
        lambda: clicks().filter(c("zzz") == "/"),
        r"found 'zzz', which is not there\. Check the name",
    ),
    "predicate of another type": (
        lambda: clicks().filter(c("amount") + 1),
        r"filter: wanted one Boolean predicate, found 'amount' of type Int64.*pl\.col\(\"amount\"\) > 0",
    ),
    "predicate that does not fit": (
        lambda: clicks().filter(c("page") > 1),
        r"filter: wanted expressions that fit the columns page: String, .*found cannot compare string",
    ),
    "several predicates in one": (
        lambda: clicks().filter(c("paid", "page")),
        r"wanted one Boolean predicate, found 'paid' of type Boolean, 'page' of type String",
    ),
    "no predicate": (lambda: clicks().filter(), r"filter: wanted at least one column, found none"),
    "a predicate that is no expression": (
        lambda: clicks().filter(any_way({"page": "/"})),
        r"filter: wanted a column name or a Polars expression, found dict",
    ),
    "an aggregate in a filter": (
        lambda: clicks().filter(c("amount") > c("amount").mean()),
        r"depends on that row alone, found col\(\"amount\"\)\.mean\(\)\. Aggregate with \.group_by",
    ),
    "a bad regular expression": (lambda: clicks().filter(c("page").str.contains("(")), r"found regex error"),
    # -- select and with_columns
    "select twice the same name": (
        lambda: clicks().select("page", c("user").alias("page")),
        r"^stream 'clicks': select: wanted expressions that fit .*found .*duplicate",
    ),
    "select an unknown column": (
        lambda: clicks().select("pag"),
        r"select: wanted one of .*Did you mean 'page'",
    ),
    "select nothing": (lambda: clicks().select(), r"select: wanted at least one column, found none"),
    "select a reserved name": (
        lambda: clicks().select(__key_group=c("page")),
        r"select: column name: .*'__key_group'",
    ),
    "with_columns of a window name": (
        lambda: clicks().with_columns(window_end=c("at")),
        r"with_columns: column name: wanted a name other than window_start and window_end",
    ),
    "arithmetic that does not fit": (
        lambda: clicks().with_columns(c("page") + 1),
        r"with_columns: wanted expressions that fit .*found arithmetic on dtypes str and",
    ),
    "a method of another type": (
        lambda: clicks().with_columns(c("amount").dt.year()),
        r"found `year` operation not supported for dtype `i64`",
    ),
    "another value for event time": (
        lambda: clicks().with_columns(at=c("at") + 1),
        r"with_columns: wanted the event time 'at' as it was read, found another value .* another name",
    ),
    "another value for event time in a select": (
        lambda: clicks().select("page", at=c("amount")),
        r"select: wanted the event time 'at' as it was read",
    ),
    "another value for a key": (
        lambda: counted().with_columns(c("page").str.to_uppercase()),
        r"wanted 'page' as the aggregation gave it.*another name",
    ),
    "another value for a window": (
        lambda: counted().with_columns(window_start=c("window_start") + 1),
        r"wanted 'window_start' as the aggregation gave it",
    ),
    "a Series in with_columns": (
        lambda: clicks().with_columns(any_way(pl.Series("x", [1]))),
        r"with_columns: wanted a column name or a Polars expression, found",
    ),
    # -- joins
    "join with a frame": (
        lambda: clicks().join(any_way(PAGES), on="page"),
        r"^stream 'clicks': join: wanted a table: dz\.table\(\.\.\.\), found DataFrame",
    ),
    "join with a stream": (
        lambda: clicks().join(any_way(clicks()), on="page"),
        r"found Stream\. .*a join of two streams does not exist yet",
    ),
    "join without keys": (
        lambda: clicks().join(table()),
        r"join: wanted on=, or left_on= and right_on= .*found neither",
    ),
    "join with half the keys": (lambda: clicks().join(table(), left_on="page"), r"found left_on="),
    "join with too many keys": (
        lambda: clicks().join(table(), on="page", left_on="page"),
        r"found on=, left_on=",
    ),
    "join with keys of two lengths": (
        lambda: clicks().join(table(), left_on=["page", "user"], right_on=["page"]),
        r"of the same length, found left_on=, right_on=",
    ),
    "join in an unknown way": (
        lambda: clicks().join(table(), on="page", strategy=any_way("merge")),
        r'join: strategy: wanted "auto", "broadcast" or "shuffled", found \'merge\'',
    ),
    "join on an expression": (
        lambda: clicks().join(table(), on=any_way(c("page"))),
        r"join: wanted column names as keys, found",
    ),
    "join on an unknown column": (
        lambda: clicks().join(table(), on="topic"),
        r"^stream 'clicks': join: wanted one of the columns 'page', .*found 'topic'",
    ),
    "join on a column the table lacks": (
        lambda: clicks().join(table(), on="user"),
        r"join: table 'DataFrame': wanted one of the columns 'page', 'topic', found 'user'",
    ),
    "join on two types": (
        lambda: clicks().join(table(page=[1]), on="page"),
        r"join: key 'page': wanted the type of the table's 'page', Int64, found String\. Cast one",
    ),
    "join on a float": (
        lambda: clicks().join(table(price=[1.0]), on="price"),
        r"join: key 'price': wanted a text, an integer.*found type Float64",
    ),
    "join with columns on both sides": (
        lambda: clicks().join(table(page=["/"], user=["ann"]), on="page"),
        r"join: wanted columns of the table that the stream .*, found 'user' on both sides.*rename",
    ),
    "join with a reserved column": (
        lambda: clicks().join(table(page=["/"], __x=[1]), on="page"),
        r"join: column name: .*found '__x'",
    ),
    "join of another kind": (
        lambda: clicks().join(table(), on="page", how=any_way("outer")),
        r"join: how: wanted \"inner\" or \"left\", found 'outer'",
    ),
    # -- tables
    "a table that is none": (
        lambda: dz.table(any_way(7)),
        r"^table: wanted a path, a DataFrame or a LazyFrame, found int",
    ),
    "a table file that is not there": (
        lambda: dz.table("nowhere/ads.parquet"),
        r"^table 'nowhere/ads\.parquet': wanted a file, found none at /.*relative to the directory",
    ),
    "a table file of another kind": (
        lambda: dz.table("ads.xlsx"),
        r"^table 'ads\.xlsx': wanted a file that ends in \.parquet, .*found suffix '\.xlsx'",
    ),
    "a broken LazyFrame": (
        lambda: dz.table(PAGES.lazy().select("nope")),
        r"^table 'LazyFrame': wanted rows that Polars can read, found .*nope",
    ),
    # -- windows
    "window without event time": (
        lambda: clicks(event_time=None).window(dz.tumbling("10s")),
        r"^stream 'clicks': window: wanted a stream with event time, found none.*event_time=\"<column>\"",
    ),
    "window after event time was dropped": (
        lambda: clicks().select("page").window(dz.tumbling("10s")),
        r"window: wanted the event time column 'at', found only 'page'\. Keep 'at' in the select",
    ),
    "a text as window": (
        lambda: clicks().window(any_way("10s")),
        r"window: wanted a window, found '10s'\. Write dz\.tumbling\('10s'\)",
    ),
    "window size": (lambda: dz.tumbling("10"), r"^tumbling\('10'\): size: wanted a duration"),
    "window of no size": (lambda: dz.tumbling("0s"), r"size: wanted 1ms to"),
    "emit": (
        lambda: dz.tumbling("1s", emit=any_way("end")),
        r"emit: wanted 'update' or 'close', found 'end'",
    ),
    "allowed_lateness": (
        lambda: dz.tumbling("1s", allowed_lateness="x"),
        r"allowed_lateness: wanted a duration",
    ),
    "aggregation of a window without key": (
        lambda: clicks().window(dz.tumbling("1s")).agg(n=dz.count()),
        r"^stream 'clicks': agg: wanted at least one key to group by, found none.*group by a constant",
    ),
    "aggregation without key": (
        lambda: clicks().agg(n=dz.count()),
        r"agg: wanted at least one key to group by",
    ),
    "group_by of nothing": (lambda: clicks().group_by(), r"group_by: wanted at least one key to group by"),
    "group_by of an unknown column": (lambda: clicks().group_by("pgae"), r"group_by: .*Did you mean 'page'"),
    "group_by twice the same": (
        lambda: clicks().group_by("page", "page"),
        r"wanted each key once, found 'page' 2 times",
    ),
    "group_by of a float": (
        lambda: clicks().group_by("price"),
        r"group_by: key 'price': wanted a text, .*found type Float64\. Cast or round",
    ),
    "group_by of a list": (lambda: clicks().group_by("tags"), r"key 'tags': .*found type List"),
    "group_by of an expression over a column": (
        lambda: clicks().group_by(c("amount") // 10),
        r"group_by: wanted a key expression with a name .*, found .*replace the column 'amount'.*alias",
    ),
    "group_by of an aggregate": (
        lambda: clicks().group_by(c("amount").sum().alias("x")),
        r"on that row alone",
    ),
    "group_by of the window": (
        lambda: counted(emit="close").window(dz.tumbling("1m")).group_by("window_start"),
        r"group_by: column name: wanted a name other than window_start",
    ),
    # -- aggregates
    "agg of nothing": (
        lambda: clicks().group_by("page").agg(),
        r"agg: wanted at least one aggregate, found none",
    ),
    "agg of a Polars aggregate": (
        lambda: clicks().group_by("page").agg(n=any_way(c("amount").sum())),
        r"agg: wanted dz\.count\(\), .*found n=.*Write n=dz\.sum\('amount'\)",
    ),
    "agg of pl.len": (
        lambda: clicks().group_by("page").agg(n=any_way(pl.len())),
        r"agg: wanted dz\.count\(\).*Write n=dz\.count\(\)",
    ),
    "agg under a key's name": (
        lambda: clicks().group_by("page").agg(page=dz.count()),
        r"agg: wanted names that differ, found 'page' as key and aggregate",
    ),
    "agg under a reserved name": (
        lambda: clicks().group_by("page").agg(__n=dz.count()),
        r"agg: column name: wanted a name that does not start with '__'",
    ),
    "sum of texts": (
        lambda: clicks().group_by("page").agg(s=dz.sum("user")),
        r"agg: dz\.sum\(.*\): wanted numbers, Booleans or durations, found type String\. Cast",
    ),
    "mean of dates": (
        lambda: clicks().group_by("page").agg(s=dz.mean("day")),
        r"found type Date\. Cast it first",
    ),
    "min of lists": (
        lambda: clicks().group_by("page").agg(s=dz.min("tags")),
        r"wanted values with an order, found",
    ),
    "sum of an unknown column": (
        lambda: clicks().group_by("page").agg(s=dz.sum("amuont")),
        r"Did you mean 'amount'\?",
    ),
    "sum of an aggregate": (
        lambda: clicks().group_by("page").agg(s=dz.sum(c("amount").max())),
        r"found col\(\"amount\"\)\.max\(\)",
    ),
    "sum of two columns": (
        lambda: clicks().group_by("page").agg(s=dz.sum(c("amount", "small"))),
        r"agg: wanted one column, found 'amount', 'small'",
    ),
    # -- a second aggregation
    "group_by of window updates": (
        lambda: counted().group_by("n"),
        r'group_by: wanted rows that do not change .*found the updates of emit="update".*emit="close"',
    ),
    "group_by of running updates": (
        lambda: clicks().group_by("page").agg(n=dz.count()).group_by("n"),
        r"found the updates of a running aggregation\. Updates would count twice",
    ),
    "window of updates": (
        lambda: counted().window(dz.tumbling("1m")),
        r"window: wanted rows that do not change any more",
    ),
    "event time of results": (
        lambda: counted().with_event_time("n"),
        r"with_event_time: wanted a stream before its first aggregation",
    ),
    # -- sinks
    "an unknown sink": (
        lambda: counted().to("redis"),
        r"^stream 'clicks': to: wanted a sink: dz\.redis\(.*\) or dz\.console\(\), found str 'redis'",
    ),
    "a sink that was not called": (
        lambda: counted().to(dz.redis),
        r"to: wanted a sink.*Call it with its arguments",
    ),
    "a sink class": (lambda: counted().to(AnySink), r"to: wanted a sink.*Call it with its arguments"),
    "updates without what tells them apart": (
        lambda: counted().select("window_start", "n").to(AnySink()),
        r"to: wanted the columns 'page', 'window_start'.*found no 'page'\. Keep them in the select",
    ),
    "a sink that refuses the rows": (
        lambda: clicks().to(dz.redis("p")),
        r"dz\.redis\('p'\): wanted key columns",
    ),
    # -- jobs
    "a job without a sink": (
        lambda: counted().job("counts"),
        r"job: wanted a sink before job, found none\. Write \.to\(.*\)\.job\('counts'\)",
    ),
    "job name": (lambda: counted().to(AnySink()).job("a b"), r"^job name: wanted .*found 'a b'"),
    "batch_interval": (
        lambda: counted().to(AnySink()).job("j", batch_interval="0.1ms"),
        r"^job 'j': batch_interval: wanted 1ms to 1m, found '0\.1ms'",
    ),
    "scheduling": (
        lambda: counted().to(AnySink()).job("j", scheduling=any_way("fast")),
        r"scheduling: wanted 'group' or 'prescheduled' or 'barrier', found 'fast'",
    ),
    "group_size": (
        lambda: counted().to(AnySink()).job("j", group_size=0),
        r"group_size: wanted a whole number from 1",
    ),
    "partitions": (
        lambda: counted().to(AnySink()).job("j", partitions=any_way(True)),
        r"partitions: wanted a whole number from 1 to 1024, found True",
    ),
    "checkpoint_interval": (
        lambda: counted().to(AnySink()).job("j", batch_interval="1s", checkpoint_interval="50ms"),
        r"checkpoint_interval: wanted 1s to .*found '50ms'",
    ),
    "start_from": (
        lambda: counted().to(AnySink()).job("j", start_from=any_way("now")),
        r"start_from: wanted 'earliest' or 'latest', found 'now'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_where_it_is_made(name: str) -> None:
    mistake, wording = MISTAKES[name]
    with pytest.raises(BuildError, match=wording) as caught:
        mistake()
    assert "\n" not in str(caught.value), "one line, so that a terminal and a log can show it"
    assert isinstance(caught.value, DrizzleError)


def test_a_table_too_large_for_a_job_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drizzle_streams.api.routing.TABLE_BYTES_MAX", 10)
    job = clicks().join(table(page=["/" * 100], topic=["t"]), on="page").to(AnySink()).job("j")
    with pytest.raises(
        BuildError, match=r"table 'DataFrame': wanted at most 10 bytes for .*found \d+ bytes in 1 rows"
    ) as caught:
        job.compile()
    assert "shuffled" not in str(caught.value), "nothing is aggregated behind it"


def test_no_table_is_larger_than_workers_may_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drizzle_streams.api.tables.SHUFFLED_TABLE_BYTES_MAX", 10)
    joined = clicks().join(table(page=["/" * 100], topic=["t"]), on="page", strategy="shuffled")
    job = joined.group_by("topic").agg(n=dz.count()).to(AnySink()).job("j")
    with pytest.raises(BuildError, match=r"wanted at most 10 bytes for the columns .*found \d+ bytes"):
        job.compile()


def test_a_table_that_breaks_when_it_is_read_says_so() -> None:
    frame = pl.LazyFrame({"page": ["/"], "topic": ["x"]}).with_columns(c("topic").cast(pl.Int64))
    job = clicks().join(dz.table(frame), on="page").to(AnySink()).job("j")
    with pytest.raises(
        BuildError, match=r"table 'LazyFrame': wanted rows that Polars can read, found conversion"
    ):
        job.compile()

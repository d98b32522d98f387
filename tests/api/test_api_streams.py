"""Streams are lazy and immutable, and know their columns after every step."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import polars.selectors as cs
import pytest

import drizzle_streams as dz
from drizzle_streams.engine.program import Aggregation, Filter
from tests.api.api_worlds import CLICKS, AnySink, clicks, counted

c = pl.col
EMPTY = pl.DataFrame(schema=CLICKS)


def test_every_step_gives_a_new_stream_and_leaves_the_old_one() -> None:
    begun = clicks()
    filtered = begun.filter(c("paid"))
    first, second = filtered.select("page"), filtered.with_columns(double=c("amount") * 2)
    assert dict(begun.schema) == CLICKS == dict(filtered.schema)
    assert first.schema == {"page": pl.String()}
    assert second.schema == CLICKS | {"double": pl.Int64()}


def test_the_schema_of_a_stream_cannot_be_changed_through_it() -> None:
    begun = clicks()
    begun.schema["other"] = pl.Int64()
    assert "other" not in begun.schema


@pytest.mark.parametrize(
    "exprs",
    [
        ("page", c("amount") * 2.5),
        (["page", "user"],),
        (cs.numeric(),),
        (pl.all(),),
        (c("tags").list.len().alias("tagged"), c("at")),
        (pl.lit(1).alias("one"), c("when").dt.date().alias("date")),
    ],
)
def test_schemas_are_what_polars_gives(exprs: tuple[pl.Expr, ...]) -> None:
    assert clicks().select(*exprs).schema == dict(EMPTY.select(*exprs).schema)
    named = dict(clicks(event_time=None).with_columns(x=c("small") + 1).schema.items())
    assert named == dict(EMPTY.with_columns(x=c("small") + 1).schema)


def test_select_and_with_columns_take_names_and_values_like_polars() -> None:
    found = clicks().select("page", double=c("amount") * 2, one=1, flag=True, other="user")
    assert found.schema == {
        "page": pl.String(),
        "double": pl.Int64(),
        "one": pl.Int32(),
        "flag": pl.Boolean(),
        "other": pl.String(),
    }


def test_python_types_are_types_too() -> None:
    found = dz.stream("s", schema={"a": int, "b": str, "c": float, "d": bool}).schema
    assert found == {"a": pl.Int64(), "b": pl.String(), "c": pl.Float64(), "d": pl.Boolean()}


def test_a_window_gives_its_bounds_the_keys_and_the_aggregates() -> None:
    found = (
        clicks().window(dz.tumbling("10s")).group_by("page", "day").agg(n=dz.count(), spent=dz.sum("amount"))
    )
    assert found.schema == {
        "window_start": pl.Int64(),
        "window_end": pl.Int64(),
        "page": pl.String(),
        "day": pl.Date(),
        "n": pl.Int64(),
        "spent": pl.Int64(),
    }


@pytest.mark.parametrize(
    ("measure", "dtype"),
    [
        (dz.count(), pl.Int64()),
        (dz.count("user"), pl.Int64()),
        (dz.sum("amount"), pl.Int64()),
        (dz.sum("small"), pl.Int64()),
        (dz.sum("count8"), pl.UInt64()),
        (dz.sum("price"), pl.Float64()),
        (dz.sum("paid"), pl.Int64()),
        (dz.sum(c("price") * c("amount")), pl.Float64()),
        (dz.sum(c("when") - c("when")), pl.Duration("us")),
        (dz.mean("small"), pl.Float64()),
        (dz.mean("paid"), pl.Float64()),
        (dz.min("page"), pl.String()),
        (dz.max("when"), pl.Datetime("us")),
        (dz.min("count8"), pl.UInt8()),
        (dz.first("tags"), pl.List(pl.String())),
        (dz.last("paid"), pl.Boolean()),
    ],
)
def test_aggregates_have_the_types_they_say(measure: object, dtype: pl.DataType) -> None:
    found = clicks().group_by("page").agg(x=measure)  # pyright: ignore[reportArgumentType]
    assert found.schema["x"] == dtype


def test_a_key_may_be_an_expression_with_a_name_of_its_own() -> None:
    found = clicks().group_by("page", (c("amount") // 10).alias("tens"), c("when").dt.date().alias("date"))
    assert list(found.agg(n=dz.count()).schema) == ["page", "tens", "date", "n"]


def test_closed_windows_may_be_aggregated_again_in_time() -> None:
    minutes = counted(emit="close").window(dz.tumbling("1m")).group_by("page").agg(total=dz.sum("n"))
    assert list(minutes.schema) == ["window_start", "window_end", "page", "total"]


def test_closed_windows_may_be_aggregated_again_by_their_start() -> None:
    per_window = counted(emit="close").group_by("window_start").agg(total=dz.sum("n"))
    assert list(per_window.schema) == ["window_start", "total"]


def test_event_time_may_be_computed() -> None:
    stream = (
        clicks(event_time=None)
        .with_columns(seconds=c("at") * 1000)
        .with_event_time("seconds", max_delay="1s")
    )
    plan = stream.window(dz.tumbling("10s")).group_by("page").agg(n=dz.count())._plan
    (operation,) = [one for one in plan.operations if isinstance(one, Aggregation)]
    assert (operation.event_time, operation.max_delay_ms) == ("seconds", 1000)


def test_the_order_of_events_may_be_off_by_five_seconds_unless_told() -> None:
    (operation,) = counted()._plan.operations
    assert isinstance(operation, Aggregation)
    assert (operation.max_delay_ms, operation.emit, operation.allowed_lateness_ms) == (5000, "update", 0)


def test_several_predicates_are_one_filter() -> None:
    (operation,) = clicks().filter(c("paid"), c("amount") > 1)._plan.operations
    assert isinstance(operation, Filter)
    frame = pl.DataFrame({"paid": [True, True, False, None], "amount": [1, 2, 2, 2]})
    assert frame.filter(operation.predicate).rows() == [(True, 2)]


def test_a_join_adds_the_other_columns_of_the_table() -> None:
    table = dz.table(pl.DataFrame({"url": ["/"], "topic": ["home"], "rank": [1]}))
    joined = clicks().select("page", "at").join(table, left_on="page", right_on="url", how="left")
    assert joined.schema == {"page": pl.String(), "at": pl.Int64(), "topic": pl.String(), "rank": pl.Int64()}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson", "jsonl", "ipc", "arrow", "feather"])
def test_tables_are_read_by_suffix(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame({"page": ["/", "/a"], "rank": [1, 2]})
    path = tmp_path / f"pages.{suffix}"
    writers = {"parquet": frame.write_parquet, "csv": frame.write_csv}
    writers |= dict.fromkeys(("ndjson", "jsonl"), frame.write_ndjson)
    writers.get(suffix, frame.write_ipc)(path)
    for given in (path, str(path)):
        table = dz.table(given)
        assert table.schema == dict(frame.schema)
        assert table.rows(("rank",)).equals(frame.select("rank"))


def test_tables_may_be_frames() -> None:
    frame = pl.DataFrame({"page": ["/"]})
    assert dz.table(frame).rows(["page"]).equals(frame)
    assert dz.table(frame.lazy()).rows(["page"]).equals(frame)


def test_things_say_what_they_are() -> None:
    assert repr(clicks().select("page", "at")) == "Stream('clicks': page: String, at: Int64)"
    assert repr(dz.tumbling("90s")) == "dz.tumbling('90s', emit='update')"
    assert repr(clicks().select("at").window(dz.tumbling("1m"))).endswith(
        ".window(dz.tumbling('1m', emit='update'))"
    )
    assert repr(clicks().select("at").group_by("at")) == "Stream('clicks': at: Int64).group_by('at')"
    assert repr(dz.sum("amount")) == 'dz.sum(col("amount"))'
    assert repr(dz.table(EMPTY)) == "dz.table('DataFrame', 11 columns)"
    job = counted().to(AnySink()).job("counts", batch_interval="20ms")
    assert repr(job) == "Job('counts': 'clicks' to AnySink(kind='any') every 20ms)"
    assert job.keys == ("page", "window_start")

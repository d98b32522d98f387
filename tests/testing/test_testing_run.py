"""`dz.testing.run`: the engine in one process, in virtual time, with crashes as values."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

import drizzle_streams as dz
from drizzle_streams.errors import BuildError, DrizzleError
from drizzle_streams.testing import Result, crash

c = pl.col
SCHEMA = {"page": pl.String, "user": pl.String, "amount": pl.Int64, "at": pl.Int64}


def clicks(**declared: Any) -> dz.Stream:
    return dz.stream("clicks", schema=SCHEMA, **({"event_time": "at", "max_delay": "1s"} | declared))


def counted(**window: Any) -> dz.Stream:
    return clicks().window(dz.tumbling("10s", **window)).group_by("page").agg(n=dz.count())


def run(stream: dz.Stream, batches: list[Any], **options: Any) -> Result:
    return dz.testing.run(stream.to(dz.console()).job("test"), batches, **options)


def at(*times: int, page: str = "/") -> list[dict[str, Any]]:
    return [{"page": page, "user": f"u{time}", "amount": time // 1000, "at": time} for time in times]


# -- what comes out


def test_windows_are_counted() -> None:
    result = run(counted(), [at(1_000, 2_000), at(3_000) + at(4_000, page="/a"), at(11_000)])
    assert result.rows.rows() == [(0, 10_000, "/", 3), (0, 10_000, "/a", 1), (10_000, 20_000, "/", 1)]
    assert [sorted(batch.rows.rows()) for batch in result.batches] == [
        [(0, 10_000, "/", 2)],
        [(0, 10_000, "/", 3), (0, 10_000, "/a", 1)],
        [(10_000, 20_000, "/", 1)],
    ]


def test_time_is_virtual() -> None:
    job = counted().to(dz.console()).job("test", batch_interval="20s")
    result = dz.testing.run(job, [at(1), [], at(2)])
    assert [batch.at_ms for batch in result.batches] == [20_000, 40_000, 60_000]


def test_nothing_gives_no_rows_of_the_right_shape() -> None:
    for batches in ([], [[]], [[], crash()]):
        result = run(counted(), batches)
        assert dict(result.rows.schema) == counted().schema
        assert result.rows.height == 0


def test_a_job_without_keys_gives_all_rows_in_order() -> None:
    stream = clicks().filter(c("amount") > 1).select("page", double=c("amount") * 2)
    result = run(stream, [at(1_000, 2_000), at(3_000)], stream_partitions=1)
    assert result.rows.rows() == [("/", 4), ("/", 6)]


def test_a_running_aggregation_goes_on_from_batch_to_batch() -> None:
    stream = clicks(event_time=None).group_by("page").agg(n=dz.count(), spent=dz.sum("amount"))
    result = run(stream, [at(1_000, 2_000), [], at(3_000)])
    assert result.rows.rows() == [("/", 3, 6)]
    assert [batch.rows.rows() for batch in result.batches] == [[("/", 2, 3)], [], [("/", 3, 6)]]


def test_closed_windows_come_once_and_when_the_watermark_passes() -> None:
    batches = [at(1_000), at(9_000), at(10_999), at(11_000), at(25_000)]
    result = run(counted(emit="close"), batches, stream_partitions=1)
    assert [batch.rows.rows() for batch in result.batches] == [
        [],
        [],
        [],
        [(0, 10_000, "/", 2)],
        [(10_000, 20_000, "/", 2)],
    ]


def test_records_behind_the_watermark_are_kept_aside() -> None:
    result = run(counted(), [at(1_000), at(21_000), at(2_000, 3_000)], stream_partitions=1)
    assert result.late_records == 2
    assert result.late.to_dicts() == [
        {"window_start": 0, "window_end": 10_000, "page": "/", "n": 2, "records": 2}
    ]
    assert [batch.late_records for batch in result.batches] == [0, 0, 2]
    assert result.rows.rows() == [(0, 10_000, "/", 1), (20_000, 30_000, "/", 1)]


def test_allowed_lateness_takes_them_in() -> None:
    late = [at(1_000), at(21_000), at(2_000, 3_000)]
    result = run(counted(allowed_lateness="20s"), late, stream_partitions=1)
    assert (result.late_records, result.rows.rows()[0]) == (0, (0, 10_000, "/", 3))


def test_records_that_cannot_be_read_are_dead_letters() -> None:
    lines = b'{"page": "/", "at": 1000}\nnot json\n{"page": "/", "at": "soon"}\n{"page": "/", "at": "2000"}\n'
    result = run(counted(), [lines, b'{"page": "/"}'], stream_partitions=1)
    assert result.rows.rows() == [(0, 10_000, "/", 2)]
    assert [(letter.offset, letter.record) for letter in result.dead_letters] == [
        (1, b"not json"),
        (2, b'{"page": "/", "at": "soon"}'),
        (4, b'{"page": "/"}'),
    ]
    assert len(result.batches[0].dead_letters) == 2


@pytest.mark.parametrize("how", ["inner", "left"])
def test_tables_are_joined(how: Any) -> None:
    table = dz.table(pl.DataFrame({"page": ["/", "/"], "topic": ["home", "start"]}))
    stream = clicks(event_time=None).join(table, on="page", how=how).group_by("topic").agg(n=dz.count())
    rows = run(stream, [at(1, 2), at(3, page="/other")]).rows.rows()
    assert rows == ([(None, 1)] if how == "left" else []) + [("home", 2), ("start", 2)]


def test_several_group_bys_in_a_row() -> None:
    per_user = clicks().window(dz.tumbling("10s", emit="close")).group_by("page", "user").agg(n=dz.count())
    users = (
        per_user.window(dz.tumbling("20s", emit="close"))
        .group_by("page")
        .agg(users=dz.count(), n=dz.sum("n"))
    )
    batches = [
        at(1, 2) + at(1),
        at(12_000) + at(1, page="/a"),
        at(31_000),
        at(42_000),
        at(75_000),
        at(99_000),
    ]
    result = run(users, batches, stream_partitions=1)
    assert result.rows.rows() == [
        (0, 20_000, "/", 3, 4),
        (0, 20_000, "/a", 1, 1),
        (20_000, 40_000, "/", 1, 1),
        (40_000, 60_000, "/", 1, 1),
        (60_000, 80_000, "/", 1, 1),
    ]
    assert result.rows.equals(run(users, batches, stream_partitions=1, partitions=1, workers=1).rows)


def test_totals_over_closed_windows_run_on() -> None:
    totals = counted(emit="close").with_columns(all=pl.lit("all")).group_by("all").agg(n=dz.sum("n"))
    result = run(totals, [at(1, 2), at(12_000), at(35_000)], stream_partitions=1)
    assert result.rows.rows() == [("all", 3)]


def test_first_and_last_go_by_event_time() -> None:
    stream = clicks().group_by("page").agg(first=dz.first("user"), last=dz.last("user"))
    result = run(stream, [at(5_000, 3_000), at(4_000), at(9_000, 1_000)])
    assert result.rows.rows() == [("/", "u1000", "u9000")]


def test_event_time_may_be_computed() -> None:
    stream = (
        clicks(event_time=None)
        .with_columns(time=c("at") * 1000)
        .with_event_time("time", max_delay="1s")
        .window(dz.tumbling("10s", emit="close"))
        .group_by("page")
        .agg(n=dz.count())
    )
    result = run(stream, [at(1, 2), at(9), at(11)], stream_partitions=1)
    assert result.rows.rows() == [(0, 10_000, "/", 3)]


def test_event_time_may_be_a_datetime() -> None:
    for dtype in (pl.Datetime("us"), pl.Datetime("ms", "UTC")):
        stream = dz.stream("s", schema={"page": pl.String, "at": dtype}, event_time="at")
        counts = stream.window(dz.tumbling("1h")).group_by("page").agg(n=dz.count())
        times = ["2024-02-29T12:00:00", "2024-02-29T12:59:59.999", "2024-02-29T13:00:00"]
        zone = "Z" if dtype.time_zone else ""
        rows = run(counts, [[{"page": "/", "at": time + zone}] for time in times]).rows
        assert rows.select("window_start", "n").rows() == [(1_709_208_000_000, 2), (1_709_211_600_000, 1)]


def test_keys_may_be_computed() -> None:
    stream = clicks(event_time=None).group_by("page", (c("amount") // 10).alias("tens")).agg(n=dz.count())
    assert run(stream, [at(1_000, 9_000, 11_000)]).rows.rows() == [("/", 0, 2), ("/", 1, 1)]


def test_results_go_through_steps_like_records() -> None:
    table = dz.table(pl.DataFrame({"page": ["/", "/a"], "topic": ["home", "a"]}))
    stream = counted().filter(c("n") > 1).join(table, on="page").with_columns(double=c("n") * 2)
    result = run(
        stream.select("window_start", "page", "topic", "double"), [at(1, 2), at(3), at(4, page="/a")]
    )
    assert result.rows.rows() == [(0, "/", "home", 6)]
    assert [batch.rows.height for batch in result.batches] == [1, 1, 0]


MEASURES: dict[str, tuple[pl.DataType, Callable[[str], Any]]] = {
    f"{measure.__name__} of {dtype}": (dtype, measure)
    for measure, dtypes in {
        dz.count: [pl.String(), pl.List(pl.Int64)],
        dz.sum: [pl.Int8(), pl.Int64(), pl.UInt8(), pl.UInt64(), pl.Float32(), pl.Float64(), pl.Boolean()],
        dz.mean: [pl.Int8(), pl.UInt64(), pl.Float32(), pl.Boolean()],
        dz.min: [pl.Int8(), pl.Float32(), pl.String(), pl.Date(), pl.Datetime("ms"), pl.Boolean()],
        dz.max: [pl.UInt16(), pl.Float64(), pl.String(), pl.Date(), pl.Datetime("us"), pl.Boolean()],
        dz.first: [pl.Int8(), pl.String(), pl.Boolean(), pl.List(pl.Int64), pl.Date()],
        dz.last: [pl.Float32(), pl.String(), pl.Struct({"x": pl.Int64}), pl.Datetime("ns")],
    }.items()
    for dtype in dtypes
}
VALUES = {pl.String: "b", pl.Boolean: True, pl.Date: date(2024, 1, 2), pl.Datetime: datetime(2024, 1, 2)}  # noqa: DTZ001


@pytest.mark.parametrize("name", MEASURES)
def test_the_engine_gives_the_types_that_were_said(name: str) -> None:
    dtype, measure = MEASURES[name]
    value = {pl.List: [1], pl.Struct: {"x": 1}}.get(type(dtype), VALUES.get(type(dtype), 1))
    stream = dz.stream("s", schema={"key": pl.Int64, "value": dtype}).group_by("key").agg(x=measure("value"))
    frame = pl.DataFrame(
        {"key": [1, 1, 2], "value": [value, value, None]}, schema={"key": pl.Int64, "value": dtype}
    )
    result = run(stream, [frame[:1], crash(), frame[1:]])
    assert dict(result.rows.schema) == stream.schema
    assert result.rows["key"].to_list() == [1, 2]
    assert result.rows["x"][0] is not None


# -- what goes in


@pytest.mark.parametrize(
    "batch",
    [
        at(1_000, 2_000, 3_000),
        pl.DataFrame(at(1_000, 2_000, 3_000)),
        b'{"page":"/","at":1000}\n\n{"page":"/","at":2000,"more":[1]}\n{"page":"/","at":"3000"}',
        {0: at(1_000), 1: at(2_000, 3_000)},
        {1: pl.DataFrame(at(1_000, 2_000, 3_000))},
        tuple(at(1_000, 2_000, 3_000)),
    ],
    ids=["dicts", "frame", "lines", "by partition", "one partition", "tuple"],
)
def test_batches_may_be_written_in_several_ways(batch: Any) -> None:
    assert run(counted(), [batch]).rows.rows() == [(0, 10_000, "/", 3)]


def test_dates_and_times_may_be_python_values() -> None:
    schema = {"key": pl.Int64, "day": pl.Date, "when": pl.Datetime("ms", "UTC")}
    record = {"key": 1, "day": date(2024, 2, 29), "when": datetime(2024, 2, 29, 12, 30, tzinfo=UTC)}
    stream = dz.stream("s", schema=schema)
    for batch in ([record], pl.DataFrame([record], schema=schema)):
        assert run(stream, [batch]).rows.to_dicts() == [record]


def test_records_are_dealt_out_in_turn_across_batches() -> None:
    stream = clicks(event_time=None).select("at")
    result = run(stream, [at(1), at(2), at(3), at(4, 5, 6)], stream_partitions=3, workers=3)
    assert [batch.rows["at"].to_list() for batch in result.batches] == [[1], [2], [3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("batch", "wording"),
    [
        (
            "a text",
            r"^batch 0: wanted a DataFrame, a list of dicts, .*found str 'a text'.*An empty batch is \[\]",
        ),
        (7, "found int '7'"),
        (["a text"], "found str 'a text'"),
        (
            {2: []},
            r"batch 0: wanted partitions 0 to 1 of the stream, found 2\. Give .* stream_partitions=",
        ),
        ({"page": "/"}, "found str '/'"),
    ],
)
def test_batches_that_are_none_are_refused(batch: Any, wording: str) -> None:
    with pytest.raises(BuildError, match=wording):
        run(counted(), [batch])


@pytest.mark.parametrize("name", ["partitions", "stream_partitions", "workers", "snapshot_every"])
@pytest.mark.parametrize("value", [0, 65, True, 1.5])
def test_numbers_are_checked(name: str, value: Any) -> None:
    with pytest.raises(BuildError, match=f"testing.run: {name}: wanted a whole number from 1 to 64"):
        run(counted(), [], **{name: value})


# -- crashes


@pytest.mark.parametrize("lost", [None, 0, 1, 3])
@pytest.mark.parametrize("place", range(7))
def test_a_crash_anywhere_changes_nothing(place: int, lost: int | None) -> None:
    batches: list[Any] = [at(1_000 * step, page=f"/{step % 3}") + at(1_000 * step + 1) for step in range(6)]
    clean = run(counted(), batches)
    crashed = run(counted(), [*batches[:place], crash(lost), *batches[place:]])
    assert crashed.rows.equals(clean.rows)
    assert [batch.rows.rows() for batch in crashed.batches] == [batch.rows.rows() for batch in clean.batches]
    assert clean.written_again == 0
    if place % 3 and lost is None:
        assert crashed.written_again > 0, "the batches since the snapshot are computed and written again"


def test_a_crash_of_stages_in_a_row_changes_nothing() -> None:
    first = clicks().window(dz.tumbling("2s", emit="close")).group_by("page", "user").agg(n=dz.count())
    second = first.window(dz.tumbling("4s")).group_by("page").agg(n=dz.sum("n"), users=dz.count())
    batches: list[Any] = [at(500 * step, 500 * step + 7, page=f"/{step % 3}") for step in range(20)]
    clean = run(second, batches)
    assert clean.rows.height > 3
    for place, lost in itertools.product((5, 20), (None, 1)):
        crashed = run(second, [*batches[:place], crash(lost), *batches[place:]], snapshot_every=4)
        assert crashed.rows.equals(clean.rows)
        assert crashed.late_records == clean.late_records


def test_late_records_and_dead_letters_are_not_told_twice() -> None:
    batches: list[Any] = [at(1_000), at(21_000), at(2_000), b"nothing", crash(), crash(), at(22_000)]
    result = run(counted(), batches, stream_partitions=1, snapshot_every=10)
    assert (result.late_records, len(result.dead_letters)) == (1, 1)


def test_a_crash_of_nobody_is_refused() -> None:
    with pytest.raises(BuildError, match=r"crash: wanted a partition from 0 to 3, found 4"):
        run(counted(), [crash(4)])


def test_a_function_that_depends_on_more_than_its_row_is_found_by_a_crash() -> None:
    calls = itertools.count()

    def remembered(column: pl.Series) -> pl.Series:
        return column + next(calls)

    expr = c("amount").map_batches(remembered, return_dtype=pl.Int64, is_elementwise=True)
    stream = clicks(event_time=None).with_columns(x=expr).group_by("page").agg(x=dz.sum("x"))
    with pytest.raises(DrizzleError, match=r"stage 0, batch 0: wanted the same rows .*other rows.*chance"):
        run(stream, [at(1), crash()])


def test_an_exception_of_the_users_function_is_theirs() -> None:
    def broken(column: pl.Series) -> pl.Series:
        raise ZeroDivisionError("of the user")

    expr = c("amount").map_batches(broken, return_dtype=pl.Int64, is_elementwise=True)
    stream = clicks(event_time=None).with_columns(x=expr).group_by("page").agg(x=dz.sum("x"))
    with pytest.raises((pl.exceptions.ComputeError, ZeroDivisionError), match="of the user"):
        run(stream, [at(1)])

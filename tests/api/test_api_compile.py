"""From the graph to stages: cut at shuffles, filters first, only the columns that are needed."""

from __future__ import annotations

from typing import Any

import polars as pl
import polars.selectors as cs
import pytest

import drizzle_streams as dz
from drizzle_streams.api.compile import CompiledJob
from drizzle_streams.engine.program import Filter, JoinTable, Select, StageProgram, WithColumns
from drizzle_streams.model.ids import StageId
from drizzle_streams.model.job import Scheduling, StageSpec
from drizzle_streams.model.tuning import TuningMode
from tests.api.api_worlds import AnySink, clicks, counted

c = pl.col
PAGES = pl.DataFrame({"page": ["/", "/a"], "topic": ["home", "a"], "owner": ["ann", "bob"], "rank": [1, 2]})


def compiled(stream: dz.Stream, **settings: Any) -> CompiledJob:
    return stream.to(AnySink()).job("j", **settings).compile()


def only_stage(stream: dz.Stream) -> StageProgram:
    (stage,) = compiled(stream).program.stages
    return stage


def first_stage(stream: dz.Stream) -> StageProgram:
    return compiled(stream).program.stages[0]


def kinds(stage: StageProgram) -> list[str]:
    return [type(step).__name__ for step in stage.steps]


def columns(stage: StageProgram) -> list[str]:
    assert stage.read is not None
    return list(stage.read.schema)


def test_the_job_of_the_issue_is_two_stages() -> None:
    ads = dz.table(pl.DataFrame({"ad_id": ["a"], "campaign_id": ["c"], "price": [1]}))
    events = dz.stream(
        "ad-events",
        schema={"user_id": pl.String, "ad_id": pl.String, "event_type": pl.String, "event_time": pl.Int64},
        event_time="event_time",
    )
    counts = (
        events.filter(c("event_type") == "view")
        .join(ads, on="ad_id")
        .window(dz.tumbling("10s"))
        .group_by("campaign_id")
        .agg(clicks=dz.count())
    )
    sink = dz.redis("ysb")
    found = counts.to(sink).job("ysb", batch_interval="50ms").compile()

    assert found.spec.job == "ysb"
    assert found.spec.stages == (
        StageSpec(stage=0, partitions=0, stream="ad-events"),  # pyright: ignore[reportArgumentType]
        StageSpec(
            stage=StageId(1),
            partitions=8,
            inputs=(StageId(0),),
            stateful=True,
            writes_output=True,
            partitions_least=8,
        ),
    )
    reading, merging = found.program.stages
    assert columns(reading) == ["ad_id", "event_type", "event_time"]
    assert reading.read is not None
    assert reading.read.event_time == "event_time"
    assert kinds(reading) == ["Filter", "JoinTable"]
    assert reading.shuffle == merging.merge
    assert (reading.sink, merging.sink) == (None, sink)
    (table,) = found.program.tables.values()
    assert table.columns == ["ad_id", "campaign_id"]
    assert reading.shuffle is not None
    assert reading.shuffle.idle_batches == 200, "ten seconds at 50 ms"


def test_a_job_without_aggregation_is_one_stage_that_reads_and_writes() -> None:
    found = compiled(clicks().filter(c("paid")).select("page"))
    assert found.spec.stages == (StageSpec(stage=0, partitions=0, stream="clicks", writes_output=True),)  # pyright: ignore[reportArgumentType]
    (stage,) = found.program.stages
    assert columns(stage) == ["page", "paid"]
    assert stage.read is not None
    assert stage.read.event_time is None, "nothing goes by it, so it is not even parsed"


def test_every_aggregation_cuts() -> None:
    twice = (
        counted(emit="close").filter(c("n") > 1).window(dz.tumbling("1m")).group_by("page").agg(m=dz.sum("n"))
    )
    found = compiled(twice.select("window_start", "page", "m"), partitions=3)
    first, second, third = found.program.stages
    assert [stage.partitions for stage in found.spec.stages] == [0, 3, 3]
    assert [stage.inputs for stage in found.spec.stages] == [(), (0,), (1,)]
    assert [stage.stateful for stage in found.spec.stages] == [False, True, True]
    assert (first.shuffle, second.shuffle) == (second.merge, third.merge)
    assert (kinds(first), kinds(second), kinds(third)) == ([], ["Filter"], ["Select"])
    assert second.shuffle is not None
    assert (second.shuffle.event_time, second.shuffle.max_delay_ms) == ("window_start", 0)


def test_settings_reach_the_spec() -> None:
    found = compiled(
        counted(),
        batch_interval="5ms",
        scheduling="barrier",
        group_size=7,
        checkpoint_interval="2s",
        partitions=5,
        start_from="latest",
    ).spec
    assert (found.batch_interval_ms, found.scheduling, found.group_size) == (5.0, Scheduling.BARRIER, 7)
    assert (found.checkpoint_interval_ms, found.start_from, found.key_groups) == (2000.0, "latest", 1024)
    assert found.stages[1].partitions == 5
    assert found.tuning.mode is TuningMode.FIXED


def test_a_group_size_that_nobody_states_is_chosen_by_the_model() -> None:
    assert compiled(counted()).spec.tuning.mode is TuningMode.MODEL


def test_only_the_last_stage_may_be_split_and_only_where_nobody_says_how_many() -> None:
    def least(**settings: Any) -> list[int]:
        twice = counted(emit="close").group_by("page").agg(m=dz.sum("n"))
        return [stage.partitions_least for stage in compiled(twice, **settings).spec.stages]

    assert least() == least(partitions="auto") == [0, 0, 8]
    assert least(partitions=8) == least(replanning=False) == [0, 0, 0]
    (made,) = [counted().to(dz.redis("counts")).job("counts").compile(partitions=4).spec.stages[1:]]
    assert made[0].partitions_least == 0, "what a test asks for stays"


# -- projection


def test_columns_nobody_needs_are_not_read() -> None:
    stage = first_stage(
        clicks().with_columns(x=c("price") * 2, y=c("user")).group_by("page").agg(s=dz.sum("x"))
    )
    assert columns(stage) == ["page", "price"]
    (step,) = stage.steps
    assert isinstance(step, WithColumns)
    assert len(step.exprs) == 1


def test_a_column_that_was_replaced_is_read_only_for_its_new_value() -> None:
    stage = only_stage(clicks().with_columns(page=c("user").str.to_uppercase()).select("page"))
    assert columns(stage) == ["user"]


def test_a_select_keeps_what_is_needed_later() -> None:
    stage = first_stage(
        clicks().select("page", "user", double=c("amount") * 2).group_by("page").agg(n=dz.count())
    )
    assert columns(stage) == ["page"]
    (step,) = stage.steps
    assert isinstance(step, Select)
    assert len(step.exprs) == 1


def test_selectors_read_what_they_meant_where_they_stood() -> None:
    stage = only_stage(clicks().select(total=pl.sum_horizontal(cs.float() | cs.by_name("amount"))))
    assert columns(stage) == ["amount", "price"]


def test_counting_by_a_constant_still_reads_a_column() -> None:
    stage = first_stage(clicks().with_columns(all=pl.lit("all")).group_by("all").agg(n=dz.count()))
    assert columns(stage) == ["page"], "without any column there would be no rows to count"


def test_event_time_is_read_for_first_and_last_without_window() -> None:
    plain = first_stage(clicks().group_by("page").agg(n=dz.count()))
    ordered = first_stage(clicks().group_by("page").agg(n=dz.last("amount")))
    assert columns(plain) == ["page"]
    assert columns(ordered) == ["page", "amount", "at"]
    assert ordered.shuffle is not None
    assert ordered.shuffle.event_time == "at"


def test_tables_are_shipped_with_their_needed_columns_only() -> None:
    table = dz.table(PAGES)
    stream = clicks().join(table, on="page").filter(c("rank") > 1).select("user", "topic")
    (step, *_), program = only_stage(stream).steps, compiled(stream).program
    assert isinstance(step, JoinTable)
    assert program.tables[step.table].columns == ["page", "topic", "rank"]


def test_one_table_joined_twice_is_shipped_as_each_join_needs_it() -> None:
    table = dz.table(PAGES.rename({"page": "key"}).select("key", "topic"))
    other = dz.table(PAGES.rename({"page": "key"}).select("key", "owner"))
    stream = (
        clicks()
        .join(table, left_on="page", right_on="key")
        .join(other, left_on="user", right_on="key")
        .select("topic", "owner")
    )
    assert sorted(frame.columns for frame in compiled(stream).program.tables.values()) == [
        ["key", "owner"],
        ["key", "topic"],
    ]


def test_a_join_for_its_effect_on_rows_stays() -> None:
    stage = first_stage(clicks().join(dz.table(PAGES), on="page").group_by("user").agg(n=dz.count()))
    assert kinds(stage) == ["JoinTable"]
    assert columns(stage) == ["page", "user"]


# -- filters first


def test_a_filter_goes_before_what_does_not_make_its_columns() -> None:
    stream = clicks().with_columns(x=c("price") * 2).join(dz.table(PAGES), on="page").filter(c("paid"))
    assert kinds(only_stage(stream)) == ["Filter", "WithColumns", "JoinTable"]


@pytest.mark.parametrize(
    ("predicate", "order"),
    [
        (c("x") > 1, ["WithColumns", "Filter", "JoinTable"]),
        (c("rank") > 1, ["WithColumns", "JoinTable", "Filter"]),
        (c("page").is_in(["/"]), ["Filter", "WithColumns", "JoinTable"]),
        (
            pl.when(c("paid")).then(c("amount") > 1).otherwise(c("user").is_null()),
            ["Filter", "WithColumns", "JoinTable"],
        ),
    ],
)
def test_a_filter_stays_behind_what_makes_its_columns(predicate: pl.Expr, order: list[str]) -> None:
    stream = clicks().with_columns(x=c("price") * 2).join(dz.table(PAGES), on="page").filter(predicate)
    assert kinds(only_stage(stream)) == order


def test_a_filter_that_may_fail_stays_behind_a_join_that_takes_rows_away() -> None:
    stream = clicks().join(dz.table(PAGES), on="page").filter(c("user").cast(pl.Int64) > 1)
    assert kinds(only_stage(stream)) == ["JoinTable", "Filter"]


def test_a_filter_goes_through_a_select_of_its_columns_only() -> None:
    renamed = clicks().select("page", who=c("user"))
    assert kinds(only_stage(renamed.filter(c("page") == "/"))) == ["Filter", "Select"]
    assert kinds(only_stage(renamed.filter(c("who") == "ann"))) == ["Select", "Filter"]


def test_filters_keep_their_order() -> None:
    first, second = c("paid"), c("amount") > 1
    steps = only_stage(clicks().filter(first).with_columns(x=c("price")).filter(second)).steps
    assert [str(step.predicate) for step in steps if isinstance(step, Filter)] == [str(first), str(second)]
    assert isinstance(steps[-1], WithColumns)


def test_a_filter_does_not_go_before_the_event_time_is_there() -> None:
    """Rows that a filter drops tell how far the stream's time has come as well as others."""
    stream = (
        clicks(event_time=None)
        .with_columns(seconds=c("at") * 1000)
        .filter(c("paid"))
        .with_event_time("seconds")
        .window(dz.tumbling("10s"))
        .group_by("page")
        .agg(n=dz.count())
    )
    assert kinds(first_stage(stream)) == ["WithColumns", "Filter"]


def test_a_stage_knows_whether_its_tasks_call_functions_of_the_user() -> None:
    def longer(rows: pl.Series) -> pl.Series:
        return rows + "/"

    def called(stream: dz.Stream) -> list[bool]:
        return [stage.calls_python for stage in compiled(stream).program.stages]

    def per_page(stream: dz.Stream) -> dz.Stream:
        return stream.group_by("page").agg(n=dz.count())

    own = c("page").map_batches(longer, return_dtype=pl.String, is_elementwise=True)
    assert called(per_page(clicks())) == [False, False]
    assert called(per_page(clicks().filter(own != "//"))) == [True, False]
    assert called(per_page(clicks().with_columns(page=own))) == [True, False]
    assert called(clicks().group_by("page").agg(n=dz.count(own))) == [True, True], (
        "on either side of the shuffle"
    )
    assert called(clicks().select(page=own)) == [True]

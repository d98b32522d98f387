"""Which join becomes a stage of its own, what goes to it, and what users are told where none can."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import drizzle_streams as dz
from drizzle_streams.api import routing
from drizzle_streams.engine.keys import key_group, key_hash
from drizzle_streams.engine.program import JoinTable
from drizzle_streams.engine.shipping import load_program, ship_program
from drizzle_streams.errors import BuildError
from drizzle_streams.model.ids import StageId
from drizzle_streams.model.job import StageSpec
from tests.api.api_worlds import clicks
from tests.api.test_api_compile import PAGES, columns, compiled, kinds

c = pl.col
USERS = pl.DataFrame({"user": ["ann", "bob", "cy"], "team": ["x", "y", "x"]})


def counts(stream: dz.Stream, key: str = "topic") -> dz.Stream:
    return stream.window(dz.tumbling("10s")).group_by(key).agg(n=dz.count())


def shuffled(strategy: Any = "shuffled") -> dz.Stream:
    stream = clicks().filter(c("paid")).with_columns(x=c("amount") * 2)
    joined = stream.join(dz.table(PAGES), on="page", strategy=strategy)
    return counts(joined.filter(c("rank") > 1).filter(c("x") + c("rank") > 0))


def test_a_join_is_a_stage_between_reading_and_merging() -> None:
    found = compiled(shuffled(), partitions=4)
    assert found.spec.stages == (
        StageSpec(stage=StageId(0), partitions=0, stream="clicks"),  # pyright: ignore[reportArgumentType]
        StageSpec(stage=StageId(1), partitions=4, inputs=(StageId(0),)),
        StageSpec(stage=StageId(2), partitions=4, inputs=(StageId(1),), stateful=True, writes_output=True),
    )
    reading, joining, merging = found.program.stages
    assert (kinds(reading), kinds(joining), kinds(merging)) == (
        ["Filter", "WithColumns"],
        ["Filter", "Filter"],
        [],
    )
    assert columns(reading) == ["page", "amount", "paid", "at"]
    assert reading.route is joining.join
    assert reading.shuffle is None
    assert joining.shuffle is merging.merge
    route = reading.route
    assert route is not None
    assert (set(route.columns), route.partitions, route.pinned) == ({"page", "x", "at"}, 4, True)


def test_its_number_of_partitions_is_fixed() -> None:
    stages = compiled(shuffled(), partitions="auto").spec.stages
    assert [stage.partitions_least for stage in stages] == [0, 0, 8]


def test_its_table_travels_in_parts() -> None:
    found = compiled(shuffled())
    assert found.program.tables == {}
    (table,) = load_program(ship_program(found.program)).parted.values()
    assert (table.rows, table.keys) == (2, ("page",))
    groups = PAGES.select(key_hash(["page"], PAGES.schema)).select(key_group(1024)).to_series()
    rows = table.unpacked([(groups[0], groups[0] + 1)])
    assert rows.select("page", "topic", "rank").rows() == [("/", "home", 1)]


@pytest.mark.parametrize(("strategy", "stages"), [("auto", 2), ("broadcast", 2), ("shuffled", 3)])
def test_small_tables_are_held_whole_unless_the_job_says_otherwise(strategy: str, stages: int) -> None:
    assert len(compiled(shuffled(strategy)).program.stages) == stages


@pytest.mark.parametrize(("strategy", "stages"), [("auto", 3), ("broadcast", 2), ("shuffled", 3)])
def test_large_tables_may_be_shuffled(monkeypatch: pytest.MonkeyPatch, strategy: str, stages: int) -> None:
    monkeypatch.setattr(routing, "JOIN_BROADCAST_BYTES_MAX", 10)
    found = compiled(shuffled(strategy)).program.stages
    assert len(found) == stages
    if found[0].route is not None:
        assert found[0].route.pinned is (strategy == "shuffled"), "auto is chosen anew for each group"


def test_of_several_joins_the_one_with_the_largest_table_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    large = pl.DataFrame({"page": [f"/{n}" for n in range(50)], "topic": ["t"] * 50})
    stream = (
        clicks().join(dz.table(USERS), on="user").join(dz.table(large), on="page").filter(c("team") != "x")
    )
    monkeypatch.setattr(routing, "JOIN_BROADCAST_BYTES_MAX", 10)
    reading, joining, _ = compiled(counts(stream)).program.stages
    assert kinds(reading) == ["JoinTable", "Filter"]
    assert joining.join is not None
    assert joining.join.join.left_on == ("page",)
    assert set(joining.join.columns) == {"page", "at"}
    turned = clicks().join(dz.table(large), on="page").join(dz.table(USERS), on="user")
    reading, joining, _ = compiled(counts(turned, "team")).program.stages
    assert (kinds(reading), kinds(joining)) == ([], ["JoinTable"])
    assert joining.join is not None
    assert set(joining.join.columns) == {"page", "user", "at"}


def test_a_wish_goes_before_size(monkeypatch: pytest.MonkeyPatch) -> None:
    large = dz.table(pl.DataFrame({"page": [f"/{n}" for n in range(50)], "topic": ["t"] * 50}))
    monkeypatch.setattr(routing, "JOIN_BROADCAST_BYTES_MAX", 10)
    stream = clicks().join(large, on="page").join(dz.table(USERS), on="user", strategy="shuffled")
    (reading, joining, _) = compiled(counts(stream)).program.stages
    assert isinstance(reading.steps[0], JoinTable)
    assert joining.join is not None
    assert joining.join.join.left_on == ("user",)


def test_what_auto_cannot_cut_is_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "JOIN_BROADCAST_BYTES_MAX", 10)
    joined = clicks().join(dz.table(PAGES), on="page")
    assert len(compiled(joined).program.stages) == 1
    timed = joined.with_columns(later=c("at") + c("rank")).with_event_time("later")
    assert len(compiled(counts(timed)).program.stages) == 2
    behind = counts(clicks(), "page").join(dz.table(PAGES), on="page")
    assert len(compiled(behind).program.stages) == 2
    monkeypatch.setattr(routing, "TABLE_BYTES_MAX", 10)
    with pytest.raises(BuildError, match="at most 10 bytes for a table that every worker holds whole"):
        compiled(counts(timed))
    with pytest.raises(BuildError, match=r'or join with strategy="shuffled"'):
        compiled(shuffled("broadcast"))
    assert len(compiled(shuffled("auto")).program.stages) == 3


def impossible(kind: str) -> dz.Stream:
    joined = clicks().join(dz.table(PAGES), on="page", strategy="shuffled")
    match kind:
        case "no aggregation":
            return joined
        case "late time":
            return counts(joined.with_columns(later=c("at") + c("rank")).with_event_time("later"))
        case "behind one":
            first = clicks().window(dz.tumbling("10s", emit="close")).group_by("page").agg(n=dz.count())
            return counts(first.join(dz.table(PAGES), on="page", strategy="shuffled"))
        case _:
            return counts(joined.join(dz.table(USERS), on="user", strategy="shuffled"))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no aggregation", "wanted an aggregation behind it, found none"),
        ("late time", "wanted the event time 'later' before it, found it computed behind it"),
        ("behind one", "wanted it before the first aggregation, found it behind one"),
        ("two of them", "wanted one such join, found two"),
    ],
)
def test_a_wish_that_cannot_be_had_is_refused_with_the_reason(kind: str, words: str) -> None:
    with pytest.raises(BuildError, match=rf"^join with table 'DataFrame', strategy=\"shuffled\": {words}"):
        compiled(impossible(kind))


def test_an_event_time_that_only_passes_through_is_settled_before() -> None:
    joined = clicks().join(dz.table(PAGES), on="page", strategy="shuffled").select("topic", "at")
    assert len(compiled(counts(joined)).program.stages) == 3

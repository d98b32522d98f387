"""A join gives the same rows, to the last bit, whether it is shuffled, broadcast, or each in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_streams.engine.columns import is_reserved
from drizzle_streams.engine.execute import Block, InputEntry, StageExecutor, decode_block, encode_block
from drizzle_streams.engine.indices import UNUSED_TASKS_MAX
from drizzle_streams.engine.parted import PartedTable
from drizzle_streams.engine.program import Aggregate, AggregateKind, Explode, Filter, JoinTable, WithColumns
from drizzle_streams.engine.records import END
from drizzle_streams.errors import BuildError
from drizzle_streams.model.ids import PartitionId
from drizzle_streams.model.job import key_group_range
from drizzle_streams.model.replanning import StageChoice
from drizzle_streams.worker.cutting import cut
from tests.engine.generated import KEYS, batches, partitionings
from tests.engine.joining_world import (
    JOIN,
    KEY_GROUPS,
    MERGE,
    Chosen,
    Made,
    Shuffled,
    Whole,
    rows_as_text,
    state_as_text,
)
from tests.engine.world import EVERYTHING, MAP, Batch, Event, Log, aggregation

TABLE = {"id": pl.String(), "tag": pl.String(), "weight": pl.Float64(), "size": pl.Int64()}
FLOATS = st.floats(-1e6, 1e6, allow_nan=False)
tables = st.lists(
    st.tuples(KEYS, st.sampled_from(["r", "g", None]), FLOATS, st.integers(-9, 9)), max_size=14
).map(lambda rows: pl.DataFrame(rows, schema=TABLE, orient="row"))

EXACT = (
    Aggregate("n", AggregateKind.COUNT),
    Aggregate("sum", AggregateKind.SUM, pl.col("size") * pl.col("v")),
    Aggregate("mean", AggregateKind.MEAN, pl.col("v")),
    Aggregate("lo", AggregateKind.MIN, pl.col("size")),
    Aggregate("top", AggregateKind.MAX, pl.col("tag")),
)
PICKED = (
    *EXACT,
    Aggregate("first", AggregateKind.FIRST, pl.col("size")),
    Aggregate("last", AggregateKind.LAST, pl.col("v")),
)
ROUNDED = (
    *EVERYTHING,
    Aggregate("weight", AggregateKind.SUM, pl.col("weight") * pl.col("f")),
    Aggregate("mid", AggregateKind.MEAN, pl.col("weight")),
)
ROUNDED_ONLY = (Aggregate("weight", AggregateKind.SUM, pl.col("weight")),)

SPLIT = (WithColumns((pl.concat_list(["k", pl.lit("a"), "k"]).alias("x"),)), Explode("x"))
BEFORE = st.sampled_from([(), (Filter(pl.col("keep")),), SPLIT])
AFTER = st.sampled_from([(), (Filter(pl.col("size") > -5),), (WithColumns((pl.col("size") * 2,)),)])
AGAIN = (WithColumns((pl.concat_list(["size", pl.lit(3, dtype=pl.Int64)]),)), Explode("size"))
choices = st.lists(
    st.none()
    | st.builds(
        StageChoice,
        stage=st.just(MAP),
        partial=st.booleans(),
        broadcast=st.sampled_from([None, True, True, False]),
    ),
    min_size=1,
    max_size=5,
)


@st.composite
def jobs(draw: st.DrawFn) -> Made:
    keys = draw(st.sampled_from([("tag", "j"), ("k", "j"), ("tag",)]))
    aggregates = draw(st.sampled_from([EXACT, PICKED, ROUNDED, ROUNDED_ONLY]))
    before = draw(BEFORE)
    after = draw(AFTER) if draw(st.booleans()) else AGAIN
    left = "x" if before == SPLIT else "k"
    join = JoinTable("t", (left,), ("id",), draw(st.sampled_from(["inner", "left"])))
    spec = aggregation(keys=keys, aggregates=aggregates, emit=draw(st.sampled_from(["update", "close"])))
    if draw(st.integers(0, 3)) == 0:
        spec = replace(spec, window=None, emit="update")
    return Made(spec, draw(tables), join, before, after)


def whole(made: Made, given_batches: list[Batch], streams: int, *, ends: bool) -> tuple[Whole, list[str]]:
    player = Whole(made, streams, 3)
    late: list[str] = []
    for number, batch in enumerate(given_batches):
        entries = player.log.entries(batch)
        if ends and number == len(given_batches) - 1:
            entries += [InputEntry(p, 1 << 20, 0, END, b"") for p in range(streams)]
        output = player.mapper.run_input(range(streams), entries)
        assert output.blocks is not None
        late += rows_as_text([one.late for one in player.reduce([output.blocks])])
    return player, sorted(late)


@settings(max_examples=60, deadline=None)
@given(
    made=jobs(),
    given_batches=batches(3, most=4),
    maps=partitionings(3),
    joins=partitionings(4),
    merges=partitionings(3),
    mapped=choices,
    joined=choices,
    copies=st.lists(st.integers(0, 1), min_size=1, max_size=4),
    ends=st.booleans(),
)
def test_a_join_gives_the_same_rows_wherever_it_is_made(
    made: Made,
    given_batches: list[Batch],
    maps: list[list[int]],
    joins: list[list[int]],
    merges: list[list[int]],
    mapped: list[StageChoice | None],
    joined: list[StageChoice | None],
    copies: list[int],
    ends: bool,
) -> None:
    plain, late = whole(made, given_batches, 3, ends=ends)
    other = Shuffled(made, maps, joins, merges, Chosen(mapped), Chosen(joined), copies)
    for number, batch in enumerate(given_batches):
        other.play(batch, ends=ends and number == len(given_batches) - 1)
        assert other.texts(number) == plain.texts(number)
    assert state_as_text(other.merger, other.states) == state_as_text(plain.reducer, plain.states)
    assert other.late() == late


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.sampled_from("abcdefgh"), min_size=12, max_size=40),
    before=st.sampled_from([(), SPLIT]),
    mapped=choices,
    aggregates=st.sampled_from([ROUNDED_ONLY, (*ROUNDED_ONLY, *PICKED)]),
)
def test_sums_that_round_are_added_up_in_one_order(
    rows: list[str], before: Any, mapped: list[StageChoice | None], aggregates: Any
) -> None:
    """All rows are of one group, and any other order of theirs gives another sum."""
    weights = [1e16, 0.3, -1e16, 1.7, 3e15, -7e-3, 1e2, -3e15, 12.3]
    table = pl.DataFrame(
        {"id": list("abcdefgha"), "tag": ["r"] * 9, "weight": weights, "size": range(9)}, schema=TABLE
    )
    join = JoinTable("t", ("x" if before else "k",), ("id",))
    made = Made(
        aggregation(keys=("tag",), aggregates=aggregates, event_time=None, window=None), table, join, before
    )
    batch = {0: [Event(k, 5 - n % 3) for n, k in enumerate(rows)], 1: [Event(k, 1) for k in rows[::-1]]}
    plain, _ = whole(made, [batch], 2, ends=False)
    other = Shuffled(made, [[0, 1]], [[0, 2], [1], [3]], [[0, 1, 2]], Chosen(mapped), Chosen([None]))
    other.play(batch)
    assert other.texts(0) == plain.texts(0)


def job(**changes: Any) -> Made:
    table = pl.DataFrame(
        {"id": [f"k{n}" for n in range(40)], "tag": ["r", "g"] * 20, "weight": [0.1] * 40, "size": [1] * 40},
        schema=TABLE,
    )
    spec = aggregation(keys=("tag",), aggregates=EXACT)
    return Made(**{"spec": spec, "table": table, "join": JoinTable("t", ("k",), ("id",)), **changes})


EVENTS = {0: [Event(f"k{n % 50}", n % 7) for n in range(60)], 1: [Event(f"k{n}", 3) for n in range(30)]}


def test_rows_go_by_their_join_key_with_what_is_needed_of_them() -> None:
    program = job().cut(4)
    lean = replace(program.stages[0].route, columns=("k", "v", "t"))  # type: ignore[arg-type]
    stages = (
        replace(program.stages[0], route=lean),
        replace(program.stages[1], join=lean),
        program.stages[2],
    )
    output = StageExecutor(replace(program, stages=stages), MAP).run_input([0, 1], Log().entries(EVENTS))
    assert output.blocks is not None
    frame = output.blocks.frame
    assert frame is not None
    assert frame.columns == ["k", "v", "t", "__partition", "__offset", "__key_group"]
    assert frame.get_column("__key_group").is_sorted()
    assert frame.height == 90
    groups = frame.group_by("k").agg(pl.col("__key_group").n_unique())
    assert groups.get_column("__key_group").max() == 1


def test_an_index_holds_the_rows_of_its_own_partitions_only() -> None:
    made = job()
    joiner = StageExecutor(made.cut(4), JOIN, 4)
    block = StageExecutor(made.cut(4), MAP).run_input([0, 1], Log().entries(EVENTS)).blocks
    assert block is not None
    parted = PartedTable.of(made.table, ("id",), KEY_GROUPS)
    owned = [parted.unpacked([key_group_range(p, 4, KEY_GROUPS)]) for p in range(4)]
    assert sum(one.height for one in owned) == 40
    assert all(0 < one.height < 40 for one in owned)
    indices = joiner._joins.indices  # type: ignore[union-attr]
    assert indices.held == ()
    for cohort in ([0], [2, 3]):
        joiner.run_join(cohort, [_cut(joiner, block, cohort)])
    assert indices.held == ((0,), (2, 3))
    assert len(indices.of((2, 3))._index) == owned[2].height + owned[3].height
    joiner.run_join([1, 2], [_cut(joiner, block, [1, 2])])
    assert indices.held == ((0,), (1, 2)), "a partition is in one index"
    joiner.gave_up()
    assert indices.held == ()


def _cut(joiner: StageExecutor, block: Block, partitions: list[int]) -> Block:
    return cut(block, frozenset([PartitionId(0), PartitionId(1)]), joiner.ranges(partitions))


def test_an_index_that_no_task_needs_goes() -> None:
    program = job().cut(4)
    reader, joiner = StageExecutor(program, MAP), StageExecutor(program, JOIN, 4)
    entries = Log().entries({0: [Event("k1", 1)]})
    broadcast = StageChoice(MAP, broadcast=True)
    routed, made = reader.run_input([0], entries).blocks, reader.run_input([0], entries, broadcast).blocks
    assert routed is not None
    assert made is not None
    joiner.run_join([0, 1, 2, 3], [routed])
    whole_table, parts = reader._router._whole, joiner._joins.indices  # type: ignore[union-attr]
    assert whole_table.held == ((0,),)
    for _ in range(UNUSED_TASKS_MAX):
        assert whole_table.held
        assert parts.held
        reader.run_input([0], entries)
        joiner.run_join([0, 1, 2, 3], [made])
    assert not whole_table.held
    assert not parts.held
    joiner.run_join([0, 1, 2, 3], [routed])
    assert parts.held == ((0, 1, 2, 3),)


def test_what_was_seen_of_a_join_is_told() -> None:
    made = job()
    reader, joiner = StageExecutor(made.cut(4), MAP), StageExecutor(made.cut(4), JOIN, 4)
    entries = Log().entries(EVENTS)
    shuffled = reader.run_input([0, 1], entries)
    assert shuffled.seen is not None
    assert (shuffled.seen.join_rows, shuffled.seen.broadcast) == (40, False)
    assert shuffled.seen.join_bytes == made.table.estimated_size()
    assert (shuffled.seen.rows, shuffled.seen.shuffled) == (0, 0), "nothing to aggregate there"
    assert (shuffled.seen.side_rows, shuffled.seen.side_bytes) == (0, 0)
    assert shuffled.blocks is not None
    joined = joiner.run_join([0, 1, 2, 3], [shuffled.blocks])
    assert joined.seen is not None
    assert joined.seen.partial
    assert 0 < joined.seen.shuffled < joined.seen.rows
    broadcast = reader.run_input([0, 1], entries, StageChoice(MAP, broadcast=True))
    assert broadcast.seen is not None
    assert broadcast.seen.broadcast
    assert broadcast.seen.rows == joined.seen.rows
    pinned = StageExecutor(made.cut(4, pinned=True), MAP)
    kept = pinned.run_input([0, 1], entries, StageChoice(MAP, broadcast=True))
    assert kept.seen is not None
    assert (kept.seen.join_rows, kept.seen.join_bytes, kept.seen.broadcast) == (0, 0, None)
    assert kept.blocks is not None
    assert encode_block(kept.blocks) == encode_block(shuffled.blocks), "the job's word counts"


@pytest.mark.parametrize(
    ("aggregates", "before", "may"),
    [(EXACT, (), True), (PICKED, (), True), (PICKED, SPLIT, False), (ROUNDED_ONLY, (), False)],
)
def test_rows_go_unaggregated_where_their_order_counts(aggregates: Any, before: Any, may: bool) -> None:
    made = job(spec=aggregation(keys=("tag",), aggregates=aggregates), before=before)
    reader, joiner = StageExecutor(made.cut(4), MAP), StageExecutor(made.cut(4), JOIN, 4)
    entries = Log().entries(EVENTS)
    routed = reader.run_input([0, 1], entries).blocks
    assert routed is not None
    broadcast = reader.run_input([0, 1], entries, StageChoice(MAP, broadcast=True))
    for output in (joiner.run_join([0, 1, 2, 3], [routed]), broadcast):
        assert output.blocks is not None
        assert output.blocks.frame is not None
        assert ("__records" in output.blocks.frame.columns) is may
        assert ("__order" in output.blocks.frame.columns) is not may
        assert output.seen is not None
        assert output.seen.partial
        assert (output.seen.rows > 0) is may, "what cannot be chosen is not measured"


def test_marks_are_passed_on_with_every_cut() -> None:
    made = job()
    reader, joiner = StageExecutor(made.cut(4), MAP), StageExecutor(made.cut(4), JOIN, 4)
    block = reader.run_input([0, 1, 2], Log().entries(EVENTS)).blocks
    assert block is not None
    assert block.marks == ((0, 6), (1, 3), (2, None))
    given = joiner.run_join([3, 1], [_cut(joiner, block, [1, 3]), Block(None, ((2, None),))]).blocks
    assert given is not None
    assert (given.marks, given.shown) == (((1, None), (3, None)), ((0, 6), (1, 3), (2, None)))
    again = decode_block(encode_block(given))
    assert (again.marks, again.passed) == (given.marks, given.passed)


def test_no_aggregate_is_lost_between_tasks_that_have_no_rows() -> None:
    made = job(table=pl.DataFrame(schema=TABLE))
    other = Shuffled(made, [[0], [1]], [[0], [1, 2]], [[0, 1]], Chosen([None]), Chosen([None]))
    other.play(EVENTS)
    other.play({})
    assert other.texts(0) == other.texts(1) == []


def test_a_stage_that_does_not_join_says_so() -> None:
    with pytest.raises(BuildError, match="one that can join"):
        StageExecutor(job().cut(4), MERGE, 2).run_join([0], [])


@settings(max_examples=40, deadline=None)
@given(tables, st.integers(1, 4))
def test_a_table_in_parts_has_all_its_rows_in_the_order_of_hash_and_table(
    table: pl.DataFrame, partitions: int
) -> None:
    parted = PartedTable.of(table, ("id",), KEY_GROUPS)
    every = parted.unpacked(None)
    assert every.get_column("__key_hash").is_sorted()
    known = table.filter(pl.col("id").is_not_null())
    assert (
        every.select(table.columns)
        .sort("id", maintain_order=True)
        .equals(known.sort("id", maintain_order=True))
    )
    parts = [parted.unpacked([key_group_range(p, partitions, KEY_GROUPS)]) for p in range(partitions)]
    assert pl.concat(parts).equals(every)
    assert not any(is_reserved(name) for name in parted.schema)

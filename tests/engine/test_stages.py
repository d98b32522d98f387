"""Both stages of a job against the oracle, whatever the cuts, the cohorts and the plan."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_streams.engine.execute import encode_block, slice_block
from drizzle_streams.engine.program import Aggregate, AggregateKind
from tests.engine.generated import batches, partitionings
from tests.engine.world import EVERYTHING, Batch, Event, Oracle, Player, aggregation

SPECS: dict[str, dict[str, Any]] = {
    "windowed": {},
    "closing": {"emit": "close"},
    "lenient": {"emit": "close", "allowed_lateness_ms": 7},
    "running": {"window": None},
    "untimed": {"window": None, "event_time": None},
    "counting": {"aggregates": (Aggregate("n", AggregateKind.COUNT),)},
}
# Each example runs a dozen batches through both stages; times six specs.
few = settings(max_examples=10)

specs = pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS.keys())


@specs
@few
@given(played=batches())
def test_every_batch_gives_what_the_oracle_gives(changes: dict[str, Any], played: list[Batch]) -> None:
    spec = aggregation(**changes)
    player, oracle = Player(spec), Oracle(spec)
    for number, batch in enumerate(played):
        expected = oracle.batch(batch)
        player.play(batch)
        assert player.rows(number) == expected
        assert player.state_rows() == oracle.state_rows()
        assert sum(state.keys for state in player.states) == len(oracle.groups)
        assert player.states[0].clock.watermark == oracle.watermark
    assert player.late_records() == len(oracle.late)


@specs
@few
@given(played=batches(partitions=3), maps=partitionings(3), reduces=partitionings(4))
def test_any_cohorts_give_the_same_rows(
    changes: dict[str, Any], played: list[Batch], maps: list[list[int]], reduces: list[list[int]]
) -> None:
    spec = aggregation(**changes)
    one = Player(spec, streams=3, reducers=4).play_all(played)
    many = Player(spec, streams=3, reducers=4, map_cohorts=maps, reduce_cohorts=reduces).play_all(played)
    for number in range(len(played)):
        assert one.rows(number) == many.rows(number)
    assert one.late_records() == many.late_records()


@specs
@few
@given(played=batches())
def test_partial_aggregation_changes_nothing(changes: dict[str, Any], played: list[Batch]) -> None:
    with_it = Player(aggregation(**changes)).play_all(played)
    without = Player(aggregation(**changes, partial=False)).play_all(played)
    for one, other in zip(with_it.outputs, without.outputs, strict=True):
        assert [output.rows.to_dicts() for output in one if output.rows is not None] == [
            output.rows.to_dicts() for output in other if output.rows is not None
        ]
    assert with_it.late_records() == without.late_records()


@st.composite
def cut_twice(draw: st.DrawFn) -> tuple[list[Batch], list[Batch]]:
    """The same events per partition, cut into batches in two ways."""
    events = [draw(batches(partitions=1, most=1, size=20))[0][0] for _ in range(2)]
    found: list[list[Batch]] = []
    for _ in range(2):
        count = draw(st.integers(1, 4))
        cuts = [sorted(draw(st.integers(0, len(some))) for _ in range(count - 1)) for some in events]
        edges = [[0, *cut, len(some)] for cut, some in zip(cuts, events, strict=True)]
        found.append([{p: events[p][edges[p][n] : edges[p][n + 1]] for p in range(2)} for n in range(count)])
    return found[0], found[1]


@pytest.mark.parametrize("changes", [{}, {"window": None}, {"window": None, "event_time": None}])
@few
@given(cuts=cut_twice())
def test_splitting_a_batch_anywhere_gives_the_same_answer(
    changes: dict[str, Any], cuts: tuple[list[Batch], list[Batch]]
) -> None:
    # Nothing is late here: when a row is late depends on what came in batches before, by design.
    spec = aggregation(**{"max_delay_ms": 1000, **changes})
    one, other = Player(spec).play_all(cuts[0]), Player(spec).play_all(cuts[1])
    assert one.state_rows() == other.state_rows()
    assert one.finals() == other.finals()


@few
@given(played=batches(partitions=3), maps=partitionings(3))
def test_a_partition_gives_the_same_rows_in_the_same_order_whoever_shares_its_call(
    played: list[Batch], maps: list[list[int]]
) -> None:
    spec = aggregation()
    alone = Player(spec, streams=3, map_cohorts=[[0], [1], [2]])
    shared = Player(spec, streams=3, map_cohorts=maps)
    for batch in played:
        singles = {block.marks[0][0]: block for block in alone.map(batch)}
        for block in shared.map(batch):
            for partition, _ in block.marks:
                own = None if block.frame is None else block.frame.filter(pl.col("__partition") == partition)
                single = singles[partition]
                assert (partition, dict(block.marks)[partition]) == single.marks[0]
                if single.frame is None:
                    assert own is None or own.height == 0
                else:
                    assert own is not None
                    assert own.equals(single.frame)
                    assert own.schema == single.frame.schema


@few
@given(played=batches())
def test_the_same_batches_give_the_same_bytes(played: list[Batch]) -> None:
    def everything(player: Player) -> list[bytes]:
        found: list[bytes] = []
        for batch in played:
            blocks = player.map(batch)
            found += [encode_block(block) for block in blocks]
            for output in player.reduce(blocks):
                assert output.rows is not None
                found.append(output.rows.write_ipc_stream(None).getvalue())
        return found

    spec = aggregation()
    assert everything(Player(spec)) == everything(Player(spec))


@few
@given(value=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60), maps=partitionings(3))
def test_float_sums_round_alike_in_any_cohorts_with_or_without_partial(
    value: list[float], maps: list[list[int]]
) -> None:
    sums = (
        Aggregate("sf", AggregateKind.SUM, pl.col("f")),
        Aggregate("mean", AggregateKind.MEAN, pl.col("f")),
    )
    events = [Event("a" if n % 3 else "b", n % 20, f=one) for n, one in enumerate(value)]
    played: list[Batch] = [{p: events[p::3][:5] for p in range(3)}, {p: events[p::3][5:] for p in range(3)}]
    found: list[Any] = []
    for changes in ({}, {"partial": False}):
        for cohorts in ([[0, 1, 2]], maps):
            spec = aggregation(aggregates=sums, **changes)
            player = Player(spec, streams=3, map_cohorts=cohorts).play_all(played)
            found.append([player.rows(number) for number in range(2)])
    assert all(one == found[0] for one in found)


def test_float_sums_of_large_groups_round_alike_too() -> None:
    sums = (
        Aggregate("sf", AggregateKind.SUM, pl.col("f")),
        Aggregate("mean", AggregateKind.MEAN, pl.col("f")),
    )
    chosen = random.Random(7)
    played: list[Batch] = [
        {
            p: [Event(chosen.choice("abc"), n // 300, f=chosen.gauss(0, 1e6)) for n in range(3000)]
            for p in range(3)
        }
        for _ in range(2)
    ]
    found: list[Any] = []
    for partial in (True, False):
        for maps in ([[0, 1, 2]], [[2], [0, 1]]):
            spec = aggregation(aggregates=sums, partial=partial)
            player = Player(spec, streams=3, map_cohorts=maps)
            player.log.per_entry = 1000
            player.play_all(played)
            found.append([player.rows(number) for number in range(2)])
    assert all(one == found[0] for one in found)


def test_late_rows_are_kept_aside_with_their_records() -> None:
    player = Player(aggregation(max_delay_ms=0), streams=1)
    player.play({0: [Event("a", 5), Event("a", 25)]})  # the watermark comes to 25: windows 0 and 10 close
    player.play({0: [Event("a", 7, v=3), Event("a", 8, v=4), Event("b", 12), Event("b", 26)]})
    (output,) = player.outputs[1]
    assert output.late_records == 3
    assert output.late is not None
    late = {(row["window_start"], row["k"]): row for row in output.late.to_dicts()}
    assert late[0, "a"]["__records"] == 2
    assert late[0, "a"]["sv"] == 7
    assert late[10, "b"]["__records"] == 1
    assert [row["k"] for row in player.rows(1)] == ["b"]


def test_a_row_is_in_time_by_the_watermark_before_its_batch() -> None:
    player = Player(aggregation(max_delay_ms=0), streams=1)
    player.play({0: [Event("a", 25), Event("a", 3)]})  # together: nothing is late yet
    assert player.late_records() == 0
    assert [row["window_start"] for row in player.rows(0)] == [0, 20]
    assert [row["window_start"] for row in player.state_rows()] == [20]


def test_close_gives_every_window_once_and_only_when_the_watermark_passes() -> None:
    player = Player(aggregation(emit="close", max_delay_ms=0, allowed_lateness_ms=5), streams=1)
    player.play({0: [Event("a", 1)]})
    player.play({0: [Event("a", 14)]})
    assert player.rows(0) == player.rows(1) == []
    player.play({0: [Event("a", 2), Event("b", 15)]})
    assert [(row["window_start"], row["k"], row["n"]) for row in player.rows(2)] == [(0, "a", 2)]
    player.play({0: [Event("b", 40)]})
    assert [(row["window_start"], row["k"], row["n"]) for row in player.rows(3)] == [
        (10, "a", 1),
        (10, "b", 1),
    ]


def test_a_slice_for_every_partition_is_the_whole_block() -> None:
    player = Player(aggregation(), reducers=5)
    (block,) = player.map({0: [Event(f"key-{n}", n % 30) for n in range(200)], 1: []})
    assert block.frame is not None
    layout = player.reducer.layout
    slices = [slice_block(block, layout.ranges([partition])) for partition in range(5)]
    frames = [one.frame for one in slices if one.frame is not None]
    assert pl.concat(frames).equals(block.frame)
    assert all(one.marks == block.marks for one in slices)
    assert slice_block(block, layout.ranges(range(5))).rows == block.rows
    some = slice_block(block, layout.ranges([0, 3]))
    assert some.rows == slices[0].rows + slices[3].rows


@pytest.mark.parametrize("aggregate", EVERYTHING, ids=lambda one: one.name)
def test_every_aggregate_works_on_its_own(aggregate: Aggregate) -> None:
    spec = aggregation(aggregates=(aggregate,))
    played: list[Batch] = [
        {0: [Event("a", 3, v=4, f=None), Event("a", 1, v=None, f=2.5)], 1: [Event("a", 3, v=-1, f=1.0)]},
        {0: [Event("a", 2, v=9, f=-1.25)], 1: [Event("b", 4, v=None, f=None)]},
    ]
    player, oracle = Player(spec), Oracle(spec)
    for number, batch in enumerate(played):
        expected = oracle.batch(batch)
        player.play(batch)
        assert player.rows(number) == expected

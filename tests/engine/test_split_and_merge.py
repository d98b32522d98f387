"""Another number of partitions is another way to cut the same state: nothing is lost, doubled or changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_streams.engine.restoring import restore
from drizzle_streams.engine.state import StageState
from drizzle_streams.model.ids import Generation, JobId, StageId
from drizzle_streams.model.job import JobSpec, StageSpec, key_group_range, overlapping, owner_of
from tests.engine.generated import batches
from tests.engine.test_snapshots import SPECS, same
from tests.engine.test_state import small_runs
from tests.engine.world import Batch, Player, aggregation, rows_of

few = settings(max_examples=15)
COUNTS = st.integers(1, 16)
KEY_GROUPS = 16


def united(states: list[StageState]) -> StageState:
    whole = states[0]
    for other in states[1:]:
        whole = whole.merge(other)
    return whole


def resized(player: Player, count: int, workers: int) -> None:
    """All state, cut anew into so many partitions, dealt out to so many cohorts."""
    player.reducer = player.reducer.resized(count)
    whole = united(player.states)
    dealt = [list(range(count))[worker::workers] for worker in range(min(workers, count))]
    player.states = [whole.laid_out(player.reducer.layout, partitions) for partitions in dealt]


@given(of=st.integers(1, 300), other=st.integers(1, 300), key_groups=st.integers(1, 1024))
def test_overlapping_partitions_share_key_groups_and_the_others_do_not(
    of: int, other: int, key_groups: int
) -> None:
    for partition in {0, of // 2, of - 1}:
        mine = set(range(*key_group_range(partition, of, key_groups)))
        found = set(overlapping(partition, of, other, key_groups))
        sharing = {p for p in range(other) if mine & set(range(*key_group_range(p, other, key_groups)))}
        assert sharing <= found
        assert {owner_of(group, other, key_groups) for group in mine} == sharing
        empty = {p for p in found - sharing if key_group_range(p, other, key_groups)[0] in mine}
        assert found - sharing <= empty, "beyond those there are only partitions without any key group"


@SPECS
@few
@given(played=batches(most=6), counts=st.lists(COUNTS, min_size=6, max_size=6), workers=st.integers(1, 3))
def test_any_splits_and_merges_give_the_same_answers(
    changes: dict[str, Any], played: list[Batch], counts: list[int], workers: int
) -> None:
    spec = aggregation(**changes)
    with small_runs():
        fixed, elastic = Player(spec), Player(spec)
        for number, batch in enumerate(played):
            fixed.play(batch)
            elastic.play(batch)
            assert elastic.rows(number) == fixed.rows(number)
            assert elastic.state_rows() == fixed.state_rows()
            resized(elastic, counts[number], workers)
        assert elastic.late_records() == fixed.late_records()


@SPECS
@few
@given(played=batches(most=5), count=COUNTS)
def test_a_split_that_is_merged_again_is_what_was_there(
    changes: dict[str, Any], played: list[Batch], count: int
) -> None:
    with small_runs():
        player = Player(aggregation(**changes)).play_all(played)
        (before,) = player.states
        layout = before.layout
        other = player.reducer.resized(count).layout
        parts = [before.laid_out(other, (p,)) for p in range(count)]
        assert sum(part.keys for part in parts) == before.keys
        assert rows_of([part.groups() for part in parts]) == rows_of([before.groups()])
        after = united(parts).laid_out(layout, before.partitions)
        assert same(after, before)


@SPECS
@few
@given(played=batches(most=4), count=COUNTS)
def test_a_snapshot_of_the_old_partitions_restores_the_new_ones(
    changes: dict[str, Any], played: list[Batch], count: int
) -> None:
    player = Player(aggregation(**changes), reduce_cohorts=[[0, 2], [1]]).play_all(played)
    batch = player.states[0].version
    layout = player.reducer.resized(count).layout
    olds = [
        restore(state.layout, state.partitions, batch, [*state.snapshot_since(None)[1]])
        for state in player.states
    ]
    for partition in range(count):
        needed = overlapping(partition, count, 3, KEY_GROUPS)
        whole = united([old.keep(needed) for old in olds if set(needed) & set(old.partitions)])
        found = whole.laid_out(layout, (partition,))
        assert same(found, united(list(player.states)).laid_out(layout, (partition,)))
        assert found.snapshot_since(batch - 1)[0], "what changed is not known in the new layout"


def test_state_that_lacks_key_groups_is_not_laid_out() -> None:
    player = Player(aggregation(), reduce_cohorts=[[0], [1, 2]])
    layout = player.reducer.resized(2).layout
    with pytest.raises(ValueError, match="holds key groups"):
        player.states[0].laid_out(layout, (0,))
    assert player.states[1].laid_out(player.reducer.resized(16).layout, (15,)).partitions == (15,)


def test_a_stage_keeps_its_number_and_knows_since_when() -> None:
    stage = StageSpec(StageId(0), 8)
    assert stage.partitions_least == 0, "fixed unless somebody says otherwise"
    later = replace(stage, partitions=16, laid=Generation(4))
    assert JobSpec(JobId("j"), (later,)).stage(StageId(0)).laid == 4

"""Snapshots: full and incremental, whole and in part, and what happens to damaged ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_streams.engine import snapshot
from drizzle_streams.engine.restoring import restore
from drizzle_streams.engine.state import StageState
from drizzle_streams.errors import CorruptError
from tests.engine.generated import batches
from tests.engine.test_state import small_runs
from tests.engine.world import Batch, Event, Player, aggregation

few = settings(max_examples=10)

SPECS = pytest.mark.parametrize(
    "changes", [{}, {"emit": "close"}, {"window": None}], ids=["update", "close", "running"]
)


def same(one: StageState, other: StageState) -> bool:
    return (
        one.version == other.version
        and one.partitions == other.partitions
        and one.clock == other.clock
        and dict(one.counts) == dict(other.counts)
        and one.groups().equals(other.groups())
    )


@SPECS
@few
@given(played=batches(most=8), every=st.integers(1, 3), more=batches(most=2))
def test_a_chain_of_snapshots_restores_what_was_there(
    changes: dict[str, Any], played: list[Batch], every: int, more: list[Batch]
) -> None:
    with small_runs():
        player = Player(aggregation(**changes), reducers=3)
        layout = player.reducer.layout
        chain: list[bytes] = []
        last: int | None = None
        for number, batch in enumerate(played):
            player.play(batch)
            if number % every == 0:
                is_full, parts = player.states[0].snapshot_since(last)
                chain = [*parts] if is_full else [*chain, *parts]
                last = number
                restored = restore(layout, (0, 1, 2), number, chain)
                assert same(restored, player.states[0])
                full = restore(layout, (0, 1, 2), number, [*player.states[0].snapshot_since(None)[1]])
                assert same(full, player.states[0])
        is_full, parts = player.states[0].snapshot_since(last)
        final = player.states[0].version
        again = Player(aggregation(**changes), reducers=3)
        again.states = [restore(layout, (0, 1, 2), final, [*parts] if is_full else [*chain, *parts])]
        again.log, again.batch = player.log, player.batch
        again.log.ends = dict(player.log.ends)
        for batch in more:
            blocks = player.map(batch)
            again.batch = player.batch
            assert [
                output.rows.to_dicts() for output in player.reduce(blocks) if output.rows is not None
            ] == [output.rows.to_dicts() for output in again.reduce(blocks) if output.rows is not None]


@few
@given(played=batches(most=6))
def test_partitions_are_restored_from_a_snapshot_of_more(played: list[Batch]) -> None:
    player = Player(aggregation(), reducers=4).play_all(played)
    (whole,) = player.states
    parts = [*whole.snapshot_since(None)[1]]
    for some in ([0], [1, 3], [0, 1, 2, 3]):
        assert same(player.reducer.restore(some, whole.version, parts), whole.keep(some))


@few
@given(played=batches(most=5), more=batches(most=3))
def test_a_restored_state_goes_on_with_increments(played: list[Batch], more: list[Batch]) -> None:
    player = Player(aggregation(), reducers=2).play_all(played)
    (first,) = player.states
    chain = [*first.snapshot_since(None)[1]]
    player.states = [player.reducer.restore((0, 1), first.version, chain)]
    for batch in more:
        player.play(batch)
    is_full, parts = player.states[0].snapshot_since(first.version)
    chain = [*parts] if is_full else [*chain, *parts]
    assert same(player.reducer.restore((0, 1), player.states[0].version, chain), player.states[0])


def test_an_increment_costs_what_changed_not_what_there_is() -> None:
    player = Player(aggregation(window=None), streams=1, reducers=1)
    player.log.per_entry = 10_000
    player.play({0: [Event(f"key-{n}", 1) for n in range(5000)]})
    base = player.states[0]
    full, parts = base.snapshot_since(None)
    assert full
    whole = [*parts]
    player.play({0: [Event("key-7", 1), Event("key-8", 1)]})
    full, delta = player.states[0].snapshot_since(base.version)
    assert not full
    changes = [*delta]
    assert sum(map(len, changes)) < sum(map(len, whole)) / 20
    restored = player.reducer.restore((0,), 1, whole + changes)
    assert same(restored, player.states[0])


def test_nothing_changed_is_one_small_part_with_the_clock() -> None:
    player = Player(aggregation(), streams=1, reducers=1)
    player.play({0: [Event("a", 1)]})
    chain = [*player.states[0].snapshot_since(None)[1]]
    player.play({0: []})
    full, parts = player.states[0].snapshot_since(0)
    delta = [*parts]
    assert (full, len(delta)) == (False, 1)
    assert same(player.reducer.restore((0,), 1, chain + delta), player.states[0])


def test_a_snapshot_the_log_of_changes_forgot_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drizzle_streams.engine.state.CHANGED_ROWS_MAX", 3)
    player = Player(aggregation(window=None), streams=1, reducers=1)
    for batch in range(6):
        player.play({0: [Event(f"{batch}-{n}", 1) for n in range(3)]})
    assert player.states[0].snapshot_since(0)[0]
    assert player.states[0].snapshot_since(None)[0]
    assert not player.states[0].snapshot_since(4)[0]


def test_large_states_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PART_BYTES", 10_000)
    player = Player(aggregation(window=None), streams=1, reducers=2)
    player.log.per_entry = 10_000
    player.play({0: [Event(f"key-{n}", 1) for n in range(2000)]})
    parts = [*player.states[0].snapshot_since(None)[1]]
    assert len(parts) > 5
    assert max(map(len, parts)) < 40_000
    assert same(player.reducer.restore((0, 1), 0, parts), player.states[0])


def test_damaged_snapshots_are_refused() -> None:
    player = Player(aggregation(), reducers=1)
    player.play({0: [Event("a", 1)], 1: [Event("b", 2)]})
    parts = [*player.states[0].snapshot_since(None)[1]]
    for bad in (
        [],
        [parts[0][:20]],
        [b""],
        [b"\x01\x00\x00\x00\x80"],
        [parts[0][:-400]],
        [parts[0][: len(parts[0]) // 2]],
    ):
        with pytest.raises(CorruptError):
            player.reducer.restore((0,), 0, bad)
    with pytest.raises(CorruptError, match="batch 7"):
        player.reducer.restore((0,), 7, parts)
    other = Player(aggregation(window=None), reducers=1)
    with pytest.raises(CorruptError, match="columns"):
        other.reducer.restore((0,), 0, parts)

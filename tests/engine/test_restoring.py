"""What was in order stays as it was, what is small becomes one run, and each group counts once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_streams.engine import restoring, snapshot
from drizzle_streams.engine.frames import decode_frame, encode_frame
from drizzle_streams.engine.state import StageState, counts_of
from drizzle_streams.engine.windows import SLOT
from tests.engine.generated import batches
from tests.engine.test_state import small_runs
from tests.engine.world import Event, Player, aggregation

MANY = 2_000
CHANGES = 30
few = settings(max_examples=15)


def totals(player: Player) -> StageState:
    (state,) = player.states
    return state


def filled() -> Player:
    """Totals of many keys in one run, in parts that are small."""
    player = Player(aggregation(window=None), streams=1, reducers=1)
    player.log.per_entry = 10_000
    player.play({0: [Event(f"key-{n}", 1) for n in range(MANY)]})
    return player


def chained(player: Player, changes: int) -> list[bytes]:
    """A full snapshot, and one of what changed after each of some batches: an old key, and a new one."""
    chain = [*totals(player).snapshot_since(None)[1]]
    for number in range(changes):
        last = totals(player).version
        player.play({0: [Event(f"key-{7 * number}", 1), Event(f"new-{number}", 1)]})
        is_full, parts = totals(player).snapshot_since(last)
        assert not is_full
        chain += parts
    return chain


@pytest.fixture
def parts_of_a_run(monkeypatch: pytest.MonkeyPatch) -> Player:
    monkeypatch.setattr(snapshot, "PART_BYTES", 10_000)
    return filled()


def test_the_parts_of_a_run_are_that_run_again(
    parts_of_a_run: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = totals(parts_of_a_run)
    chain = chained(parts_of_a_run, 0)
    assert len(chain) > 5

    def sorts(*_: object) -> None:
        raise AssertionError("it was in order")

    monkeypatch.setattr(restoring, "newest_groups", sorts)
    restored = parts_of_a_run.reducer.restore((0,), state.version, chain)
    assert [run.rows for run in restored.runs] == [MANY]
    assert restored.groups().equals(state.groups())


def test_many_small_changes_become_one_run_beside_the_large_one(parts_of_a_run: Player) -> None:
    chain = chained(parts_of_a_run, CHANGES)
    state = totals(parts_of_a_run)
    restored = parts_of_a_run.reducer.restore((0,), state.version, chain)
    assert [run.rows for run in restored.runs] == [2 * CHANGES, MANY]
    assert restored.keys == MANY + CHANGES == restored.groups().height
    assert restored.groups().equals(state.groups())


def test_a_part_that_is_not_in_order_is_put_in_order(parts_of_a_run: Player) -> None:
    chain = chained(parts_of_a_run, 2)
    header, frame = decode_frame(chain[0])
    assert frame is not None
    mixed = [encode_frame(header, frame.reverse()), *chain[1:]]
    state = totals(parts_of_a_run)
    restored = parts_of_a_run.reducer.restore((0,), state.version, mixed)
    assert all(run.frame.get_column(SLOT).is_sorted() for run in restored.runs)
    assert restored.groups().equals(state.groups())


def test_a_slot_that_goes_on_in_the_next_part_is_of_another_run(parts_of_a_run: Player) -> None:
    """Two keys may share a slot, and one key may be in two runs: only distinct slots prove anything."""
    chain = chained(parts_of_a_run, 0)
    header, frame = decode_frame(chain[0])
    assert frame is not None
    repeated = [chain[0], encode_frame(header, frame.tail(1)), *chain[1:]]
    state = totals(parts_of_a_run)
    restored = parts_of_a_run.reducer.restore((0,), state.version, repeated)
    assert restored.keys == MANY == restored.groups().height
    assert restored.groups().equals(state.groups())


@few
@given(played=batches(most=8), emit=st.sampled_from(["update", "close"]))
def test_groups_of_several_runs_are_counted_once(played: list, emit: str) -> None:
    with small_runs():
        state = totals(Player(aggregation(emit=emit), reducers=3).play_all(played))
        assert counts_of(state.runs, state.layout) == {s: n for s, n in state.counts.items() if n}
        assert state.keys == state.groups().height

"""State against a dictionary: runs, compaction, collisions, closing, splitting and uniting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_streams.engine import aggregation as aggregation_module
from drizzle_streams.engine import changes, compaction, keys, runs, state
from drizzle_streams.engine.compaction import Compacted, Compaction
from drizzle_streams.engine.runs import run_of
from drizzle_streams.engine.series import row_numbers
from drizzle_streams.engine.windows import SLOT
from tests.engine.generated import batches, partitionings
from tests.engine.world import Batch, Event, Oracle, Player, aggregation, rows_of

few = settings(max_examples=10)


@contextmanager
def small_runs(runs_max: int = 3) -> Iterator[None]:
    """Bounds so small that a handful of groups goes through every kind of merge."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (compaction, state):
            patch.setattr(module, "NEWEST_ROWS_MAX", 2)
        patch.setattr(compaction, "INLINE_ROWS_MAX", 6)
        patch.setattr(compaction, "RUNS_MAX", runs_max)
        patch.setattr(compaction, "CROWDED_ROWS_MAX", 12)
        patch.setattr(compaction, "GROWTH", 2)
        patch.setattr(compaction, "FOLD_GROWTH", 4)
        patch.setattr(compaction, "FOLD_ROWS_MIN", 4)
        patch.setattr(runs, "FRESH_SHARE", 3)
        patch.setattr(changes, "INLINE_ROWS_MAX", 6)
        patch.setattr(compaction, "_HELD_ROWS_SLACK", 2)
        patch.setattr(changes, "_UNITE", 2)
        patch.setattr(changes, "_KEEP_APART", 1)
        yield


@contextmanager
def weak_hash(values: int) -> Iterator[None]:
    """A key hash with so few values that different keys collide all the time."""
    real = keys.key_hash

    def weak(*given: Any) -> pl.Expr:
        width = pl.lit((1 << 64) // values, dtype=pl.UInt64)
        return (real(*given) // width * width).alias("__key_hash")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregation_module, "key_hash", weak)
        yield


@pytest.mark.parametrize(
    "changes", [{}, {"emit": "close"}, {"window": None}], ids=["update", "close", "running"]
)
@pytest.mark.parametrize("work_beside", [False, True])
@few
@given(played=batches(most=9, size=10), values=st.sampled_from([2, 5]))
def test_collisions_and_merges_change_nothing(
    changes: dict[str, Any], work_beside: bool, played: list[Batch], values: int
) -> None:
    spec = aggregation(**changes)
    oracle = Oracle(spec)
    with small_runs(), weak_hash(values):
        player = Player(spec, reducers=2)
        for number, batch in enumerate(played):
            expected = oracle.batch(batch)
            player.play(batch)
            assert player.rows(number) == expected
            assert player.state_rows() == oracle.state_rows()
            assert sum(one.keys for one in player.states) == len(oracle.groups)
            if work_beside:
                player.states = [compacted(one) for one in player.states]
                assert player.state_rows() == oracle.state_rows()


def compacted(one: state.StageState) -> state.StageState:
    work = one.compaction()
    return one if work is None else one.compacted(work, work.run())


@few
@given(played=batches(most=8, size=10), delay=st.integers(1, 4))
def test_a_compaction_may_end_some_batches_later(played: list[Batch], delay: int) -> None:
    spec = aggregation()
    oracle = Oracle(spec)
    with small_runs():
        player = Player(spec, reducers=1)
        pending: tuple[int, Compaction, Compacted] | None = None
        for number, batch in enumerate(played):
            expected = oracle.batch(batch)
            player.play(batch)
            assert player.rows(number) == expected
            if pending is None:
                work = player.states[0].compaction()
                pending = None if work is None else (number + delay, work, work.run())
            elif pending[0] <= number:
                player.states[0] = player.states[0].compacted(pending[1], pending[2])
                pending = None
            assert player.state_rows() == oracle.state_rows()


def test_a_compaction_is_taken_up_when_newer_runs_were_merged_meanwhile() -> None:
    with small_runs(runs_max=9):
        player = Player(aggregation(window=None), reducers=1)
        player.play({0: [Event(f"k{n}", 1) for n in range(40)]})
        work: Compaction | None = None
        for batch in range(8):
            player.play({0: [Event(f"k{n}", 1) for n in range(batch * 3, batch * 3 + 3)]})
            work = player.states[0].compaction()
            if work is not None and len(work.runs) == 2:
                break
        assert work is not None
        newest, *_, oldest = list(work.runs)
        result = work.run()
        player.play({0: [Event("new", 1), Event("k0", 1)]})
        origins = [run.origin for run in player.states[0].runs]
        assert newest.origin not in origins
        assert oldest.origin in origins
        expected = player.state_rows()
        player.states[0] = player.states[0].compacted(work, result)
        assert result.runs[-1].origin in [run.origin for run in player.states[0].runs]
        assert player.state_rows() == expected


def test_a_compaction_of_runs_that_are_gone_is_left() -> None:
    with small_runs():
        player = Player(aggregation(window=None), reducers=1)
        for batch in range(6):
            player.play({0: [Event(f"k{batch}{n}", 1) for n in range(9)]})
        work = player.states[0].compaction()
        assert work is None or player.states[0].keep([]).compacted(work, work.run()).keys == 0
        other = replace(player.states[0], runs=(run_of(player.states[0].groups(), frozenset()),))
        fresh = Compaction(player.states[0].runs, player.states[0].layout.plan.groups)
        assert other.compacted(fresh, fresh.run()).runs is other.runs


@few
@given(played=batches(most=5), dealt=partitionings(4), late=batches(most=2))
def test_keep_and_merge_move_partitions_without_a_trace(
    played: list[Batch], dealt: list[list[int]], late: list[Batch]
) -> None:
    spec = aggregation()
    with small_runs():
        moved = Player(spec, reducers=4).play_all(played)
        stayed = Player(spec, reducers=4).play_all(played)
        (whole,) = moved.states
        parts = [whole.keep(cohort) for cohort in dealt]
        assert sum(part.keys for part in parts) == whole.keys
        assert rows_of([part.groups() for part in parts]) == rows_of([whole.groups()])
        moved.states = parts
        for batch in late:
            moved.play(batch)
            stayed.play(batch)
        united = moved.states[0]
        for part in moved.states[1:]:
            united = united.merge(part)
        assert united.partitions == (0, 1, 2, 3)
        assert united.keys == stayed.states[0].keys
        moved.states = [united]
        assert moved.state_rows() == stayed.state_rows()
        batch: Batch = {0: [Event("a", 90), Event("zz", 91)]}
        moved.play(batch)
        stayed.play(batch)
        assert moved.rows(len(moved.outputs) - 1) == stayed.rows(len(stayed.outputs) - 1)


def test_states_that_do_not_fit_are_not_merged() -> None:
    player = Player(aggregation(), reducers=2, reduce_cohorts=[[0], [1]])
    other = replace(player.states[1], version=5)
    with pytest.raises(ValueError, match="the same version"):
        player.states[0].merge(other)
    with pytest.raises(ValueError, match="different partitions"):
        player.states[0].merge(player.states[0])


def test_an_older_version_stays_as_it_was() -> None:
    player = Player(aggregation(window=None), reducers=1)
    player.play({0: [Event("a", 1)]})
    old = player.states[0]
    before = old.groups()
    player.play({0: [Event("a", 1), Event("b", 1)]})
    player.states[0].keep([])
    assert old.version == 0
    assert old.groups().equals(before)
    assert player.states[0].keys == 2


def test_windows_that_share_slots_are_told_apart() -> None:
    """Windows 65,536 apart have the same upper bits in their slots."""
    far = 65_536 * 10
    spec = aggregation(max_delay_ms=2 * far, emit="close")
    oracle, player = Oracle(spec), Player(spec)
    played: list[Batch] = [
        {0: [Event("a", 5), Event("a", far + 5), Event("b", 6)], 1: [Event("a", 5)]},
        {0: [Event("a", far + 6), Event("a", 7)], 1: [Event("b", far + 7)]},
        {0: [Event("a", 2 * far + 20)], 1: [Event("c", 2 * far + 20)]},
        {0: [Event("a", 3 * far + 20)], 1: [Event("c", 3 * far + 20)]},
    ]
    for number, batch in enumerate(played):
        expected = oracle.batch(batch)
        player.play(batch)
        assert player.rows(number) == expected
        assert player.state_rows() == oracle.state_rows()


def test_times_before_1970_have_windows_too() -> None:
    spec = aggregation(max_delay_ms=0)
    oracle, player = Oracle(spec), Player(spec)
    for number, times in enumerate([[-25, -21, -5], [-4, 3], [-7, 30]]):
        batch: Batch = {0: [Event("a", t) for t in times], 1: [Event("b", times[-1])]}
        expected = oracle.batch(batch)
        player.play(batch)
        assert player.rows(number) == expected


def test_runs_stay_few_and_memory_of_closed_windows_goes() -> None:
    spec = aggregation(max_delay_ms=0)
    player = Player(spec, streams=1, reducers=1)
    player.log.per_entry = 5000
    most = 0
    for batch in range(40):
        player.play({0: [Event(f"k{batch}-{n}", batch * 4 + n % 4) for n in range(600)]})
        most = max(most, len(player.states[0].runs))
    assert most <= compaction.RUNS_MAX
    held = sum(run.held_rows for run in player.states[0].runs)
    assert held <= 2 * player.states[0].keys + 2 * compaction.NEWEST_ROWS_MAX + 65_536
    assert player.states[0].keys <= 600 * 6


def test_the_newest_run_is_bounded_by_its_rows() -> None:
    player = Player(aggregation(window=None), streams=1, reducers=1)
    player.log.per_entry = 5000
    for batch in range(12):
        player.play({0: [Event(f"k{batch}-{n}", 1) for n in range(1000)]})
    one = player.states[0]
    assert one.keys == 12_000
    assert one.runs[0].rows < compaction.NEWEST_ROWS_MAX + 1000
    assert one.size_bytes > 12_000 * 8


def test_changes_know_what_they_forgot() -> None:
    frames = [
        pl.DataFrame({"k": [f"{n}", "x"], "v": [n, n]}).with_columns(pl.col("k").hash().alias(SLOT))
        for n in range(2000)
    ]
    log = changes.Changes(-1)
    for batch, frame in enumerate(frames):
        log = log.with_batch(batch, frame, ["k"], 10_000)
    assert len(log.entries) < 100
    for asked in (1998, 1990, 1900, 1500, 0):
        since = log.since(asked)
        assert since is not None
        newest = {row["k"]: row["v"] for frame in since for row in frame.to_dicts()}
        assert {f"{n}" for n in range(asked + 1, 2000)} <= newest.keys()
        assert newest["x"] == 1999
        assert len(newest) - 1 <= 1.6 * (1999 - asked) + 1, "what was not asked for stays a fraction"
    assert log.since(1999) == []
    later = log.forget(1900)
    assert later.since(1899) is None
    assert later.rows < log.rows
    short = changes.Changes(-1)
    for batch, frame in enumerate(frames[:40]):
        short = short.with_batch(batch, frame, ["k"], 20)
    assert short.rows <= 20
    assert short.since(0) is None
    assert short.since(39) == []
    assert 0 < short.known_since < 39


def test_row_numbers_are_what_gathers_want() -> None:
    assert row_numbers(3).to_list() == [0, 1, 2]
    assert row_numbers(0).dtype == pl.UInt32


def counted(groups: dict[str, int]) -> runs.Run:
    """A run of keys with a total each."""
    hashed = pl.col("k").str.slice(1).cast(pl.UInt64)  # sorted as the numbers behind the letter
    frame = pl.DataFrame({"k": list(groups), "n": list(groups.values())}).with_columns(hashed.alias(SLOT))
    return run_of(frame.sort(SLOT), frozenset())


@pytest.mark.parametrize("share", [1, 1_000])
@few
@given(
    newer=st.dictionaries(st.integers(0, 60).map("k{}".format), st.integers(0, 99), min_size=1),
    older=st.dictionaries(st.integers(0, 60).map("k{}".format), st.integers(0, 99), min_size=1),
)
def test_folding_gives_what_merging_does(share: int, newer: dict[str, int], older: dict[str, int]) -> None:
    wanted = older | newer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "FRESH_SHARE", share)
        given = runs.fold(counted(newer), counted(older), ["k"], ["n"])
    assert {row["k"]: row["n"] for run in given for row in run.frame.to_dicts()} == wanted
    assert sum(run.rows for run in given) == len(wanted), "no group twice"
    assert all(run.index.hashes.is_sorted() for run in given)
    if share == 1_000 and given[-1].rows < len(wanted):
        assert given[-1].rows == len(older), "the older run keeps its groups and its order"


def test_a_batch_merges_few_of_many_runs_unless_nobody_ever_does() -> None:
    def crowd(count: int, rows: int) -> tuple[runs.Run, ...]:
        made = (pl.int_range(n * rows, n * rows + rows, eager=True) for n in range(count))
        frames = (pl.DataFrame([keys.alias("k"), keys.cast(pl.UInt64).alias(SLOT)]) for keys in made)
        return tuple(run_of(frame, frozenset()) for frame in frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "CROWDED_ROWS_MAX", 25)
        patch.setattr(compaction, "INLINE_ROWS_MAX", 0)
        patch.setattr(compaction, "RUNS_MAX", 4)
        assert len(compaction.merge_inline(crowd(4, 10), ["k"], 0)) == 4
        assert [one.rows for one in compaction.merge_inline(crowd(5, 10), ["k"], 0)] == [20, 10, 10, 10]
        assert len(compaction.merge_inline(crowd(8, 30), ["k"], 0)) == 8, "each is too large for a batch"
        assert [one.rows for one in compaction.merge_inline(crowd(9, 30), ["k"], 0)] == [270]


def test_many_changes_are_united_beside_batches() -> None:
    def frame(first: int) -> pl.DataFrame:
        keys = pl.int_range(first, first + 4, eager=True)
        return pl.DataFrame([keys.alias("k"), keys.cast(pl.UInt64).alias(SLOT)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changes, "INLINE_ROWS_MAX", 7)
        patch.setattr(changes, "_UNITE", 2)
        patch.setattr(changes, "_KEEP_APART", 1)
        log = changes.Changes(-1)
        for batch in range(6):
            log = log.with_batch(batch, frame(batch), ["k"], 1_000)
        assert len(log.entries) == 6, "nothing is united within a batch"
        old = log.due()
        later = log.with_batch(6, frame(6), ["k"], 1_000)
        after = later.replaced(old, changes.united(old, ["k"]))
        assert [one.last for one in after.entries] == [1, 2, 3, 4, 5, 6]
        assert after.entries[0].frame.get_column("k").to_list() == [0, 1, 2, 3, 4]
        assert after.rows == later.rows - 3
        gone = later.forget(0)
        assert gone.replaced(old, changes.united(old, ["k"])) is gone

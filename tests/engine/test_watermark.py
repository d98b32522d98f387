"""The clock: slowest partition, silence, never back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.engine.watermark import Clock, Reading


def after(*batches: dict[int, int | None], delay: int = 0, idle: int = 2) -> int | None:
    clock = Clock(delay, idle)
    for batch in batches:
        clock = clock.advance(batch.items())
    return clock.watermark


def test_the_slowest_partition_counts() -> None:
    assert after({0: 10, 1: 30}) == 10
    assert after({0: 10, 1: 30}, {0: 50, 1: None}) == 30
    assert after({0: 10, 1: 30}, delay=4) == 6


def test_a_partition_that_has_shown_nothing_holds_it_back_until_it_is_idle() -> None:
    assert after({0: 10, 1: None}) is None
    assert after({0: 10, 1: None}, {0: 12, 1: None}) == 12


def test_silence_leaves_a_partition_out_until_it_speaks_again() -> None:
    silent: dict[int, int | None] = {0: None, 1: 40}
    assert after({0: 10, 1: 20}, silent) == 10
    assert after({0: 10, 1: 20}, silent, silent) == 40
    assert after({0: 10, 1: 20}, silent, silent, {0: 15, 1: 50}) == 40
    assert after({0: 10, 1: 20}, silent, silent, {0: 45, 1: 50}) == 45


def test_when_all_are_silent_it_stays() -> None:
    nothing: dict[int, int | None] = {0: None, 1: None}
    assert after({0: 10, 1: 20}, nothing, nothing, nothing, nothing) == 10
    assert after(nothing, nothing, nothing) is None


def test_a_partition_missing_from_the_marks_was_silent() -> None:
    assert after({0: 10, 1: 20}, {1: 30}, {1: 40}) == 40


def test_late_times_do_not_turn_it_back() -> None:
    clock = Clock(0, 2).advance([(0, 10)]).advance([(0, 5)])
    assert clock.watermark == 10
    assert clock.readings == {0: Reading(10, 0)}


def test_a_mark_given_twice_counts_once() -> None:
    assert Clock(0, 2).advance([(0, 10), (0, 12), (0, None)]).watermark == 12


marks = st.dictionaries(st.integers(0, 3), st.none() | st.integers(-100, 100))


@given(batches=st.lists(marks, max_size=12), delay=st.integers(0, 20), idle=st.integers(1, 4))
def test_it_never_goes_back_and_never_passes_the_highest_time(
    batches: list[dict[int, int | None]], delay: int, idle: int
) -> None:
    clock = Clock(delay, idle)
    highest: int | None = None
    for batch in batches:
        before = clock.watermark
        clock = clock.advance(batch.items())
        times = [mark for mark in batch.values() if mark is not None]
        highest = max([*times, *([] if highest is None else [highest])], default=None)
        if before is not None:
            assert clock.watermark is not None
            assert clock.watermark >= before
        if clock.watermark is not None:
            assert highest is not None
            assert clock.watermark <= highest - delay

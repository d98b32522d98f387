"""When a post's turn is: by the rhythm of those before it, whatever one of them was late by."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.post_times import EARLY_SHARE, PostTimes


@given(gap=st.floats(0.001, 10.0), posts=st.integers(2, 200), phase=st.floats(0.0, 10.0))
def test_a_turn_is_about_a_usual_gap_after_the_one_before(gap: float, posts: int, phase: float) -> None:
    times = PostTimes()
    for number in range(posts):
        times.began(phase + number * gap)
    last = phase + (posts - 1) * gap
    assert not times.is_due(last)
    assert not times.is_due(last + (0.99 - EARLY_SHARE) * gap)
    assert times.is_due(last + gap)
    assert times.is_due(last + 1.99 * gap)
    assert not times.is_due(last + 2.01 * gap)


@given(late=st.lists(st.floats(0.0, 0.4), min_size=50, max_size=50))
def test_posts_that_are_late_leave_the_rhythm_as_it_is(late: list[float]) -> None:
    times = PostTimes()
    for number, share in enumerate(late):
        times.began(number + share)
    assert times.is_due(len(late) + 0.2)
    assert not times.is_due(len(late) - 0.5)


def test_one_post_is_no_rhythm() -> None:
    times = PostTimes()
    assert not times.is_due(0.0)
    times.began(0.0)
    assert not times.is_due(1.0)

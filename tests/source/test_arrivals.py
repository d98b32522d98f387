"""What a seal waits for: posts that have begun, and one whose turn has come; nothing else, not for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from drizzle_streams.source.arrivals import BEGUN_S_MAX, Arrivals

LONG_S = 30.0
"""Longer than any test: what returns did not wait for the end of its time."""


class Times:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now(self) -> float:
        return self.at


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def arrivals(times: Times) -> Arrivals:
    return Arrivals(times.now)


def post(arrivals: Arrivals) -> Callable[[], None]:
    """A post begins; what is returned ends it."""
    stack = ExitStack()
    stack.enter_context(arrivals.post())
    return stack.close


def rhythm(arrivals: Arrivals, times: Times, gap_s: float, posts: int = 5) -> None:
    for _ in range(posts):
        times.at += gap_s
        post(arrivals)()


async def waiting(arrivals: Arrivals, within_s: float = LONG_S) -> asyncio.Task[None]:
    """Somebody waits, and has begun to."""
    task = asyncio.create_task(arrivals.settled(within_s))
    await asyncio.sleep(0)
    return task


async def test_where_nothing_comes_nothing_is_waited_for(arrivals: Arrivals) -> None:
    assert (await waiting(arrivals)).done()


async def test_a_post_that_has_begun_is_waited_for(arrivals: Arrivals) -> None:
    end = post(arrivals)
    task = await waiting(arrivals)
    assert not task.done()
    end()
    await task


async def test_posts_that_begin_later_are_not(arrivals: Arrivals) -> None:
    first = post(arrivals)
    task = await waiting(arrivals)
    post(arrivals)
    first()
    await task


async def test_it_waits_no_longer_than_it_may(arrivals: Arrivals) -> None:
    end = post(arrivals)
    await arrivals.settled(0.001)
    await arrivals.settled(0.0)
    end()


async def test_a_post_that_has_taken_long_already_is_not_waited_for(arrivals: Arrivals, times: Times) -> None:
    post(arrivals)
    times.at += 1.01 * BEGUN_S_MAX
    assert (await waiting(arrivals)).done()


async def test_a_post_whose_turn_has_come_is_waited_for_until_it_is_written(
    arrivals: Arrivals, times: Times
) -> None:
    rhythm(arrivals, times, 0.01)
    times.at += 0.0101
    task = await waiting(arrivals)
    assert not task.done()
    end = post(arrivals)
    await asyncio.sleep(0)
    assert not task.done()
    end()
    await task


async def test_a_post_that_is_late_does_not_make_the_next_one_late(arrivals: Arrivals, times: Times) -> None:
    rhythm(arrivals, times, 0.01, posts=50)
    rhythm(arrivals, times, 0.014, posts=1)
    times.at += 0.0055
    assert not (await waiting(arrivals)).done()


@pytest.mark.parametrize("later_s", [0.005, 0.0301])
async def test_before_its_turn_and_after_a_silence_no_post_is_expected(
    arrivals: Arrivals, times: Times, later_s: float
) -> None:
    rhythm(arrivals, times, 0.01)
    times.at += later_s
    assert (await waiting(arrivals)).done()


async def test_several_jobs_wait_for_the_same_post(arrivals: Arrivals) -> None:
    end = post(arrivals)
    tasks = [await waiting(arrivals) for _ in range(3)]
    end()
    await asyncio.gather(*tasks)


async def test_a_post_that_is_refused_is_over_too(arrivals: Arrivals) -> None:
    refused = asyncio.Event()

    async def come_in() -> None:
        with arrivals.post():
            await refused.wait()
            raise ValueError("no record")

    poster = asyncio.create_task(come_in())
    await asyncio.sleep(0)
    task = await waiting(arrivals)
    assert not task.done()
    refused.set()
    with pytest.raises(ValueError, match="no record"):
        await poster
    await task

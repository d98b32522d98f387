"""Posts that are coming in: what a batch may wait for, so that what was due in its time is in it.

A batch ends when its time has come, and a post that was sent just before takes a millisecond or more until it
is written. Where it is not waited for, its records come a whole interval later. So a seal waits, for
a few milliseconds at most, for

- the posts that have begun, and no others: more may begin all the time;
- one that has not begun though its turn has nearly come, if posts come in a rhythm (`core.post_times`).

Nothing is promised: a post that is later still is in the next batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from drizzle_streams.core.post_times import PostTimes

BEGUN_S_MAX = 0.1
"""A post that has been coming in for longer is a large one, or its producer is slow: nobody waits for it."""


class Arrivals:
    """The posts of one stream on one source; `now` in seconds. Used on one event loop."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._begun = 0
        self._under_way: dict[int, float] = {}
        self._times = PostTimes()
        self._changed = asyncio.Event()

    @contextmanager
    def post(self) -> Iterator[None]:
        """A post comes in, until it is written or refused."""
        at, number = self._now(), self._begun
        self._times.began(at)
        self._begun += 1
        self._under_way[number] = at
        self._changed.set()
        try:
            yield
        finally:
            del self._under_way[number]
            self._changed.set()

    async def settled(self, within_s: float) -> None:
        """Return when what is to be waited for is here, or after `within_s`."""
        before = self._begun + self._times.is_due(self._now())
        if within_s <= 0.0 or self._has_settled(before):
            return
        try:
            async with asyncio.timeout(within_s):
                while not self._has_settled(before):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return  # the batch's time is over

    def _has_settled(self, before: int) -> bool:
        """Whether all posts numbered below `before` have begun, and none of them is still coming in."""
        since = self._now() - BEGUN_S_MAX
        return self._begun >= before and not any(
            number < before and at >= since for number, at in self._under_way.items()
        )

"""When the next post of a stream is expected, from when those before it began.

Producers often post in a rhythm, every 10 ms say. A source that is about to seal a batch then knows that a
post which is nearly due, and not here yet, is worth waiting for (`source.arrivals`). Pure: time comes in.
"""

from __future__ import annotations

WEIGHT = 0.1
"""What the newest post counts for in the usual gap, and in when the next one is expected."""

EARLY_SHARE = 0.25
"""So much of a usual gap before it is expected, a post's turn has come."""


class PostTimes:
    """Of one stream on one source; times in seconds of any one clock."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._gap: float | None = None
        self._expected = 0.0

    def began(self, at: float) -> None:
        """A post begins: when is the next one expected? One that is late does not make the next one late."""
        if self._last is not None:
            gap, late = at - self._last, at - self._expected
            self._gap = gap if self._gap is None else self._gap + WEIGHT * (gap - self._gap)
            keeps = abs(late) < self._gap
            self._expected = (self._expected + WEIGHT * late if keeps else at) + self._gap
        else:
            self._expected = at
        self._last = at

    def is_due(self, now: float) -> bool:
        """Whether the next post should begin about now. Later than a usual gap, the rhythm is over."""
        if self._gap is None:
            return False
        return -EARLY_SHARE * self._gap <= now - self._expected <= self._gap

"""The paper's group-size controller (Drizzle, section 3.4), modelled on TCP's congestion control.

The paper leaves four numbers open; the figures below are read off its plot or chosen as said.
Kept as a mode of its own, as what the model falls back to, and to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

FACTOR = 2
"""Above the upper bound the size is multiplied by it (as the steps of the paper's plot show)."""
DECREMENT = 5
"""Below the lower bound so many batches are subtracted (about as much in the paper's plot)."""
WEIGHT = 0.2
"""Share of the newest group in the averaged overhead: spikes do not move the size."""
PERIOD_GROUPS = 5
"""Groups of the present size that are averaged before a decision: the average must know that size."""


@dataclass(slots=True)
class Aimd:
    """Overhead of the present size, averaged, against two bounds (0..1)."""

    lower: float
    upper: float
    overhead: float | None = None
    _size: int = 0
    _groups: int = 0

    def observe(self, overhead: float, batches: int) -> None:
        """A group of `batches` had that overhead: coordination over total time, 0..1.

        A group of another size starts the average anew: its overhead says nothing of the old one's.
        """
        if batches != self._size or self.overhead is None:
            self._size, self._groups, self.overhead = batches, 1, overhead
            return
        self._groups += 1
        self.overhead += WEIGHT * (overhead - self.overhead)

    def next_size(self, size: int) -> int:
        """The size to go on with: multiplied, decreased, or as it is."""
        if self.overhead is None or self._size != size or self._groups < PERIOD_GROUPS:
            return size
        if self.overhead > self.upper:
            return size * FACTOR
        if self.overhead < self.lower:
            return max(1, size - DECREMENT)
        return size

"""The clock of a stage: how far event time has come, from the marks of batches alone.

The watermark is the smallest of the highest event times that the upstream partitions have
shown, minus the delay allowed. Rules:

- It depends on batches only, never on time or on which worker computes: the same batches
  give the same watermark, so the same rows are late in every run and every replay.
- It never goes back.
- A partition that has shown nothing yet holds it back, until it has been silent for
  `idle_batches` batches in a row; then it is left out until it shows something again.
- When every partition is silent the watermark stays where it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

END_MARK: Final = 1 << 60
"""The event time (ms) that a partition shows at the end of its input: behind every window there is."""

Marks = tuple[tuple[int, int | None], ...]
"""(upstream partition, highest event time in ms of a batch there or None), by partition."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one upstream partition has shown: its highest event time (ms), and batches of silence since."""

    highest: int | None = None
    silent: int = 0


@dataclass(frozen=True, slots=True)
class Clock:
    """An immutable value; `advance` gives the clock after a batch. `watermark` is in ms, None at first."""

    max_delay_ms: int
    idle_batches: int
    readings: dict[int, Reading] = field(default_factory=dict[int, Reading])
    watermark: int | None = None

    @property
    def ended(self) -> bool:
        """Whether all input has ended."""
        return self.watermark is not None and self.watermark + self.max_delay_ms >= END_MARK

    def advance(self, marks: Iterable[tuple[int, int | None]]) -> Clock:
        """The clock after a batch with these marks; a partition without a mark was silent."""
        shown: dict[int, int | None] = {}
        for partition, mark in marks:
            shown[partition] = _later(shown.get(partition), mark)
        partitions = sorted(self.readings.keys() | shown.keys())
        readings = {
            partition: _read(self.readings.get(partition, Reading()), shown.get(partition))
            for partition in partitions
        }
        found = self._lowest(readings.values())
        return Clock(self.max_delay_ms, self.idle_batches, readings, _later(self.watermark, found))

    def merged(self, other: Clock) -> Clock:
        """The clock of two parts of one stage at the same batch; they have read the same marks."""
        return other if len(other.readings) > len(self.readings) else self

    def _lowest(self, readings: Iterable[Reading]) -> int | None:
        heard = [reading.highest for reading in readings if reading.silent < self.idle_batches]
        known = [highest for highest in heard if highest is not None]
        if not heard or len(known) < len(heard):
            return None
        return min(known) - self.max_delay_ms


def _read(before: Reading, mark: int | None) -> Reading:
    if mark is None:
        return Reading(before.highest, before.silent + 1)
    return Reading(_later(before.highest, mark))


def _later(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)

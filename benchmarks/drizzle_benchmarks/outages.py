"""What a fault does to latency, read off the windows of a run: before, during, after.

Pure. A window is (end, ms until the last update of its last row, and of its first), all in ms. Its
latency is that of its last row. Latency is normal again when, from that moment on, every window that
becomes visible within `STEADY_MS` is no later than windows were before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

Window = tuple[float, float, float]

STEADY_MS = 2_000.0
"""How long latency must stay normal to count as normal again."""
WARM_UP_MS = 2_000.0
"""The first windows of a run, which pay for start-up, say nothing about what is normal."""
NORMAL_FACTOR = 1.5
"""How many times the latest of nearly all (95 %) windows before the fault is still normal."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What was normal, how bad it became, how long it took. `seconds_to_normal` is None if it never was."""

    normal_ms: float
    normal_max_ms: float
    peak_ms: float
    seconds_to_normal: float | None
    first_rows_max_gap_ms: float


def outage(windows: Sequence[Window], fault_at_ms: float) -> Outage:
    """The outage that began with a fault. Raises `ValueError` where no window came before it."""
    ordered = sorted(windows)
    before = _before(ordered, fault_at_ms)
    bound = NORMAL_FACTOR * before[min(len(before) - 1, int(0.95 * len(before)))]
    after = [(end + late, late) for end, late, _ in ordered if end + late >= fault_at_ms]
    over_at = _normal_from(after, bound, fault_at_ms)
    until = float("inf") if over_at is None else over_at
    return Outage(
        normal_ms=median(before),
        normal_max_ms=bound,
        peak_ms=max((late for visible, late in after if visible <= until), default=median(before)),
        seconds_to_normal=None if over_at is None else round((over_at - fault_at_ms) / 1000.0, 3),
        first_rows_max_gap_ms=_gap(ordered, fault_at_ms, until),
    )


def _before(ordered: Sequence[Window], fault_at_ms: float) -> list[float]:
    warm = ordered[0][0] + WARM_UP_MS if ordered else 0.0
    before = sorted(late for end, late, _ in ordered if end >= warm and end + late < fault_at_ms)
    if not before:
        raise ValueError("no window became visible between the warm-up and the fault: run for longer")
    return before


def _normal_from(after: Sequence[tuple[float, float]], bound: float, fault_at_ms: float) -> float | None:
    """When the last late window before a steady stretch became visible; the fault itself if none was late."""
    over_at = fault_at_ms
    for visible, late in sorted(after):
        if visible - over_at >= STEADY_MS:
            return over_at
        if late > bound:
            over_at = visible
    last = max((visible for visible, _ in after), default=fault_at_ms)
    return over_at if last - over_at >= STEADY_MS else None


def _gap(ordered: Sequence[Window], fault_at_ms: float, until_ms: float) -> float:
    """The longest time, around the fault, in which no window's first row was completed."""
    moments = sorted(end + first for end, _, first in ordered)
    near = [moment for moment in moments if fault_at_ms - STEADY_MS <= moment <= until_ms + STEADY_MS]
    return max((later - earlier for earlier, later in pairwise(near)), default=0.0)

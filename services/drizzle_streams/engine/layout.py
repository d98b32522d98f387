"""What all states of one stage have in common: the aggregation, and who owns which key groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from drizzle_streams.engine.aggregation import AggregationPlan
from drizzle_streams.engine.columns import KEY_GROUP
from drizzle_streams.engine.watermark import Clock
from drizzle_streams.model.job import key_group_range

Ranges = tuple[tuple[int, int], ...]
"""Half-open ranges of key groups, sorted, no two of them neighbours."""


def ranges_of(partitions: Sequence[int], count: int, key_groups: int) -> Ranges:
    """The key groups of some of `count` partitions, half-open, sorted, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for partition in sorted(partitions):
        first, end = key_group_range(partition, count, key_groups)
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], end)
        elif end > first:
            joined.append((first, end))
    return tuple(joined)


@dataclass(frozen=True, slots=True)
class Layout:
    """What states of a stage have in common. `partitions` is how many the whole stage has."""

    plan: AggregationPlan
    partitions: int
    key_groups: int

    def ranges(self, partitions: Sequence[int]) -> Ranges:
        """The key groups of some partitions, half-open, sorted, neighbours joined."""
        return ranges_of(partitions, self.partitions, self.key_groups)

    def owned(self, partitions: Sequence[int]) -> pl.Expr:
        """Whether a row belongs to one of these partitions, by its key group."""
        group = pl.col(KEY_GROUP)
        owned = [(group >= first) & (group < end) for first, end in self.ranges(partitions)]
        return pl.any_horizontal(owned) if owned else pl.lit(value=False)

    @property
    def size_ms(self) -> int:
        """Length of a window; 0 without windows."""
        return self.plan.spec.window.size_ms if self.plan.spec.window else 0

    def new_clock(self) -> Clock:
        """The clock before the first batch."""
        return Clock(self.plan.spec.max_delay_ms, self.plan.spec.idle_batches)

    def late_bound(self, clock: Clock) -> int | None:
        """Windows that start before this (ms) are closed at that clock; None while none can be."""
        if not self.size_ms or clock.watermark is None:
            return None
        return clock.watermark - self.size_ms - self.plan.spec.allowed_lateness_ms + 1

"""State of a merge stage: all groups of some partitions at one batch, as an immutable value.

A version per batch is free: the next one shares every run but the newest with this one, so
a worker can keep the states of several batches, and snapshot an old one while newer ones run.
Nothing here depends on what is merged when: two states with the same groups are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from drizzle_streams.engine.aggregation import AggregationPlan
from drizzle_streams.engine.changes import CHANGED_ROWS_MAX, Changes
from drizzle_streams.engine.columns import KEY_GROUP, WINDOW_START
from drizzle_streams.engine.index import sorted_by
from drizzle_streams.engine.runs import (
    GROWTH,
    INLINE_ROWS_MAX,
    NEWEST_ROWS_MAX,
    RUNS_MAX,
    Found,
    Run,
    cut,
    due,
    look_up,
    merge_runs,
    run_of,
    totals_before,
    wasteful,
    with_batch,
)
from drizzle_streams.engine.series import largest, smallest
from drizzle_streams.engine.watermark import Clock
from drizzle_streams.engine.windows import SLOT
from drizzle_streams.model.job import key_group_range

Ranges = tuple[tuple[int, int], ...]

_ALWAYS = 0
"""The one window of state without windows, in counts."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What states of a stage have in common. `partitions` is how many the whole stage has."""

    plan: AggregationPlan
    partitions: int
    key_groups: int

    def ranges(self, partitions: Sequence[int]) -> Ranges:
        """The key groups of some partitions, half-open, sorted, neighbours joined."""
        joined: list[tuple[int, int]] = []
        for partition in sorted(partitions):
            first, end = key_group_range(partition, self.partitions, self.key_groups)
            if joined and joined[-1][1] == first:
                joined[-1] = (joined[-1][0], end)
            elif end > first:
                joined.append((first, end))
        return tuple(joined)

    @property
    def size_ms(self) -> int:
        """Length of a window; 0 without windows."""
        return self.plan.spec.window.size_ms if self.plan.spec.window else 0


@dataclass(frozen=True, slots=True)
class Compaction:
    """A merge of runs that need not wait for, nor hold up, a batch: `run` may go on in any thread."""

    runs: tuple[Run, ...]
    groups: list[str]

    def run(self) -> Run:
        """Do the work; give the result to `StageState.compacted`."""
        return merge_runs(self.runs, self.groups)


@dataclass(frozen=True, slots=True)
class StageState:
    """The groups of `partitions` after batch `version`. `counts` is how many groups each window has."""

    layout: Layout
    version: int
    partitions: tuple[int, ...]
    clock: Clock
    runs: tuple[Run, ...]
    counts: Mapping[int, int]
    changes: Changes

    @property
    def ranges(self) -> Ranges:
        """The key groups held, half-open ranges."""
        return self.layout.ranges(self.partitions)

    @property
    def keys(self) -> int:
        """How many groups (key and window) the state holds."""
        return sum(self.counts.values())

    @property
    def size_bytes(self) -> int:
        """Memory of the runs, roughly."""
        return int(sum(run.frame.estimated_size() for run in self.runs))

    def updated(self, batch: int, new: pl.DataFrame) -> tuple[StageState, pl.DataFrame]:
        """Add the merged groups of a batch (sorted by slot); also gives them back with their totals."""
        if not new.height:
            return replace(self, version=batch), new
        plan = self.layout.plan
        found = look_up(self.runs, new, plan.groups)
        before = (
            totals_before(self.runs, found, new.height, plan.accumulators) if found else _nulls(new, plan)
        )
        changed = plan.combine(new, before)
        windows = _windows(changed, self.layout)
        runs = _with_batch(self.runs, run_of(changed, windows), found)
        rows_max = max(CHANGED_ROWS_MAX, self.keys // 2)
        state = replace(
            self,
            version=batch,
            runs=_compacted_inline(runs, plan.groups, new.height),
            counts=_with_new(self.counts, changed, windows, found),
            changes=self.changes.with_batch(batch, changed, plan.groups, rows_max),
        )
        return state, changed

    def closed(self, clock: Clock) -> tuple[StageState, list[pl.DataFrame]]:
        """The state at a clock: windows behind it are gone; their rows come newest run first."""
        bound = late_bound(self.layout.plan, clock)
        gone = (
            [start for start in self.counts if bound is not None and start < bound]
            if self.layout.size_ms
            else []
        )
        if not gone:
            return replace(self, clock=clock), []
        cuts = [cut(run, gone, self.layout.size_ms) for run in self.runs]
        state = replace(
            self,
            clock=clock,
            runs=tuple(run for run, _ in cuts if run is not None),
            counts={start: count for start, count in self.counts.items() if start not in set(gone)},
        )
        return state, [rows for _, pieces in cuts for rows in pieces if rows.height]

    def groups(self) -> pl.DataFrame:
        """All groups with their totals, sorted by slot: the whole state as one frame."""
        if not self.runs:
            return self.layout.plan.no_groups
        return merge_runs(self.runs, self.layout.plan.groups).frame

    def keep(self, partitions: Sequence[int]) -> StageState:
        """The part of the state that these partitions own."""
        kept = tuple(sorted(set(partitions) & set(self.partitions)))
        owned = _owned(self.layout.ranges(kept))
        runs = [run_of(run.frame.filter(owned), run.windows) for run in self.runs]
        filled = tuple(run for run in runs if run.rows)
        counts = _counts(filled, self.layout)
        return replace(
            self, partitions=kept, runs=filled, counts=counts, changes=self.changes.filtered(owned)
        )

    def merge(self, other: StageState) -> StageState:
        """This state and one of other partitions at the same version, as one."""
        if self.version != other.version or set(self.partitions) & set(other.partitions):
            raise ValueError(
                f"states to merge: wanted the same version and different partitions, found version "
                f"{self.version} of {self.partitions} and version {other.version} of {other.partitions}"
            )
        counts = dict(self.counts)
        for start, count in other.counts.items():
            counts[start] = counts.get(start, 0) + count
        return replace(
            self,
            partitions=tuple(sorted((*self.partitions, *other.partitions))),
            clock=self.clock.merged(other.clock),
            runs=self.runs + other.runs,
            counts=counts,
            changes=self.changes.merged(other.changes),
        )

    def compaction(self) -> Compaction | None:
        """Work that makes later batches cheaper, if there is any; to be done beside batches."""
        groups = self.layout.plan.groups
        # Batches still go into the newest run while it is small: it would not wait for the work to end.
        first = 1 if self.runs and self.runs[0].rows < NEWEST_ROWS_MAX else 0
        count = due(self.runs[first:])
        if count:
            return Compaction(self.runs[first : first + count], groups)
        number = wasteful(self.runs)
        return None if number is None else Compaction((self.runs[number],), groups)

    def compacted(self, work: Compaction, result: Run) -> StageState:
        """This state with the result in place of the runs it was made of; unchanged if they are gone.

        Newer ones of these runs may have been merged into runs before them in the meantime:
        those hold all their groups, so what the result repeats of them is never read.
        """
        origins = [run.origin for run in self.runs]
        wanted = [run.origin for run in work.runs]
        while wanted and wanted[0] not in origins:
            wanted = wanted[1:]
        first = origins.index(wanted[0]) if wanted else 0
        if not wanted or origins[first : first + len(wanted)] != wanted:
            return self
        left: Run | None = result
        if self.layout.size_ms:
            left, _ = cut(result, list(result.windows.difference(self.counts)), self.layout.size_ms)
        middle = () if left is None else (left,)
        return replace(self, runs=self.runs[:first] + middle + self.runs[first + len(wanted) :])


def empty_state(layout: Layout, partitions: Sequence[int], batch: int) -> StageState:
    """State without groups after a batch (-1 before the first)."""
    spec = layout.plan.spec
    clock = Clock(spec.max_delay_ms, spec.idle_batches)
    return StageState(layout, batch, tuple(sorted(partitions)), clock, (), {}, Changes(batch))


def state_of(
    layout: Layout, partitions: Sequence[int], batch: int, clock: Clock, groups: pl.DataFrame
) -> StageState:
    """State with these groups, each once, but for those of other partitions and of closed windows."""
    kept = groups.filter(_owned(layout.ranges(partitions)))
    bound = late_bound(layout.plan, clock)
    if bound is not None and layout.size_ms:
        kept = kept.filter(pl.col(WINDOW_START) >= bound)
    blank = replace(empty_state(layout, partitions, batch), clock=clock)
    if not kept.height:
        return blank
    run = run_of(sorted_by(kept, SLOT, layout.plan.groups), _windows(kept, layout))
    return replace(blank, runs=(run,), counts=_counts([run], layout))


def late_bound(plan: AggregationPlan, clock: Clock) -> int | None:
    """Windows that start before this are closed at that clock; None if there are none."""
    if plan.spec.window is None or clock.watermark is None:
        return None
    return clock.watermark - plan.spec.window.size_ms - plan.spec.allowed_lateness_ms + 1


def newest_groups(pieces: Sequence[pl.DataFrame], groups: Sequence[str]) -> pl.DataFrame:
    """The pieces (newest first, at least one) as one frame: of each group the newest row, sorted by slot."""
    if len(pieces) == 1:
        return sorted_by(pieces[0], SLOT, groups)
    newest = pl.concat(pieces).unique(subset=list(groups), keep="first", maintain_order=True)
    return sorted_by(newest, SLOT, groups)


def _nulls(new: pl.DataFrame, plan: AggregationPlan) -> pl.DataFrame:
    return new.select(plan.accumulators).clear(new.height)


def _with_batch(runs: tuple[Run, ...], batch: Run, found: Sequence[Found]) -> tuple[Run, ...]:
    """The runs with a batch: in the newest run while that is small, else in a run of its own."""
    if not runs or runs[0].rows >= NEWEST_ROWS_MAX:
        return (batch, *runs)
    replaced = [one.positions for one in found if one.run == 0]
    return (with_batch(runs[0], batch, pl.concat(replaced) if replaced else None), *runs[1:])


def _compacted_inline(runs: tuple[Run, ...], groups: list[str], batch_rows: int) -> tuple[Run, ...]:
    """Merge what is small enough beside this batch, or whatever it takes when there are too many runs."""
    rows_max = None if len(runs) > RUNS_MAX else max(INLINE_ROWS_MAX, GROWTH * batch_rows)
    count = due(runs, rows_max)
    if not count and len(runs) > RUNS_MAX:
        count = len(runs)
    return (merge_runs(runs[:count], groups), *runs[count:]) if count else runs


def _windows(groups: pl.DataFrame, layout: Layout) -> frozenset[int]:
    if not layout.size_ms:
        return frozenset()
    starts = groups.get_column(WINDOW_START)
    first, last = smallest(starts), largest(starts)
    if first is None or first == last:
        return frozenset() if first is None else frozenset((first,))
    return frozenset(starts.unique().to_list())


def _with_new(
    counts: Mapping[int, int], changed: pl.DataFrame, windows: frozenset[int], found: Sequence[Found]
) -> Mapping[int, int]:
    """The counts with the groups that were not found."""
    known = sum(len(one.rows) for one in found)
    if known == changed.height:
        return counts
    if len(windows) <= 1:
        start = next(iter(windows), _ALWAYS)
        return {**counts, start: counts.get(start, 0) + changed.height - known}
    fresh = changed.get_column(WINDOW_START)
    if found:
        is_new = pl.Series([True]).new_from_index(0, changed.height)
        for one in found:
            is_new.scatter(one.rows, values=False)
        fresh = fresh.filter(is_new)
    added = dict(fresh.value_counts().iter_rows())
    return {**counts, **{start: counts.get(start, 0) + count for start, count in added.items()}}


def _counts(runs: Sequence[Run], layout: Layout) -> Mapping[int, int]:
    """How many groups each window has, by looking at all of them."""
    if not runs:
        return {}
    frame = merge_runs(runs, layout.plan.groups).frame
    if not layout.size_ms:
        return {_ALWAYS: frame.height}
    return dict(frame.get_column(WINDOW_START).value_counts().iter_rows())


def _owned(ranges: Ranges) -> pl.Expr:
    group = pl.col(KEY_GROUP)
    owned = [(group >= first) & (group < end) for first, end in ranges]
    return pl.any_horizontal(owned) if owned else pl.lit(value=False)

"""State of a merge stage: all groups of some partitions at one batch, as an immutable value.

A version per batch is free: the next one shares every run but the newest with this one, so
a worker can keep the states of several batches, and snapshot an old one while newer ones run.
Nothing here depends on what is merged when: two states with the same groups are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from drizzle_streams.engine.changes import CHANGED_ROWS_MAX, Changes
from drizzle_streams.engine.columns import WINDOW_START
from drizzle_streams.engine.compaction import (
    NEWEST_ROWS_MAX,
    Compacted,
    Compaction,
    add_batch,
    due,
    merge_inline,
    wasteful,
)
from drizzle_streams.engine.layout import Layout, Ranges
from drizzle_streams.engine.runs import (
    Found,
    Run,
    added,
    cut,
    look_up,
    merge_runs,
    newest_groups,
    run_of,
    totals_before,
    without,
)
from drizzle_streams.engine.series import largest, smallest
from drizzle_streams.engine.snapshot import encode_parts
from drizzle_streams.engine.watermark import Clock

_REPEATS_MAX = 8
"""Rows of the log per row of state beyond which it is not worth finding out how many groups they are."""

_ALWAYS = 0
"""The one window of state without windows, in counts."""


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
        changed = new
        if found and plan.additive:
            changed = added(self.runs, found, new, plan.accumulators)
        elif found:
            changed = plan.combine(new, totals_before(self.runs, found, new.height, plan.accumulators))
        windows = windows_of(changed, self.layout)
        runs = add_batch(self.runs, run_of(changed, windows), found, plan.in_place)
        rows_max = max(CHANGED_ROWS_MAX, self.keys // 4)
        state = replace(
            self,
            version=batch,
            runs=merge_inline(runs, plan.groups, new.height),
            counts=_with_new(self.counts, changed, windows, found),
            changes=self.changes.with_batch(batch, changed, plan.groups, rows_max),
        )
        return state, changed

    def closed(self, clock: Clock) -> tuple[StageState, list[pl.DataFrame]]:
        """The state at a clock: windows behind it are gone; their rows come newest run first."""
        bound = self.layout.late_bound(clock)
        gone = {start for start in self.counts if bound is not None and start < bound}
        if not gone:
            return replace(self, clock=clock), []
        cuts = [cut(run, gone, self.layout.size_ms) for run in self.runs]
        state = replace(
            self,
            clock=clock,
            runs=tuple(run for run, _ in cuts if run is not None),
            counts={start: count for start, count in self.counts.items() if start not in gone},
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
        owned = self.layout.owned(kept)
        runs = [run_of(run.frame.filter(owned), run.windows) for run in self.runs]
        filled = tuple(run for run in runs if run.rows)
        counts = counts_of(filled, self.layout)
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

    def laid_out(self, layout: Layout, partitions: Sequence[int]) -> StageState:
        """The same groups as some partitions of another layout, whose key groups must all be held here.

        The next snapshot of it is a full one: what changed is not known in terms of the new layout.
        """
        wanted = layout.ranges(partitions)
        if not all(any(first >= a and end <= b for a, b in self.ranges) for first, end in wanted):
            raise ValueError(
                f"state to lay out: wanted one that holds key groups {wanted}, found one of {self.ranges}"
            )
        runs = self.runs
        if wanted != self.ranges:
            owned = layout.owned(partitions)
            cuts = [run_of(run.frame.filter(owned), run.windows) for run in runs]
            runs = tuple(run for run in cuts if run.rows)
        return replace(
            self,
            layout=layout,
            partitions=tuple(sorted(partitions)),
            runs=runs,
            counts=self.counts if runs is self.runs else counts_of(runs, layout),
            changes=Changes(self.version),
        )

    def snapshot_since(self, batch: int | None) -> tuple[bool, Iterator[bytes]]:
        """(is_full, parts): the parts to append to the snapshot taken at `batch`, or a full snapshot.

        Full when `batch` is None, when what changed since is not known any more, or when the
        changes are not smaller than the state. There is at least one part: it holds the clock. Parts are
        encoded as they are asked for.
        """
        frames = None if batch is None else self.changes.since(batch)
        rows = sum(run.rows for run in self.runs)
        if frames is not None and sum(one.height for one in frames) <= rows * _REPEATS_MAX:
            changed = [newest_groups(frames[::-1], self.layout.plan.groups)] if frames else []
            if not changed or changed[0].height <= rows:
                return False, encode_parts(self.version, self.clock, changed)
        return True, encode_parts(self.version, self.clock, [run.frame for run in reversed(self.runs)])

    def forget_changes(self, batch: int) -> StageState:
        """This state when no snapshot since a batch before that one will be asked for: frees memory."""
        return replace(self, changes=self.changes.forget(batch))

    def compaction(self) -> Compaction | None:
        """Work that makes later batches cheaper, if there is any; to be done beside batches."""
        groups = self.layout.plan.groups
        # Batches still go into the newest run while it is small: it would not wait for the work to end.
        first = 1 if self.runs and self.runs[0].rows < NEWEST_ROWS_MAX else 0
        in_place, changes = self.layout.plan.in_place, self.changes.due()
        count = due(self.runs[first:], folds=bool(in_place))
        if count:
            return Compaction(self.runs[first : first + count], groups, in_place, changes)
        number = wasteful(self.runs)
        runs = () if number is None else (self.runs[number],)
        return Compaction(runs, groups, in_place, changes) if runs or changes else None

    def compacted(self, work: Compaction, result: Compacted) -> StageState:
        """This state with the result in place of what it was made of, as far as that is still here.

        Newer ones of these runs may have been merged into runs before them in the meantime:
        those hold all their groups, so what the result repeats of them is never read.
        """
        changes = self.changes
        if result.change is not None:
            changes = changes.replaced(work.changes, result.change)
        return replace(self, runs=self._with_merged(work, result), changes=changes)

    def _with_merged(self, work: Compaction, result: Compacted) -> tuple[Run, ...]:
        origins = [run.origin for run in self.runs]
        wanted = [run.origin for run in work.runs]
        while wanted and wanted[0] not in origins:
            wanted = wanted[1:]
        first = origins.index(wanted[0]) if wanted else 0
        if not wanted or origins[first : first + len(wanted)] != wanted:
            return self.runs
        merged = result.runs
        if self.layout.size_ms:
            cuts = (cut(run, run.windows.difference(self.counts), self.layout.size_ms) for run in merged)
            merged = tuple(left for left, _ in cuts if left is not None)
        return self.runs[:first] + merged + self.runs[first + len(wanted) :]


def united(states: Sequence[StageState]) -> StageState:
    """States of different partitions of a stage, of one batch and layout, as one; of one at least."""
    whole = states[0]
    for other in states[1:]:
        whole = whole.merge(other)
    return whole


def empty_state(layout: Layout, partitions: Sequence[int], batch: int) -> StageState:
    """State without groups after a batch (-1 before the first)."""
    ordered = tuple(sorted(partitions))
    return StageState(layout, batch, ordered, layout.new_clock(), (), {}, Changes(batch))


def windows_of(groups: pl.DataFrame, layout: Layout) -> frozenset[int]:
    """The starts of the windows that some groups belong to; none without windows."""
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
        is_new = without(None, pl.concat([one.rows for one in found]), changed.height)
        fresh = fresh.filter(is_new)
    added = dict(fresh.value_counts().iter_rows())
    return {**counts, **{start: counts.get(start, 0) + count for start, count in added.items()}}


def counts_of(runs: Sequence[Run], layout: Layout) -> Mapping[int, int]:
    """How many groups each window has, by looking at all of them: those of newer runs in older ones."""
    counts: Mapping[int, int] = {}
    known: tuple[Run, ...] = ()
    for run in reversed(runs):
        found = look_up(known, run.frame, layout.plan.groups)
        counts = _with_new(counts, run.frame, run.windows, found)
        known = (run, *known)
    return counts

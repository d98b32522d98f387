"""Runs: sorted, immutable pieces of state, and how they are searched, merged and cut.

State is a row of runs, newest first; a group's totals are those in the newest run that holds
it: a log-structured merge tree in Arrow. `engine/compaction.py` says when runs are merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.columns import WINDOW_START
from drizzle_streams.engine.groups import newest
from drizzle_streams.engine.index import (
    PACKED_ROWS_MAX,
    HashIndex,
    equal_keys,
    has_neighbours,
    order_of,
    shares_neighbour,
    sorted_by,
)
from drizzle_streams.engine.series import row_numbers, search_sorted
from drizzle_streams.engine.windows import SLOT, slot_range

_ROW: Final = "__row"
_TRUE: Final = pl.Series([True])

FRESH_SHARE: Final = 32
"""Groups that a large run does not hold become part of it when they are one in so many."""


@dataclass(frozen=True, slots=True)
class Run:
    """Groups with totals, sorted by slot. Rows of one window are neighbours.

    `windows` are the starts of the windows that may occur (empty without windows). `held_rows`
    is how many rows the memory behind the frame has: slicing keeps it.
    `origin` stays the same through slicing: it names what the run was made from.
    """

    frame: pl.DataFrame
    index: HashIndex
    windows: frozenset[int]
    held_rows: int
    origin: object

    @property
    def rows(self) -> int:
        """How many groups the run holds."""
        return self.frame.height


@dataclass(frozen=True, slots=True)
class Found:
    """Where some rows of a batch were found: `rows` of the batch at `positions` of run number `run`."""

    run: int
    rows: pl.Series
    positions: pl.Series


def run_of(frame: pl.DataFrame, windows: frozenset[int]) -> Run:
    """A run of a frame that is sorted by slot."""
    whole = frame.rechunk()
    return Run(whole, HashIndex(whole.get_column(SLOT)), windows, whole.height, object())


def look_up(runs: Sequence[Run], batch: pl.DataFrame, groups: Sequence[str]) -> list[Found]:
    """Find the groups of a batch, each in the newest run that holds it; rows in order within a run."""
    found: list[Found] = []
    rows = row_numbers(batch.height)
    slots = batch.get_column(SLOT)
    for number, run in enumerate(runs):
        missed: pl.Series | None = None
        for at, positions in run.index.candidates(slots):
            # `at` counts within what is still looked for; all of it where everything has a candidate.
            wanted = rows if len(at) == len(rows) else rows[at]
            mine, theirs = _gather(batch, groups, wanted), _gather(run.frame, groups, positions)
            same = equal_keys(mine, theirs, nulls_equal=True)
            if same.any():
                found.append(Found(number, wanted.filter(same), positions.filter(same)))
                missed = without(missed, at.filter(same), len(rows))
        if missed is not None:
            rows, slots = rows.filter(missed), slots.filter(missed)
        if not len(rows):
            break
    return found


def _gather(frame: pl.DataFrame, columns: Sequence[str], rows: pl.Series) -> list[pl.Series]:
    return [frame.get_column(name)[rows] for name in columns]


def without(mask: pl.Series | None, rows: pl.Series, height: int) -> pl.Series:
    """The mask (all true if none) with some rows set to false."""
    fresh = _TRUE.new_from_index(0, height) if mask is None else mask.clone()
    return fresh.scatter(rows, values=False)


def totals_before(
    runs: Sequence[Run], found: Sequence[Found], height: int, columns: Sequence[str]
) -> pl.DataFrame:
    """The columns of the groups found, one row per row of a batch, null where nothing was found."""
    pieces = [pl.DataFrame(_gather(runs[one.run].frame, columns, one.positions)) for one in found]
    where = pl.Series([None], dtype=pl.UInt32).new_from_index(0, height)
    first = 0
    for one in found:
        where.scatter(one.rows, row_numbers(len(one.rows)) + first)
        first += len(one.rows)
    return pl.concat(pieces)[where]


def added(
    runs: Sequence[Run], found: Sequence[Found], batch: pl.DataFrame, columns: Sequence[str]
) -> pl.DataFrame:
    """The batch with what was found in these columns added to them."""
    sums: list[pl.Series] = []
    for name in columns:
        column = batch.get_column(name).clone()
        for one in found:
            before = runs[one.run].frame.get_column(name)[one.positions]
            column.scatter(one.rows, column[one.rows] + before)
        sums.append(column)
    return _with(batch, sums)


def with_batch(run: Run, batch: Run, replaced: pl.Series | None, columns: Sequence[str] = ()) -> Run:
    """The run with the groups of a batch; `replaced` are the positions of those it held already.

    `columns` may be given if these are all that differ between versions of a group and can be
    written in place, and if `replaced` is in the order of the batch.
    """
    if replaced is None:
        kept = run.frame
    elif columns and len(replaced) == batch.rows:
        return _rewritten(run, batch.frame, replaced, columns)
    elif len(replaced) == run.rows:
        return Run(batch.frame, batch.index, batch.windows, batch.rows, object())
    else:
        kept = eager.rows_where(run.frame, without(None, replaced, run.rows))
    rows = eager.stacked([kept, batch.frame])
    ordered = eager.rows_at(rows, order_of(rows.get_column(SLOT)))
    return run_of(ordered, run.windows | batch.windows)


def _rewritten(run: Run, totals: pl.DataFrame, replaced: pl.Series, columns: Sequence[str]) -> Run:
    """No group is new: the same groups in the same order, with copies of the columns that change."""
    changed: list[pl.Series] = []
    for name in columns:
        column = run.frame.get_column(name).clone()
        changed.append(column.scatter(replaced, totals.get_column(name)))
    return Run(_with(run.frame, changed), run.index, run.windows, run.held_rows, object())


def merge_runs(runs: Sequence[Run], groups: Sequence[str]) -> Run:
    """One run of several neighbours, newest first: the newest totals of every group.

    Its values are copies, so that no memory of the runs merged stays behind.
    """
    merged = newest_groups([run.frame for run in runs], groups)
    windows = frozenset[int]().union(*(run.windows for run in runs))
    return run_of(eager.rows_at(merged, row_numbers(merged.height)), windows)


def fold(newer: Run, older: Run, groups: Sequence[str], columns: Sequence[str]) -> tuple[Run, ...]:
    """The newer run's totals written over the older one's, and before it what that did not hold.

    `columns` are all that differ between versions of a group and can be written in place. The
    order, the keys and the index of the older run stay: that is a sixth of what merging costs. Groups
    it did not hold become part of it when they are worth that (`FRESH_SHARE`).
    """
    found = look_up((older,), newer.frame, groups)
    if not found:
        return _with_fresh(newer, older)
    rows = eager.joined([one.rows for one in found])
    positions = eager.joined([one.positions for one in found])
    totals = pl.DataFrame(_gather(newer.frame, columns, rows))
    fresh = eager.rows_where(newer.frame, without(None, rows, newer.rows))
    rewritten = _rewritten(older, totals, positions, columns)
    return _with_fresh(run_of(fresh, newer.windows), rewritten) if fresh.height else (rewritten,)


def _with_fresh(fresh: Run, older: Run) -> tuple[Run, ...]:
    """The groups of two runs that share none: one run where there are many fresh ones, else both."""
    if fresh.rows * FRESH_SHARE < older.rows:
        return fresh, older
    merged = fresh.frame.merge_sorted(older.frame, SLOT)
    return (run_of(merged, fresh.windows | older.windows),)


def newest_groups(frames: Sequence[pl.DataFrame], groups: Sequence[str]) -> pl.DataFrame:
    """Frames of groups, newest first, as one: of each group the newest row, sorted by slot.

    Sorting by slot brings the rows of a group together; only those that share a slot are
    compared by key.
    """
    if len(frames) == 1:
        return sorted_by(frames[0], SLOT, groups)
    if sum(frame.height for frame in frames) < PACKED_ROWS_MAX:
        # Within a batch: no waiting for the pool, where a merge of large runs may be at work.
        found = newest(eager.stacked(frames[::-1]), SLOT, groups, PACKED_ROWS_MAX)
        if found is not None:
            return found
    ordered = pl.concat(frames[::-1]).sort(SLOT, maintain_order=True)
    shared = shares_neighbour(ordered.get_column(SLOT))
    if not shared.any():
        return ordered
    numbers = row_numbers(ordered.height).filter(shared).alias(_ROW)
    rows = eager.framed([*(ordered.get_column(name).filter(shared) for name in groups), numbers])
    last = rows.unique(subset=list(groups), keep="last").get_column(_ROW)
    kept = ordered.filter((~shared).scatter(last, values=True))
    return sorted_by(kept, SLOT, groups) if has_neighbours(kept.get_column(SLOT)) else kept


def cut(run: Run, closed: Iterable[int], size_ms: int) -> tuple[Run | None, list[pl.DataFrame]]:
    """Cut windows out of a run: what is left (None if nothing), and the rows of these windows."""
    gone = sorted(run.windows.intersection(closed))
    if not gone:
        return run, []
    left = run.windows.difference(gone)
    if _share_slots(run.windows, size_ms):
        is_gone = run.frame.get_column(WINDOW_START).is_in(gone)
        return _rest(run, [run.frame.filter(~is_gone)], left), [run.frame.filter(is_gone)]
    stretches = _stretches(run, gone, size_ms)
    rest: list[pl.DataFrame] = []
    first = 0
    for start, end in stretches:
        rest.append(run.frame.slice(first, start - first))
        first = end
    rest.append(run.frame.slice(first))
    return _rest(run, rest, left), [run.frame.slice(start, end - start) for start, end in stretches]


def _stretches(run: Run, windows: Sequence[int], size_ms: int) -> list[tuple[int, int]]:
    """Where the rows of these windows lie: [first, end) each, in order."""
    firsts, lasts = zip(*(slot_range(start, size_ms) for start in windows), strict=True)
    starts = search_sorted(run.index.hashes, pl.Series(firsts, dtype=pl.UInt64))
    ends = search_sorted(run.index.hashes, pl.Series(lasts, dtype=pl.UInt64), "right")
    return sorted(zip(starts.to_list(), ends.to_list(), strict=True))


def _share_slots(windows: frozenset[int], size_ms: int) -> bool:
    return len({slot_range(start, size_ms) for start in windows}) < len(windows)


def _rest(run: Run, pieces: Sequence[pl.DataFrame], windows: frozenset[int]) -> Run | None:
    filled = [piece for piece in pieces if piece.height]
    if not filled:
        return None
    if len(filled) > 1:
        return run_of(pl.concat(filled), windows)
    frame = filled[0]
    return Run(
        frame, HashIndex(frame.get_column(SLOT), run.index.longest), windows, run.held_rows, run.origin
    )


def _with(frame: pl.DataFrame, columns: Sequence[pl.Series]) -> pl.DataFrame:
    """The frame with these columns in place of its own of the same names."""
    fresh = {column.name: column for column in columns}
    return eager.framed([fresh.get(one.name, one) for one in frame.get_columns()])

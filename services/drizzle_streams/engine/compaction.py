"""When runs of state are merged, so that a batch costs what the batch is, not what the state is.

- Looking up a batch's groups is one binary search per run; runs grow geometrically, so there
  are about log8(rows) of them.
- The newest run takes each batch by being written anew; it is small (`NEWEST_ROWS_MAX`).
- Merging copies a row a bounded number of times per level. Only small merges run within a batch
  (`INLINE_ROWS_MAX`); larger ones are work for a thread beside it (`Compaction`). While that is
  behind and the runs become many (`RUNS_MAX`) a batch merges a few more of the newest; all of them
  only where nobody does it.
- The totals of few groups are written over those in the largest run (`runs.fold`), where they can be:
  its keys and its order stay, so that it is cheap and done early.
- Nothing that runs within a batch waits for Polars' pool: a merge beside it may have that for seconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import polars as pl

from drizzle_streams.engine.changes import Change, united
from drizzle_streams.engine.index import PACKED_ROWS_MAX
from drizzle_streams.engine.runs import Found, Run, fold, merge_runs, with_batch

NEWEST_ROWS_MAX: Final = 4_096
"""Rows of the newest run, beyond which a new one is begun."""

INLINE_ROWS_MAX: Final = 16_384
"""Rows that a merge within a batch may write: one or two ms."""

RUNS_MAX: Final = 8
"""Runs beyond which a batch merges `CROWDED_ROWS_MAX` rows of the newest; beyond twice as many, all."""

CROWDED_ROWS_MAX: Final = PACKED_ROWS_MAX - 1
"""Rows that a merge within a batch may write when runs are many: 5 to 10 ms."""

GROWTH: Final = 8
"""A run is merged with the newer ones when together they have an eighth of its rows."""

FOLD_GROWTH: Final = 32
"""The same for a run that totals are written over (`runs.fold`), which costs a sixth of a merge."""

FOLD_ROWS_MIN: Final = 131_072
"""Rows of a run from which on totals are written over it; smaller ones are merged as quickly."""

_HELD_ROWS_SLACK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Compaction:
    """Work that need not wait for, nor hold up, a batch: `run` may go on in any thread.

    `runs` are to be merged, `changes` of the log to be united; `in_place` as in `add_batch`.
    """

    runs: tuple[Run, ...]
    groups: list[str]
    in_place: Sequence[str] = ()
    changes: tuple[Change, ...] = ()

    def run(self) -> Compacted:
        """Do the work; give the result to `StageState.compacted`."""
        change = united(self.changes, self.groups) if self.changes else None
        return Compacted(self._merged(), change)

    def _merged(self) -> tuple[Run, ...]:
        if not self.in_place or len(self.runs) < 2 or self.runs[-1].rows < FOLD_ROWS_MIN:
            return (merge_runs(self.runs, self.groups),) if self.runs else ()
        newer = self.runs[0] if len(self.runs) == 2 else merge_runs(self.runs[:-1], self.groups)
        return fold(newer, self.runs[-1], self.groups, self.in_place)


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction gives: runs in place of those merged, an entry in place of those united."""

    runs: tuple[Run, ...]
    change: Change | None = None


def add_batch(
    runs: tuple[Run, ...], batch: Run, found: Sequence[Found], in_place: Sequence[str]
) -> tuple[Run, ...]:
    """The runs with a batch: in the newest run while that is small, else in a run of its own.

    `in_place` names the accumulators if they can be written in place.
    """
    if not runs or runs[0].rows >= NEWEST_ROWS_MAX:
        return (batch, *runs)
    mine = [one for one in found if one.run == 0]
    if not mine:
        return (with_batch(runs[0], batch, None), *runs[1:])
    if len(mine) == 1:  # in the order of the batch
        return (with_batch(runs[0], batch, mine[0].positions, in_place), *runs[1:])
    return (with_batch(runs[0], batch, pl.concat([one.positions for one in mine])), *runs[1:])


def merge_inline(runs: tuple[Run, ...], groups: list[str], batch_rows: int) -> tuple[Run, ...]:
    """Merge what is small enough beside this batch, or more when there are too many runs."""
    count = due(runs, max(INLINE_ROWS_MAX, GROWTH * batch_rows))
    if not count and len(runs) > RUNS_MAX:
        count = _crowded(runs)
    return (merge_runs(runs[:count], groups), *runs[count:]) if count else runs


def _crowded(runs: Sequence[Run]) -> int:
    """How many of the newest of too many runs to merge within a batch."""
    rows = list(accumulate(run.rows for run in runs))
    count = bisect_right(rows, CROWDED_ROWS_MAX)
    if count > 1:
        return count
    return len(runs) if len(runs) > 2 * RUNS_MAX else 0


def due(runs: Sequence[Run], rows_max: int | None = None, *, folds: bool = False) -> int:
    """How many of the newest runs should become one now; 0 if none. `rows_max` bounds their rows.

    `folds`: totals may be written over the oldest run.
    """
    newer = runs[0].rows if runs else 0
    count = 0
    for number in range(1, len(runs)):
        older = runs[number].rows
        if rows_max is not None and newer + older > rows_max:
            break
        folded = folds and number == len(runs) - 1 and older >= FOLD_ROWS_MIN
        if newer >= NEWEST_ROWS_MAX and older <= newer * (FOLD_GROWTH if folded else GROWTH):
            count = number + 1
        newer += older
    return count


def wasteful(runs: Sequence[Run]) -> int | None:
    """The number of a run that holds far more memory than it has rows, because windows were cut out of it."""
    for number, run in enumerate(runs):
        if run.held_rows > 2 * run.rows + _HELD_ROWS_SLACK:
            return number
    return None

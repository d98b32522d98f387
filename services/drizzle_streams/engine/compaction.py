"""When runs of state are merged, so that a batch costs what the batch is, not what the state is.

- Looking up a batch's groups is one binary search per run; runs grow geometrically, so there
  are about log8(rows) of them.
- The newest run takes each batch by being written anew; it is small (`NEWEST_ROWS_MAX`).
- Merging copies a row a bounded number of times per level. Only small merges run within a batch
  (`INLINE_ROWS_MAX`); larger ones are work for a thread beside it (`Compaction`), unless nobody
  does it and the runs become too many (`RUNS_MAX`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from drizzle_streams.engine.runs import Found, Run, merge_runs, with_batch

NEWEST_ROWS_MAX: Final = 4_096
"""Rows of the newest run, beyond which a new one is begun."""

INLINE_ROWS_MAX: Final = 16_384
"""Rows that a merge within a batch may write: one or two ms."""

RUNS_MAX: Final = 8
"""Runs beyond which a merge of any size is done within a batch, because nobody did it beside one."""

GROWTH: Final = 8
"""A run is merged with the newer ones when together they have an eighth of its rows."""

_HELD_ROWS_SLACK: Final = 65_536


@dataclass(frozen=True, slots=True)
class Compaction:
    """A merge of runs that need not wait for, nor hold up, a batch: `run` may go on in any thread."""

    runs: tuple[Run, ...]
    groups: list[str]

    def run(self) -> Run:
        """Do the work; give the result to `StageState.compacted`."""
        return merge_runs(self.runs, self.groups)


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
    """Merge what is small enough beside this batch, or whatever it takes when there are too many runs."""
    rows_max = None if len(runs) > RUNS_MAX else max(INLINE_ROWS_MAX, GROWTH * batch_rows)
    count = due(runs, rows_max)
    if not count and len(runs) > RUNS_MAX:
        count = len(runs)
    return (merge_runs(runs[:count], groups), *runs[count:]) if count else runs


def due(runs: Sequence[Run], rows_max: int | None = None) -> int:
    """How many of the newest runs should become one now; 0 if none. `rows_max` bounds their rows."""
    newer = runs[0].rows if runs else 0
    count = 0
    for number in range(1, len(runs)):
        older = runs[number].rows
        if rows_max is not None and newer + older > rows_max:
            break
        if newer >= NEWEST_ROWS_MAX and older <= newer * GROWTH:
            count = number + 1
        newer += older
    return count


def wasteful(runs: Sequence[Run]) -> int | None:
    """The number of a run that holds far more memory than it has rows, because windows were cut out of it."""
    for number, run in enumerate(runs):
        if run.held_rows > 2 * run.rows + _HELD_ROWS_SLACK:
            return number
    return None

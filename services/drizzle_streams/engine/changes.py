"""The log of changes: which groups have changed since a batch, so that a snapshot can be incremental.

Every batch adds the frame of the groups it changed, with their totals (a reference, no
copy). Rules:

- A delta may hold more than was asked for, never less: totals are absolute, applying one
  twice changes nothing.
- Old entries are united eight by eight, the older the more, so there are few of them however
  small batches are; and an entry that reaches back behind the batch asked for is short
  beside what was asked for. Few rows are united within a batch, more of them beside it
  (`due`, `replaced`).
- The log is bounded in rows; what falls off raises `known_since`, and who asks for more gets
  a full snapshot. `forget` says what nobody will ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.groups import ROWS_MAX, newest
from drizzle_streams.engine.windows import SLOT

CHANGED_ROWS_MAX: Final = 262_144
"""Rows the log always may hold; it may hold a quarter of the rows of state where that is more."""

INLINE_ROWS_MAX: Final = ROWS_MAX
"""Rows that are united within a batch: less than a millisecond."""

_LEVELS_MAX: Final = 12
"""Levels that are looked at: eight to the power of this are more batches than any log holds."""

_UNITE: Final = 8
_KEEP_APART: Final = 16
"""Entries of one level that stay as they are behind those that are united."""


@dataclass(frozen=True, slots=True)
class Change:
    """Groups changed up to batch `last`, in one batch or, `level` times over, in eight."""

    last: int
    level: int
    frame: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Changes:
    """An immutable log: complete for every batch after `known_since`. Oldest entry first."""

    known_since: int
    entries: tuple[Change, ...] = ()
    rows: int = 0

    def with_batch(self, batch: int, frame: pl.DataFrame, groups: list[str], rows_max: int) -> Changes:
        """The log after a batch that changed these groups."""
        entries = [*self.entries, Change(batch, 0, frame)] if frame.height else list(self.entries)
        while (first := _crowded(entries, small=True)) is not None:
            entries[first : first + _UNITE] = [united(entries[first : first + _UNITE], groups)]
        rows = sum(entry.frame.height for entry in entries)
        known_since = self.known_since
        while entries and rows > rows_max:
            oldest = entries.pop(0)
            rows -= oldest.frame.height
            known_since = oldest.last
        return Changes(known_since, tuple(entries), rows)

    def since(self, batch: int) -> list[pl.DataFrame] | None:
        """Frames to apply in order on top of the state at `batch`; None if that is not known any more."""
        if batch < self.known_since:
            return None
        return [entry.frame for entry in self.entries if entry.last > batch]

    def due(self) -> tuple[Change, ...]:
        """Entries that should be united beside a batch (`united`), oldest first; none mostly."""
        first = _crowded(self.entries, small=False)
        return () if first is None else self.entries[first : first + _UNITE]

    def replaced(self, old: tuple[Change, ...], new: Change) -> Changes:
        """The log with what neighbours were united to in their place; as it was if they are gone."""
        first = next((at for at, one in enumerate(self.entries) if one is old[0]), None)
        if first is None or self.entries[first : first + len(old)] != old:
            return self
        entries = (*self.entries[:first], new, *self.entries[first + len(old) :])
        return Changes(self.known_since, entries, sum(one.frame.height for one in entries))

    def forget(self, batch: int) -> Changes:
        """The log without what only a snapshot since an earlier batch would need."""
        entries = tuple(one for one in self.entries if one.last > batch)
        rows = sum(one.frame.height for one in entries)
        return Changes(max(self.known_since, batch), entries, rows)

    def filtered(self, keep: pl.Expr) -> Changes:
        """The log of a part of the groups."""
        entries = tuple(Change(one.last, one.level, one.frame.filter(keep)) for one in self.entries)
        return Changes(self.known_since, entries, sum(one.frame.height for one in entries))

    def merged(self, other: Changes) -> Changes:
        """The log of two parts of a state that share no group."""
        entries = tuple(sorted((*self.entries, *other.entries), key=lambda one: one.last))
        return Changes(max(self.known_since, other.known_since), entries, self.rows + other.rows)


def united(old: Sequence[Change], groups: list[str]) -> Change:
    """Neighbours of one level as an entry of the next."""
    return Change(old[-1].last, old[0].level + 1, _newest([one.frame for one in old], groups))


def _crowded(entries: Sequence[Change], *, small: bool) -> int | None:
    """The oldest entry of a level that has too many, where uniting writes few rows (or many)."""
    end = len(entries)
    for level in range(_LEVELS_MAX):
        first = end
        while first and entries[first - 1].level == level:
            first -= 1
        if end - first >= _UNITE + _KEEP_APART:
            rows = sum(one.frame.height for one in entries[first : first + _UNITE])
            if (rows <= INLINE_ROWS_MAX) == small:
                return first
        end = first
    return None


def _newest(frames: list[pl.DataFrame], groups: list[str]) -> pl.DataFrame:
    """The last row of each group."""
    rows = eager.stacked(frames)
    found = newest(rows, SLOT, groups)
    return rows.unique(subset=groups, keep="last", maintain_order=True) if found is None else found

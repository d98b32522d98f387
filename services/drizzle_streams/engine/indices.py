"""Indices of a joined table that a worker holds: made when a task first needs them, gone when none does.

The bound: the indices of one stage never overlap. Who asks for partitions of which some are in another
index (cohorts have become one, or two) has that one dropped. So they take as much memory as one
index of the whole table, at the very most, and a worker that holds a share of the partitions holds that
share of the table. Beside it, while a plan changes, the stage that reads may hold the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Generic, TypeVar

UNUSED_TASKS_MAX = 256
"""Tasks in a row that did not need an index before it is dropped: the join is made in another stage now."""

Index = TypeVar("Index")


class Indices(Generic[Index]):
    """Indices by the partitions they serve. Thread-safe: one is made at a time, the others wait for it."""

    __slots__ = ("_held", "_lock", "_make", "_unused")

    def __init__(self, make: Callable[[tuple[int, ...]], Index]) -> None:
        self._make = make
        self._held: dict[tuple[int, ...], Index] = {}
        self._unused = 0
        self._lock = Lock()

    def of(self, partitions: Sequence[int]) -> Index:
        """The index of these partitions."""
        wanted = tuple(sorted(partitions))
        with self._lock:
            self._unused = 0
            if wanted not in self._held:
                self._held = {one: held for one, held in self._held.items() if not set(one) & set(wanted)}
                self._held[wanted] = self._make(wanted)
            return self._held[wanted]

    def not_needed(self) -> None:
        """A task was given rows and needed none of the indices."""
        with self._lock:
            self._unused += 1
            if self._unused >= UNUSED_TASKS_MAX:
                self._held = {}

    def drop(self) -> None:
        """Let go of all: partitions are given up. What is still needed is made again."""
        with self._lock:
            self._held = {}

    @property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """The partitions of each index there is."""
        return tuple(self._held)

"""How a job follows the verdicts on slow workers: pure, at the boundaries that `core.boundary` makes.

A relieved worker stays a member of its jobs, with a share of nothing, so that it hears of every
generation, gives up what it held and can hand it over. The rules:

- It loses partitions at a boundary only, where nothing is replayed for it. Where a recovery has to be
  planned before that, it keeps what it has: its state is good, it is merely slow.
- When nobody else is left, who is relieved works all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from drizzle_streams.model.ids import WorkerId

Shares = Sequence[tuple[WorkerId, int]]
"""Workers and their slots."""

SETTLED_AFTER_S = 1.0
"""After a new generation begins, partitions that moved catch up: lateness says nothing for so long."""


def shares(
    workers: Shares, relieved: frozenset[WorkerId], owns: Callable[[WorkerId], bool], *, boundary: bool
) -> list[tuple[WorkerId, int]]:
    """The shares of a plan, with 0 for who is relieved and may lose its partitions here."""
    found = [
        (worker, 0 if worker in relieved and (boundary or not owns(worker)) else size)
        for worker, size in workers
    ]
    return found if any(size for _, size in found) else list(workers)


def change(
    planned: frozenset[WorkerId],
    relieved: frozenset[WorkerId],
    workers: frozenset[WorkerId],
    owners: frozenset[WorkerId],
) -> str:
    """Why a boundary is wanted, or nothing: `planned` had a share of nothing in the last plan."""
    lose = sorted(relieved & owners)
    gain = sorted((planned - relieved) & workers)
    if lose and workers - relieved:
        return f"{', '.join(lose)} relieved"
    return f"{', '.join(gain)} reinstated" if gain else ""

"""Whether the cluster could lose a worker and still keep up.

After a loss the survivors do all of the work and catch up on what was missed. With N equal workers
that needs a utilisation below (N-1)/N; in general what the largest worker has must fit beside the
rest. Above it a recovery ends in a backlog that grows, so a person is warned while nothing is lost.
One worker alone has no survivors, so there is nothing to say about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drizzle_streams.core.membership import Member

REGAINED_BELOW_RATIO = 0.95
"""Headroom is back when utilisation is this much below the limit: one warning, not many."""


@dataclass(frozen=True, slots=True)
class Headroom:
    """`utilisation`: share of all slot time in tasks; `limit`: above it survivors could not catch up."""

    utilisation: float
    limit: float


def headroom(workers: Sequence[Member]) -> Headroom | None:
    """Of the workers that stay; None where the loss of one leaves nobody."""
    slots = sum(worker.size for worker in workers)
    if len(workers) < 2 or not slots:
        return None
    used = sum(worker.load * worker.size for worker in workers)
    return Headroom(used / slots, 1.0 - max(worker.size for worker in workers) / slots)


def is_short(now: Headroom | None, *, before: bool) -> bool:
    """Whether there is too little; once there was, it takes a clear margin to take the warning back."""
    if now is None:
        return False
    return now.utilisation > now.limit * (REGAINED_BELOW_RATIO if before else 1.0)

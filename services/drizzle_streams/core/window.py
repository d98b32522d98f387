"""How many batches may be under way: sealed, and not computed yet.

A source waits at that bound, and what arrives meanwhile makes the next batch larger. Where a batch takes
long, few are enough for workers to have something to do. Where batches are milliseconds, a bound that small
would make every message speak of few of them, and messages are what such batches cost: so the bound is a
time, too.
"""

from __future__ import annotations

IN_FLIGHT_MIN = 8
"""Batches that may be under way whatever their interval."""

IN_FLIGHT_MS = 64.0
"""So much of a short interval's batches may be under way."""

IN_FLIGHT_MAX = 32
"""And no more, however short: they all are announced, and may all be lost."""


def in_flight_max(interval_ms: float) -> int:
    """Batches offered and not yet computed; at the bound the source waits and the next batch grows."""
    return max(IN_FLIGHT_MIN, min(IN_FLIGHT_MAX, int(IN_FLIGHT_MS / interval_ms)))

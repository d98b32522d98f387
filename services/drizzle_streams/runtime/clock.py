"""Time as a thing one is given, so that tests and simulations can own it.

Three readings with three uses. Timeouts inside a process live on monotonic
seconds, which never jump. Machines live on cluster time: wall seconds at start-up
plus monotonic seconds since, so it never jumps either and means the same on every
host whose clock was set when the service started (`Launch.starts_at_ms`, sealing
times). What people and sinks read (`updated_ms`) is wall milliseconds.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a runtime reads the time."""

    def now(self) -> float:
        """Monotonic seconds of this process."""
        ...

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Monotonic seconds of this process; the same clock as asyncio's."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000


class ClusterClock(SystemClock):
    """Cluster time: what the driver gives to machines."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC as of start-up, advancing monotonically."""
        return self._offset + time.monotonic()

"""Time as a thing one is given, so that tests and simulations can own it.

Two clocks with two uses. Machines and timeouts live on monotonic seconds, which
never jump and mean nothing outside the process. What people and other services
read (sealing times, `updated_ms`) is wall milliseconds.
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

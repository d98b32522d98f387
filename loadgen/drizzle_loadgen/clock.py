"""Unix time that never jumps during a run, because due times and latencies are compared with it.

The wall clock is read once; from then on the monotonic clock carries it. The sink stamps its updates with
the wall clock of its own machine, so window latencies across machines are as good as their clocks agree.
"""

from __future__ import annotations

import time


class Clock:
    """Milliseconds since the Unix epoch as a float, monotonic within one process."""

    def __init__(self) -> None:
        self._offset_ms = time.time() * 1000 - time.monotonic() * 1000

    def now_ms(self) -> float:
        """The present, in Unix ms."""
        return time.monotonic() * 1000 + self._offset_ms

"""How late the event loop is: the first thing to look at when a healthy service is called dead.

A task sleeps for a fixed time and measures by how much it was woken too late.
The worst of the last samples is kept, since a mean hides exactly what matters.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

SAMPLE_INTERVAL_S = 0.1
SAMPLES_KEPT = 300
"""30 s of samples: longer than the interval of a scrape."""


class LoopLag:
    """Samples the lag of the loop it runs on; `run` needs an owner."""

    def __init__(self, observe: Callable[[float], None], interval_s: float = SAMPLE_INTERVAL_S) -> None:
        self._observe = observe
        self._interval_s = interval_s
        self._samples: deque[float] = deque(maxlen=SAMPLES_KEPT)

    @property
    def last(self) -> float:
        """The latest sample, seconds."""
        return self._samples[-1] if self._samples else 0.0

    @property
    def worst(self) -> float:
        """The worst of the samples kept, seconds."""
        return max(self._samples, default=0.0)

    async def run(self) -> None:
        """Sample until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval_s
            await asyncio.sleep(self._interval_s)
            lag = max(0.0, loop.time() - due)
            self._samples.append(lag)
            self._observe(lag)

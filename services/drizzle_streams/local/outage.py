"""How long a cluster was not itself after one of its processes was killed, as seen from outside.

The measure is how far the frontier is behind its schedule. What is usual is read before the
kill; the outage lasts from the kill until the lag is usual again and stays so. A coordinator
that does not answer counts as behind. It includes everything: noticing, deciding, restarting,
replaying.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

READ_INTERVAL_S = 0.05
USUAL_FOR_S = 2.0
"""How long the usual lag is read before the kill."""
STEADY_FOR_S = 0.5
"""The lag must be usual for so long, without a break, before the outage counts as over."""
USUAL_SLACK = 1.5
"""How many times the largest lag before the kill still counts as usual."""
OUTAGE_S_MAX = 60.0
SLACK_BATCHES = 3
"""Batches of lag that nobody would call unusual: what is launched, reported and read takes its time."""

ReadLag = Callable[[], Awaitable[float | None]]
"""The frontier's lag in ms; None when nobody answers."""


class Outage:
    """Reads the lag before and after a kill. `batch_interval_ms` is the job's."""

    def __init__(self, read: ReadLag, batch_interval_ms: float) -> None:
        self._read = read
        self._usual_ms = SLACK_BATCHES * batch_interval_ms

    async def learn(self) -> None:
        """Read what is usual, for `USUAL_FOR_S`."""
        until = time.monotonic() + USUAL_FOR_S
        while time.monotonic() < until:
            self._usual_ms = max(self._usual_ms, USUAL_SLACK * (await self._read() or 0.0))
            await asyncio.sleep(READ_INTERVAL_S)

    async def seconds(self) -> float:
        """From now, the kill, until all is usual again; 0 if it never was unusual.

        Ends after `OUTAGE_S_MAX` in any case, and says that much.
        """
        began = time.monotonic()
        usual_since = began
        while time.monotonic() - began < OUTAGE_S_MAX:
            lag_ms = await self._read()
            now = time.monotonic()
            if lag_ms is None or lag_ms > self._usual_ms:
                usual_since = now + READ_INTERVAL_S
            elif now - usual_since >= STEADY_FOR_S:
                return round(max(0.0, usual_since - began), 3)
            await asyncio.sleep(READ_INTERVAL_S)
        return OUTAGE_S_MAX

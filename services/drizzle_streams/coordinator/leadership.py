"""Who leads, of coordinators that run side by side: the one that holds the lease in the ledger.

The lease only keeps them from taking turns at fencing each other out; safety is the
generation's. A coordinator that restarts under its own name has its lease back at once; a
standby waits until the leader lets go of it or falls silent for `lease_ms`.
"""

from __future__ import annotations

import asyncio
import logging

from drizzle_streams.errors import FencedError, explain
from drizzle_streams.stores.base import Ledger

log = logging.getLogger("drizzle.coordinator")

RENEWALS_PER_LEASE = 3


class Leadership:
    """The lease of the coordinator `name`."""

    def __init__(self, ledger: Ledger, name: str, lease_ms: int) -> None:
        self._ledger = ledger
        self._name = name
        self._lease_ms = lease_ms

    async def take(self) -> bool:
        """Lead, if nobody else does. Raises `StoreError`."""
        return await self._ledger.acquire_lease(self._name, self._lease_ms)

    async def wait(self, stop: asyncio.Event) -> bool:
        """Wait until we lead; False if `stop` is set before. Raises `StoreError`."""
        log.info("standing by: another coordinator leads", extra={"coordinator": self._name})
        while not stop.is_set():
            try:
                async with asyncio.timeout(self._pause_s):
                    await stop.wait()
            except TimeoutError:
                if await self.take():
                    return True
        return False

    async def keep(self) -> None:
        """Renew until cancelled. Raises `FencedError` when somebody else leads, and `StoreError`."""
        while True:
            await asyncio.sleep(self._pause_s)
            # A store that was away may have let the lease run out: then it is free for us as well.
            if await self._ledger.renew_lease(self._name, self._lease_ms):
                continue
            if not await self.take():
                raise FencedError(
                    explain(
                        f"the lease of coordinator {self._name}",
                        wanted="to lead",
                        found="another coordinator that does",
                        remedy="This one ends; started again, it stands by.",
                    )
                )

    async def let_go(self) -> None:
        """Stop leading, so that the next one need not wait. Raises `StoreError`."""
        await self._ledger.release_lease(self._name)

    @property
    def _pause_s(self) -> float:
        return self._lease_ms / 1000.0 / RENEWALS_PER_LEASE

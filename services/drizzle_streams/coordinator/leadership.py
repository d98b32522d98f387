"""Who leads, of coordinators that run side by side: the one that holds the lease in the ledger.

Rules:
- The lease keeps them from taking turns at fencing each other out; safety is the generation's:
  one that leads raises it only while it has the lease, later only above its own.
- A leader knows by its own clock when its lease has run out at the latest, and says nothing from
  then on until it is renewed (`silence`). That clock also runs while the process is stopped.
- A coordinator that restarts under its own name has its lease back at once, unless it was told to
  be a standby. A standby takes the lease as soon as a leader lets go of it or falls silent for
  `lease_ms`; where it has seen no leader at all, it leaves others one `lease_ms` to come first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from drizzle_streams.errors import FencedError, explain
from drizzle_streams.stores.base import Lease, Ledger

log = logging.getLogger("drizzle.coordinator")

RENEWALS_PER_LEASE = 5
"""A renewal may be late by four fifths of a lease."""
STANDBY_LOOKS_EVERY_S = 0.2
"""How often a standby reads the lease: one that was let go of is taken within this time."""
EXPIRY_SLACK_S = 0.005
"""A lease is looked at this long after its end: the store counts milliseconds."""

OnLease = Callable[[Lease | None], None]
"""Called with the lease as it was read, or taken."""


def running_seconds() -> float:
    """Seconds that go on while this process, or its machine, is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Leadership:
    """The lease of the coordinator `name`; set `address`, where it answers, before it takes it."""

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        lease_ms: int,
        *,
        standby: bool = False,
        on_lease: OnLease = lambda _: None,
        clock: Callable[[], float] = running_seconds,
    ) -> None:
        self.address = ""
        self.term = 0
        """Of the lease that was taken last."""
        self.on_lease = on_lease
        self.taken = 0
        self.lost = 0
        """How often this coordinator took the lead, and found that another one had."""
        self._ledger = ledger
        self._name = name
        self._lease_ms = lease_ms
        self._standby = standby
        self._clock = clock
        self._until = 0.0

    @property
    def leads(self) -> bool:
        """Whether the lease is ours for certain, by our own clock."""
        return self._clock() < self._until

    async def take(self) -> bool:
        """Lead, if nobody else does. Raises `StoreError`."""
        began = self._clock()
        if not await self._ledger.acquire_lease(self._name, self._lease_ms, self.address):
            return False
        lease = await self._ledger.lease()
        if lease is None or lease.holder != self._name:  # it took longer than the lease
            return False
        self.term, self._until = lease.term, began + self._lease_ms / 1000.0
        self.taken += 1
        self.on_lease(lease)
        return True

    async def wait(self, stop: asyncio.Event) -> bool:
        """Wait until we lead; False if `stop` is set before. Raises `StoreError`."""
        seen, since, told = not self._standby, self._clock(), False
        while not stop.is_set():
            lease = await self._ledger.lease()
            # Having lost it to somebody of our name, we do not take it from that one in turn.
            ours = lease is not None and lease.holder == self._name and not self.lost
            seen = seen or (lease is not None and not ours)
            patient = not seen and (ours or self._clock() - since < self._lease_ms / 1000.0)
            if (lease is None or ours) and not patient and await self.take():
                return True
            self.on_lease(lease)
            if not told:
                told = True
                leader = "nobody yet" if lease is None else lease.holder
                log.info("standing by", extra={"coordinator": self._name, "leader": leader})
            await _stopped(stop, self._pause_s(lease))
        return False

    def _pause_s(self, lease: Lease | None) -> float:
        left_s = STANDBY_LOOKS_EVERY_S if lease is None else lease.left_ms / 1000.0 + EXPIRY_SLACK_S
        return min(STANDBY_LOOKS_EVERY_S, left_s, self._lease_ms / 1000.0)

    async def keep(self) -> None:
        """Renew until cancelled. Raises `FencedError` when somebody else leads, and `StoreError`."""
        while True:
            await asyncio.sleep(self._lease_ms / 1000.0 / RENEWALS_PER_LEASE)
            began = self._clock()
            if await self._ledger.renew_lease(self._name, self._lease_ms):
                self._until = began + self._lease_ms / 1000.0
                continue
            # A store that was away may have let the lease run out: then it is free for us as well.
            if not await self.take():
                raise FencedError(
                    explain(
                        f"the lease of coordinator {self._name}",
                        wanted="to lead",
                        found="another coordinator that does",
                        remedy="This one stands by.",
                    )
                )

    def lose(self) -> None:
        """Another one leads: from now on this one does not."""
        self._until = 0.0
        self.lost += 1

    async def let_go(self) -> None:
        """Stop leading, so that the next one need not wait. Raises `StoreError`."""
        self._until = 0.0
        await self._ledger.release_lease(self._name)


async def _stopped(stop: asyncio.Event, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            await stop.wait()
    except TimeoutError:
        return

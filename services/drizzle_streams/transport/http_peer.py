"""One peer over WebSockets: what waits for it, its connections, when to dial.

What a connection takes at once is written at once. For the rest a peer has one
task while there is something to do for it. The task writes whatever waits, over
any open connection; with none it dials. A failed dial
drops what waited: the outbox above repeats what still matters, and repeats what
is by then still true, so nothing stale is kept for a peer that may never return.
When a peer has no connection, no frames and no recent failure it is forgotten,
so lives of workers long gone cost nothing.

At most two connections are open: one dialled from here and one from there. A
peer dials only when it sees no connection of its own, so a second one from
there means that the first is dead, whatever the kernel still believes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from drizzle_streams.errors import UnreachableError
from drizzle_streams.model.ids import NodeId
from drizzle_streams.transport.base import Address, DropReason, LinkCounters, LinkLimits
from drizzle_streams.transport.framing import Outbound
from drizzle_streams.transport.http_link import Link

log = logging.getLogger("drizzle.transport")

Dial = Callable[["Peer", float], Awaitable[Link]]
"""Opens a connection within so many seconds; raises `UnreachableError`."""

DOUBLINGS_MAX = 16
"""Beyond it no bound in seconds is left to double up to."""


class Peer:
    """One node at one address. `run` is its task; the rest is called from outside."""

    def __init__(
        self,
        node: NodeId,
        address: Address,
        limits: LinkLimits,
        counters: LinkCounters,
        *,
        dial: Dial,
        on_unreachable: Callable[[NodeId], None],
    ) -> None:
        self.node = node
        self.address = address
        self.outbound = Outbound(limits, counters)
        self._limits = limits
        self._counters = counters
        self._dial = dial
        self._on_unreachable = on_unreachable
        self._dialled: Link | None = None
        self._accepted: Link | None = None
        self._wake = asyncio.Event()
        self._linked = asyncio.Event()
        self._not_writing = asyncio.Event()
        self._not_writing.set()
        self._closing = False
        self._failures = 0

    @property
    def link(self) -> Link | None:
        """An open connection, if there is one."""
        return self._dialled or self._accepted

    @property
    def holds(self) -> bool:
        """Whether frames wait here: for a connection, or for the peer to read."""
        return len(self.outbound) > 0 or not self._not_writing.is_set()

    def offer(self, frame: bytes) -> None:
        """Write a frame, or queue it (or drop it, counted) and wake the task."""
        if not self.outbound.put(frame):
            return
        link = self.link
        alone = len(self.outbound) == 1 and self._not_writing.is_set()
        if link is None or not alone or not link.takes(len(frame)):
            self._wake.set()
            return
        try:
            link.write_at_once(self.outbound.take())
        except ConnectionError:
            self.detach(link)  # as below

    def attach(self, link: Link, *, accepted: bool) -> None:
        """A connection is open. An older one from the same end is cut."""
        older = self._accepted if accepted else self._dialled
        if older is not None:
            older.cut()
        if accepted:
            self._accepted = link
        else:
            self._dialled = link
        self._counters.links_opened += 1
        self._failures = 0
        self._linked.set()
        self._wake.set()

    def detach(self, link: Link) -> None:
        """A connection ended. The last one to break makes the peer unreachable."""
        if self._accepted is link:
            self._accepted = None
        elif self._dialled is link:
            self._dialled = None
        else:
            return
        if self.link is None:
            self._linked.clear()
        self._wake.set()
        if link.retired:
            return
        self._counters.links_broken += 1
        if self.link is None:
            self._on_unreachable(self.node)

    async def run(self) -> None:
        """Write and dial until there is nothing left to do for this peer."""
        while await self._has_work():
            link = self.link
            if link is not None:
                await self._write(link)
            elif not await self._connect():
                await self._back_off()

    async def flush(self) -> None:
        """Let `run` finish what it writes, in bounded time. Then it may be cancelled."""
        self._closing = True
        self._wake.set()
        try:
            async with asyncio.timeout(self._limits.close_timeout_s):
                await self._not_writing.wait()
        except TimeoutError:
            for link in self._links():
                link.cut()  # A write must not be cancelled, see `Link.write`.
            await self._not_writing.wait()

    async def retire(self) -> None:
        """Close the connections. After `run` has ended."""
        self.outbound.drop(DropReason.CLOSED)
        await asyncio.gather(*(link.retire("service stops") for link in self._links()))

    def _links(self) -> list[Link]:
        return [link for link in (self._dialled, self._accepted) if link is not None]

    async def _has_work(self) -> bool:
        """Wait for frames; False when the peer can be forgotten."""
        remembered = False
        while not len(self.outbound) and not self._closing:
            self._wake.clear()
            if self.link is not None:
                await self._wake.wait()
            elif self._failures and not remembered:
                # Forgotten at once, a peer that is gone would be dialled by every frame.
                await _bounded(self._wake, self._limits.backoff_max_s)
                remembered = True
            else:
                return False
        return not self._closing

    async def _connect(self) -> bool:
        self._counters.dials += 1
        limits, doubled = self._limits, 2 ** min(self._failures, DOUBLINGS_MAX)
        within_s = max(limits.dial_timeout_s, min(limits.dial_timeout_s * doubled, limits.dial_timeout_s_max))
        try:
            link = await self._dial(self, within_s)
        except UnreachableError as error:
            self._counters.dials_failed += 1
            if self.link is not None:
                return True  # The peer came to us meanwhile.
            if not self._failures:
                log.warning("dial failed", extra={"peer": self.node, "error": str(error)})
            self._failures += 1
            self.outbound.drop(DropReason.UNREACHABLE)
            self._on_unreachable(self.node)
            return False
        self.attach(link, accepted=False)
        return True

    async def _back_off(self) -> None:
        """Rest, doubling up to the bound; a connection from there ends the rest."""
        longest = self._limits.backoff_first_s * 2 ** min(self._failures - 1, DOUBLINGS_MAX)
        rest = min(longest, self._limits.backoff_max_s) * random.uniform(0.5, 1.0)
        await _bounded(self._linked, rest)

    async def _write(self, link: Link) -> None:
        self._not_writing.clear()
        try:
            while len(self.outbound):
                await link.write(self.outbound.take())
        except ConnectionError:
            # Its reader will be told the same; until then nobody writes into the void.
            self.detach(link)
        finally:
            self._not_writing.set()


async def _bounded(event: asyncio.Event, within_s: float) -> None:
    """Wait for `event`, but not longer."""
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return

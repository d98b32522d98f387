"""A leader whose lease may have run out says nothing.

Another coordinator may lead by now, and members that have not met it yet would still believe this
one: that they are declared lost, for instance. What is not sent is repeated by the outbox above,
should the lease turn out to be ours after all.
"""

from __future__ import annotations

from collections.abc import Callable

from drizzle_streams.model.ids import NodeId
from drizzle_streams.transport.base import Address, DropReason
from drizzle_streams.transport.http import HttpTransport


class LeadersTransport(HttpTransport):
    """A transport that sends only while `leads` holds; what it does not send is counted."""

    leads: Callable[[], bool] = staticmethod(lambda: True)

    def send(self, to: NodeId, address: Address, frame: bytes) -> None:
        """Queue `frame` for `to`, unless the lease has run out."""
        if self.leads():
            super().send(to, address, frame)
        else:
            self.counters.dropped[DropReason.NOT_LEADING] += 1

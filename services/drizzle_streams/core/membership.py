"""Who is alive: leases, and the difference between evidence and verdict (law 6).

A node that says hello is a member while it renews its lease. A failed send or fetch makes it
suspected; only the end of its lease, or a supervisor that saw its process end, makes it lost.
A lost worker is refused for ever (it comes back under a new id); a source keeps its id, since
it names a log on a disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import takewhile

from drizzle_streams.model.ids import NodeId

LOST_REMEMBERED_MAX = 1_000

LOAD_WEIGHT = 0.1
"""What a heartbeat counts in the load of its node."""


@dataclass(slots=True)
class Member:
    """A living node; `expires` is the end of its lease, `busy` its share of slot time in tasks.

    `load` is `busy` over the last dozen of heartbeats.
    `leaving`: it was asked to stop and gets nothing new. `dismissed`: it has been told that it may go.
    """

    node: NodeId
    address: str
    is_worker: bool
    size: int
    expires: float
    busy: float = 0.0
    load: float = 0.0
    suspected: bool = False
    leaving: bool = False
    dismissed: bool = False


class Membership:
    """Leases of all nodes. `size` is slots of a worker, partitions of a source."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self.members: dict[NodeId, Member] = {}
        self._ending: dict[NodeId, Member] = {}
        """The same, by the end of their leases: all are as long, so who is heard goes to the end."""
        self._lost: dict[NodeId, None] = {}
        self._known_sources: dict[NodeId, int] = {}
        self._ordered: list[Member] | None = None
        """Living workers in order, until somebody comes or goes: asked for at every turn."""

    def join(
        self, node: NodeId, address: str, *, is_worker: bool, size: int, now: float, leaving: bool = False
    ) -> bool:
        """A node said hello; True if it was no member or answers elsewhere now."""
        known = self.members.get(node)
        if not is_worker:
            self._known_sources[node] = size
        self._ordered = None
        member = self.members[node] = Member(node, address, is_worker, size, now)
        self._lease(member, now)
        member.leaving = leaving
        member.dismissed = known is not None and known.dismissed
        return known is None or known.address != address

    def renew(self, node: NodeId, busy: float, now: float) -> bool:
        """A heartbeat; False if the node is no member."""
        member = self.members.get(node)
        if member is None:
            return False
        self._lease(member, now)
        member.busy, member.suspected = busy, False
        member.load += LOAD_WEIGHT * (busy - member.load)
        return True

    def heard(self, node: NodeId, now: float) -> None:
        """Any message proves that its sender lived a moment ago."""
        if (member := self.members.get(node)) is not None:
            self._lease(member, now)

    def excuse(self, now: float) -> None:
        """We could not listen: nobody's lease ends for that."""
        for member in tuple(self._ending.values()):
            self._lease(member, now)

    def _lease(self, member: Member, now: float) -> None:
        """It lived at that time, and no time is earlier than one that was told before."""
        member.expires = now + self.lease_s
        self._ending.pop(member.node, None)
        self._ending[member.node] = member

    def suspect(self, node: NodeId) -> bool:
        """Someone could not reach it; True if that is news."""
        member = self.members.get(node)
        if member is None or member.suspected:
            return False
        member.suspected = True
        return True

    def expired(self, now: float) -> list[NodeId]:
        """Members whose lease has ended."""
        return [member.node for member in takewhile(lambda m: m.expires <= now, self._ending.values())]

    def lose(self, node: NodeId) -> bool:
        """The verdict. A lost worker is remembered, so that it is refused; True if it was a member."""
        member = self.members.pop(node, None)
        if member is None:
            return False
        del self._ending[node]
        self._ordered = None
        if member.is_worker:
            self._lost[node] = None
            while len(self._lost) > LOST_REMEMBERED_MAX:
                del self._lost[next(iter(self._lost))]
        return True

    def is_lost(self, node: NodeId) -> bool:
        """Whether that worker was declared lost."""
        return node in self._lost

    def was_source(self, node: NodeId) -> bool:
        """Whether that node has been a member, as a source, in this life of ours."""
        return node in self._known_sources

    def workers(self) -> list[Member]:
        """Living workers in a stable order."""
        if self._ordered is None:
            self._ordered = sorted((m for m in self.members.values() if m.is_worker), key=lambda m: m.node)
        return self._ordered.copy()

    def staying(self) -> list[Member]:
        """Living workers that partitions may be placed on, in a stable order."""
        return [member for member in self.workers() if not member.leaving]

    def sources(self) -> list[Member]:
        """Living sources in a stable order."""
        return sorted((m for m in self.members.values() if not m.is_worker), key=lambda m: m.node)

    def known_sources(self) -> list[tuple[NodeId, int]]:
        """Every source that has been a member, with its partitions: one that is away keeps its log."""
        return sorted(self._known_sources.items())

    def next_deadline(self) -> float | None:
        """When the first lease ends."""
        return next((member.expires for member in self._ending.values()), None)

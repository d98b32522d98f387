"""Links: acknowledged, repeated, ordered delivery between two nodes over anything that loses (law 3).

The transport may lose, delay, repeat and reorder frames, and connections break. One `Outbox`
per node gives its role, for each peer, the illusion of a pipe: every message exactly once and
in order, as long as both lives last. Rules:

- A life is a `session` (grows with each start). A numbering is a `stream` within a session;
  a new one starts when the other side began a new life or the queue overflowed.
- The receiver keeps what comes early (bounded) and acknowledges cumulatively, on whatever it
  sends next or after ACK_DELAY_S, later where it or its peer has many links, since an acknowledgement that
  leaves by itself costs as much as what it is for, and to hear it costs no less than to say it. Both ends
  are told of such a crowd, and repeat so much later. What rode in with it may be let go of before its turn,
  so that counts as not carried and is pulled: rare, since only loss makes anything early.
- Repeats back off from RESEND_AFTER_S to RESEND_AFTER_S_MAX. Nothing is ever given up here:
  only the coordinator judges a node lost, and then its link is forgotten.
- A peer that is slow to answer is given the time that its answers take, as TCP does (RFC 6298): else a busy
  cluster says everything twice, and is busier for it. Only what was said once tells how long that is, and
  until something does, a back-off stays. Repeats leave apart from what is new, and marked: a driver drops
  them while what was said before has yet to leave.
- A turn looks at the links it touched and at those whose deadline may have passed: with many peers
  a turn concerns one of them. So `next_deadline` may be early, never late, but for the multiples of
  LOOK_EVERY_S at which a node of many links looks at all that are due since: a turn for each costs more.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from drizzle_streams.model.ids import NodeId
from drizzle_streams.protocol.messages import Envelope, Item, Message

ACK_DELAY_S = 0.1
ACK_LINKS_FEW = 33
ACK_DELAY_PER_LINK_S = 0.012
"""So much longer for each link beyond those few."""
ACK_DELAY_S_MAX = 0.5
"""Nobody waits longer unless both ends know: a peer repeats the first of what it says, and knows then."""
ACK_DELAY_IN_CROWD_S_MAX = 1.0
"""Nobody waits longer where both ends were told of a crowd."""
ALONG_S_MAX = 1.0
"""So long waits, where links are many, what may leave along with something else."""
LOOK_EVERY_S = 0.1
"""Where links are many, acknowledgements and repeats wait for the next multiple of that."""
RESEND_AFTER_S = 0.3
RESEND_AFTER_S_MAX = 2.0
ANSWER_SLACK = 1.5
"""So many times what answers took lately is waited for one, before repeating."""
ANSWER_WEIGHT = 0.125
"""What a faster answer counts in how long they take; a slower one counts at once."""
RESEND_ITEMS_MAX = 64
UNACKED_ITEMS_MAX = 20_000
EARLY_ITEMS_MAX = 4_096


def ack_delay_s(links: int, longest_s: float = ACK_DELAY_S_MAX) -> float:
    """How long a node with so many links waits for something to say before it acknowledges."""
    more = max(0, links - ACK_LINKS_FEW)
    return min(ACK_DELAY_S + more * ACK_DELAY_PER_LINK_S, longest_s)


@dataclass(slots=True)
class Link:
    """One peer's state: `unacked` is what we said, `received` how much we heard."""

    stream: int = 1
    next_seq: int = 1
    unacked: deque[Item] = field(default_factory=deque[Item])
    fresh: list[Item] = field(default_factory=list[Item])
    once: list[Item] = field(default_factory=list[Item])
    hurried: bool = False
    """Whether something of what is new must leave now."""
    say_at: float | None = None
    """When it must leave in any case."""
    crowd: int = 0
    """With how many others one of the two ends talks, as far as they were told."""
    resend_at: float | None = None
    resend_after_s: float = RESEND_AFTER_S
    timed: int = 0
    """The number of what is waited for with a watch; 0: of nothing."""
    timed_at: float = 0.0
    answer_s: float = 0.0
    """How long answers take."""
    peer_session: int = 0
    peer_stream: int = 0
    received: int = 0
    early: dict[int, Message] = field(default_factory=dict[int, Message])
    ack_at: float | None = None
    made: int = 0
    """Which link of its node it is: a deadline may still be noted for one that was dropped."""
    noted: list[float] = field(default_factory=list[float])
    """When the outbox looks at it; the earliest is the last."""

    def renumber(self) -> None:
        """Start a new numbering; what was said and not acknowledged is dropped."""
        self.stream += 1
        self.next_seq = 1
        self.unacked.clear()
        self.fresh.clear()
        self.hurried, self.say_at = False, None
        self.resend_at = None
        self.resend_after_s = self.patience_s
        self.timed = 0

    @property
    def patience_s(self) -> float:
        """How long an answer is waited for at first."""
        answer_s = max(self.answer_s, ack_delay_s(self.crowd, ACK_DELAY_IN_CROWD_S_MAX))
        return min(max(RESEND_AFTER_S, ANSWER_SLACK * answer_s), RESEND_AFTER_S_MAX)

    def answered(self, now: float) -> None:
        """Something is acknowledged, and the watch says how long that took, if it was not stopped."""
        if self.timed and (not self.unacked or self.unacked[0].seq > self.timed):
            took_s, self.timed = now - self.timed_at, 0
            self.answer_s = max(took_s, self.answer_s + ANSWER_WEIGHT * (took_s - self.answer_s))
            self.resend_after_s = self.patience_s
        self.resend_at = now + self.resend_after_s if self.said else None

    @property
    def said(self) -> int:
        """How much of what is not acknowledged has left; the rest may wait for company."""
        return len(self.unacked) - len(self.fresh)


@dataclass(frozen=True, slots=True)
class Heard:
    """What an envelope amounted to: messages in order, and whether the peer began a new life."""

    messages: tuple[tuple[Message, bool], ...]
    restarted: bool


class Outbox:
    """All links of one node. Pure: time comes in, envelopes go out."""

    def __init__(self, node: NodeId, session: int) -> None:
        self.node = node
        self.session = session
        self._links: dict[NodeId, Link] = {}
        self._made = 0
        self._touched: dict[NodeId, Link] = {}
        self._due: list[tuple[float, int, NodeId]] = []
        """When to look at which link, a heap. Deadlines that moved away stay until their time has come."""

    def send(self, to: NodeId, message: Message, *, once: bool = False, along: bool = False) -> bool:
        """Queue a message; False when the bound of a silent peer was passed and its queue dropped.

        `along`: where links are many it leaves with what is said next, since a frame costs as much again.
        """
        link = self._touch(to)
        if once:
            link.once.append(Item(0, message))
            return True
        kept = len(link.unacked) < UNACKED_ITEMS_MAX
        if not kept:
            link.renumber()
        item = Item(link.next_seq, message)
        link.next_seq += 1
        link.unacked.append(item)
        link.fresh.append(item)
        link.hurried |= not along or max(len(self._links), link.crowd) <= ACK_LINKS_FEW
        return kept

    def hear(self, envelope: Envelope, carried: tuple[bool, ...], now: float) -> Heard:
        """Take in an envelope: acknowledgements, then messages in order, once each."""
        link = self._touch(envelope.sender)
        if envelope.session < link.peer_session:
            return Heard((), restarted=False)
        restarted = self._meet(link, envelope)
        self._acknowledge(link, envelope, now)
        messages = [
            (item.message, flag) for item, flag in zip(envelope.items, carried, strict=True) if item.seq == 0
        ]
        if envelope.stream == link.peer_stream:
            messages += self._in_order(link, envelope, carried, now)
        return Heard(tuple(messages), restarted)

    def flush(self, now: float) -> list[tuple[NodeId, Envelope, bool]]:
        """Envelopes for every peer that has something to hear now, in the order in which they were spoken to.

        True: nothing but repeats.
        """
        self._touch_due(now)
        found: list[tuple[NodeId, Envelope, bool]] = []
        for node, link in self._touched.items():
            repeats = self._repeats(link, now)
            items = self._news(link, now)
            if repeats:
                found.append((node, self._envelope(link, repeats), True))
            if items or (link.ack_at is not None and link.ack_at <= now):
                link.ack_at = None
                found.append((node, self._envelope(link, items), False))
            self._note_deadlines(node, link)
        self._touched.clear()
        return found

    def next_deadline(self) -> float | None:
        """A repeat or acknowledgement may be due then; none is due before."""
        for node, link in self._touched.items():
            self._note_deadlines(node, link)
        return self._due[0][0] if self._due else None

    def crowd(self, node: NodeId, members: int) -> None:
        """One of the two ends of that link talks with so many; it holds until it is said anew."""
        link = self._touch(node)
        link.crowd = members
        link.resend_after_s = max(link.resend_after_s, link.patience_s)

    def forget(self, node: NodeId) -> None:
        """Drop a link: the node will never answer again."""
        self._links.pop(node, None)
        self._touched.pop(node, None)

    def waiting(self, node: NodeId) -> int:
        """How many messages the peer has not acknowledged."""
        link = self._links.get(node)
        return len(link.unacked) if link else 0

    def _touch(self, node: NodeId) -> Link:
        """The link to a node, to be looked at in this turn."""
        link = self._links.get(node)
        if link is None:
            self._made += 1
            link = self._links[node] = Link(made=self._made)
        self._touched[node] = link
        return link

    def _touch_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, made, node = heapq.heappop(self._due)
            link = self._links.get(node)
            if link is not None and link.made == made:
                link.noted.pop()
                self._touched[node] = link

    def _note_deadlines(self, node: NodeId, link: Link) -> None:
        """Have the link looked at in time. What is noted is ever earlier, so the last is the next to come."""
        for at in (link.resend_at, link.ack_at, link.say_at):
            if at is None or (link.noted and at >= link.noted[-1]):
                continue
            look_at = self._look_at(at)
            if not link.noted or look_at < link.noted[-1]:
                link.noted.append(look_at)
                heapq.heappush(self._due, (look_at, link.made, node))

    def _look_at(self, due: float) -> float:
        """When a deadline is looked at: then, or with others where links are many. Never before it."""
        if len(self._links) <= ACK_LINKS_FEW:
            return due
        return max(due, math.ceil(due / LOOK_EVERY_S) * LOOK_EVERY_S)

    def _meet(self, link: Link, envelope: Envelope) -> bool:
        restarted = 0 < link.peer_session < envelope.session
        if restarted:
            link.renumber()
        if link.peer_session < envelope.session or link.peer_stream < envelope.stream:
            link.peer_session, link.peer_stream = envelope.session, envelope.stream
            link.received = 0
            link.early.clear()
        return restarted

    def _acknowledge(self, link: Link, envelope: Envelope, now: float) -> None:
        if envelope.ack_session != self.session or envelope.ack_stream != link.stream:
            return
        progressed = False
        while link.unacked and link.unacked[0].seq <= envelope.ack:
            link.unacked.popleft()
            progressed = True
        if progressed:
            link.answered(now)

    def _in_order(
        self, link: Link, envelope: Envelope, carried: tuple[bool, ...], now: float
    ) -> list[tuple[Message, bool]]:
        messages: list[tuple[Message, bool]] = []
        for item, flag in zip(envelope.items, carried, strict=True):
            if item.seq > 0 and link.ack_at is None:
                delay_s = max(
                    ack_delay_s(len(self._links)), ack_delay_s(link.crowd, ACK_DELAY_IN_CROWD_S_MAX)
                )
                link.ack_at = now + delay_s
            if item.seq == link.received + 1:
                link.received += 1
                messages.append((item.message, flag))
                while link.received + 1 in link.early:
                    link.received += 1
                    messages.append((link.early.pop(link.received), False))
            elif item.seq > link.received and len(link.early) < EARLY_ITEMS_MAX:
                link.early[item.seq] = item.message
        return messages

    def _repeats(self, link: Link, now: float) -> list[Item]:
        """What was said before and is due to be said again."""
        if link.resend_at is None or link.resend_at > now:
            return []
        repeats = [link.unacked[i] for i in range(min(RESEND_ITEMS_MAX, link.said))]
        link.timed = 0  # what comes now may answer the one or the other
        link.resend_after_s = min(link.resend_after_s * 2, RESEND_AFTER_S_MAX)
        link.resend_at = now + link.resend_after_s
        return repeats

    def _may_wait(self, link: Link, now: float) -> bool:
        """Whether everything that is new may leave along with what is said next."""
        if link.hurried or link.once or (link.ack_at is not None and link.ack_at <= now):
            return False
        if link.say_at is None:
            link.say_at = now + ALONG_S_MAX
        return link.say_at > now

    def _news(self, link: Link, now: float) -> list[Item]:
        if link.fresh:
            if self._may_wait(link, now):
                return []
            link.hurried, link.say_at = False, None
            if link.resend_at is None:
                link.resend_at = now + link.resend_after_s
            if not link.timed:
                link.timed, link.timed_at = link.fresh[-1].seq, now
        items = link.once + link.fresh
        link.once, link.fresh = [], []
        return items

    def _envelope(self, link: Link, items: list[Item]) -> Envelope:
        return Envelope(
            sender=self.node,
            session=self.session,
            stream=link.stream,
            ack_session=link.peer_session,
            ack_stream=link.peer_stream,
            ack=link.received,
            items=tuple(items),
        )


def joined(earlier: Envelope, later: Envelope) -> Envelope | None:
    """What one peer hears as one envelope instead of as two; None where two numberings are meant."""
    if earlier.session != later.session or earlier.stream != later.stream:
        return None
    # Not by `replace`, which looks the fields up each time: this is done for most of what is said.
    return Envelope(
        sender=later.sender,
        session=later.session,
        stream=later.stream,
        ack_session=later.ack_session,
        ack_stream=later.ack_stream,
        ack=later.ack,
        items=earlier.items + later.items,
    )

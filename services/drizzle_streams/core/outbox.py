"""Links: acknowledged, repeated, ordered delivery between two nodes over anything that loses (law 3).

The transport may lose, delay, repeat and reorder frames, and connections break. One `Outbox`
per node gives its role, for each peer, the illusion of a pipe: every message exactly once and
in order, as long as both lives last. Rules:

- A life is a `session` (grows with each start). A numbering is a `stream` within a session;
  a new one starts when the other side began a new life or the queue overflowed.
- The receiver keeps what comes early (bounded) and acknowledges cumulatively, on whatever it
  sends next or after ACK_DELAY_S. What rode in with it may be let go of before its turn, so that
  counts as not carried and is pulled: rare, since only loss makes anything early.
- Repeats back off from RESEND_AFTER_S to RESEND_AFTER_S_MAX. Nothing is ever given up here:
  only the coordinator judges a node lost, and then its link is forgotten.
- A turn looks at the links it touched, at all of them only when a deadline may have passed: with
  many peers a turn concerns one of them. So `next_deadline` may be early, never late.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from drizzle_streams.model.ids import NodeId
from drizzle_streams.protocol.messages import Envelope, Item, Message

ACK_DELAY_S = 0.1
RESEND_AFTER_S = 0.3
RESEND_AFTER_S_MAX = 2.0
RESEND_ITEMS_MAX = 64
UNACKED_ITEMS_MAX = 20_000
EARLY_ITEMS_MAX = 4_096


@dataclass(slots=True)
class Link:
    """One peer's state: `unacked` is what we said, `received` how much we heard."""

    stream: int = 1
    next_seq: int = 1
    unacked: deque[Item] = field(default_factory=deque[Item])
    fresh: list[Item] = field(default_factory=list[Item])
    once: list[Item] = field(default_factory=list[Item])
    resend_at: float | None = None
    resend_after_s: float = RESEND_AFTER_S
    peer_session: int = 0
    peer_stream: int = 0
    received: int = 0
    early: dict[int, Message] = field(default_factory=dict[int, Message])
    ack_at: float | None = None
    made: int = 0
    """Links are flushed in the order in which they were made."""

    def renumber(self) -> None:
        """Start a new numbering; what was said and not acknowledged is dropped."""
        self.stream += 1
        self.next_seq = 1
        self.unacked.clear()
        self.fresh.clear()
        self.resend_at = None
        self.resend_after_s = RESEND_AFTER_S


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
        self.resent = 0
        self._links: dict[NodeId, Link] = {}
        self._made = 0
        self._touched: dict[NodeId, Link] = {}
        self._due_at: float | None = None
        """No deadline of any link is before it; None: none has one."""

    def send(self, to: NodeId, message: Message, *, once: bool = False) -> bool:
        """Queue a message; False when the bound of a silent peer was passed and its queue dropped."""
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

    def flush(self, now: float) -> list[tuple[NodeId, Envelope]]:
        """Envelopes for every peer that has something to hear now."""
        all_of_them = self._due_at is not None and self._due_at <= now
        looked_at = self._links if all_of_them else self._touched_in_order()
        if all_of_them:
            self._due_at = None
        found: list[tuple[NodeId, Envelope]] = []
        for node, link in looked_at.items():
            items = self._due(link, now)
            if items or (link.ack_at is not None and link.ack_at <= now):
                link.ack_at = None
                found.append((node, self._envelope(link, items)))
            self._note_deadlines(link)
        self._touched.clear()
        return found

    def next_deadline(self) -> float | None:
        """A repeat or acknowledgement may be due then; none is due before."""
        for link in self._touched.values():
            self._note_deadlines(link)
        return self._due_at

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

    def _touched_in_order(self) -> dict[NodeId, Link]:
        if len(self._touched) < 2:
            return self._touched
        return dict(sorted(self._touched.items(), key=lambda touched: touched[1].made))

    def _note_deadlines(self, link: Link) -> None:
        for at in (link.resend_at, link.ack_at):
            if at is not None and (self._due_at is None or at < self._due_at):
                self._due_at = at

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
            link.resend_after_s = RESEND_AFTER_S
            link.resend_at = now + RESEND_AFTER_S if link.unacked else None

    def _in_order(
        self, link: Link, envelope: Envelope, carried: tuple[bool, ...], now: float
    ) -> list[tuple[Message, bool]]:
        messages: list[tuple[Message, bool]] = []
        for item, flag in zip(envelope.items, carried, strict=True):
            if item.seq > 0 and link.ack_at is None:
                link.ack_at = now + ACK_DELAY_S
            if item.seq == link.received + 1:
                link.received += 1
                messages.append((item.message, flag))
                while link.received + 1 in link.early:
                    link.received += 1
                    messages.append((link.early.pop(link.received), False))
            elif item.seq > link.received and len(link.early) < EARLY_ITEMS_MAX:
                link.early[item.seq] = item.message
        return messages

    def _due(self, link: Link, now: float) -> list[Item]:
        items = link.once + link.fresh
        if link.fresh and link.resend_at is None:
            link.resend_at = now + link.resend_after_s
        if link.unacked and link.resend_at is not None and link.resend_at <= now:
            repeats = [link.unacked[i] for i in range(min(RESEND_ITEMS_MAX, len(link.unacked)))]
            fresh = {item.seq for item in link.fresh}
            again = [item for item in repeats if item.seq not in fresh]
            self.resent += len(again)
            items = link.once + again + link.fresh
            link.resend_after_s = min(link.resend_after_s * 2, RESEND_AFTER_S_MAX)
            link.resend_at = now + link.resend_after_s
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
    return Envelope(
        sender=later.sender,
        session=later.session,
        stream=later.stream,
        ack_session=later.ack_session,
        ack_stream=later.ack_stream,
        ack=later.ack,
        items=earlier.items + later.items,
    )

"""A node is a role plus its links: the top only dispatches.

The role sees messages one by one, in order; its sends go through the outbox; what the whole
turn amounted to leaves as one `Actions`, so the order of effects holds for the turn.
"""

from __future__ import annotations

from drizzle_streams.core.events import EnvelopeArrived, Event, LinkOverflowed, PeerRestarted, Received
from drizzle_streams.core.machine import Actions, Effects, Role, Send
from drizzle_streams.core.outbox import Outbox
from drizzle_streams.model.ids import NodeId


class Node:
    """The machine that a driver drives: `role` decides, `outbox` delivers."""

    def __init__(self, node: NodeId, session: int, role: Role) -> None:
        self.role = role
        self.outbox = Outbox(node, session)

    def handle(self, event: Event, now: float) -> Actions:
        """Something happened."""
        out = Effects()
        if isinstance(event, EnvelopeArrived):
            self._hear(event, now, out)
        else:
            self.role.handle(event, now, out)
        return self._freeze(out, now)

    def next_deadline(self) -> float | None:
        """The earlier of the role's and the links' deadlines."""
        times = [t for t in (self.role.next_deadline(), self.outbox.next_deadline()) if t is not None]
        return min(times, default=None)

    def on_deadline(self, now: float) -> Actions:
        """A deadline has passed."""
        out = Effects()
        due = self.role.next_deadline()
        if due is not None and due <= now:
            self.role.on_deadline(now, out)
        return self._freeze(out, now)

    def _hear(self, event: EnvelopeArrived, now: float, out: Effects) -> None:
        sender = event.envelope.sender
        refusal = self.role.refuses(sender)
        if refusal is not None:
            out.send_once(sender, refusal)
            out.forget(sender)
            return
        heard = self.outbox.hear(event.envelope, event.carried, now)
        if heard.restarted:
            self.role.handle(PeerRestarted(sender), now, out)
        left = len(heard.messages)
        for message, carried in heard.messages:
            left -= 1
            self.role.handle(Received(sender, message, carried, left > 0), now, out)

    def _freeze(self, out: Effects, now: float) -> Actions:
        for node, members in out.crowds:
            self.outbox.crowd(node, members)
        done = 0
        while done < len(out.messages) or out.unhurried:
            if done < len(out.messages):
                to, message, reliable = out.messages[done]
                done += 1
                kept = self.outbox.send(to, message, once=not reliable)
            else:
                to, message = out.unhurried.pop(0)
                kept = self.outbox.send(to, message, along=True)
            if not kept:
                self.role.handle(LinkOverflowed(to), now, out)
        sends = tuple(Send(to, envelope, again) for to, envelope, again in self.outbox.flush(now))
        for node in out.forgotten:
            self.outbox.forget(node)
        return Actions(tuple(out.persist), sends, tuple(out.starts))

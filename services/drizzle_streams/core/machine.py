"""The one shape of every machine: a machine decides, a driver acts (design laws 1 and 2).

A machine is told what happened and the time, and answers with `Actions`, one frozen bundle
whose order of effects is a law that the one driver (`runtime.driver`) keeps:

1. `persist`: written to the ledger, all or nothing. If that fails the process stops and
   the next life recovers from the ledger; nothing of the bundle was said or done.
2. `send`: envelopes to peers. What is said is therefore always already remembered.
3. `start`: work outside the machine. Work that takes time ends in exactly one event of the
   closed set in `core.events`, failure included; `Tell` actions are done at once.

Time is a parameter: `now` is cluster time in seconds (wall time at start-up plus monotonic
time since), so the same machine runs in the simulator and in production.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from drizzle_streams.core.actions import Start
from drizzle_streams.core.events import Event
from drizzle_streams.model.ids import NodeId
from drizzle_streams.protocol.messages import Envelope, Message
from drizzle_streams.protocol.records import Record


@dataclass(frozen=True, slots=True)
class Put:
    """Remember `record` under `key`."""

    key: str
    record: Record


@dataclass(frozen=True, slots=True)
class Delete:
    """Forget `key`."""

    key: str


Persist = Put | Delete


@dataclass(frozen=True, slots=True)
class Send:
    """Hand `envelope` to the transport; it may be lost, the outbox repeats it.

    `again`: nothing but repeats, which say nothing while what was said before has yet to leave.
    """

    to: NodeId
    envelope: Envelope
    again: bool = False


@dataclass(frozen=True, slots=True)
class Actions:
    """What a machine wants done, in the order of the fields."""

    persist: tuple[Persist, ...] = ()
    send: tuple[Send, ...] = ()
    start: tuple[Start, ...] = ()


class Machine(Protocol):
    """What the driver drives."""

    def handle(self, event: Event, now: float) -> Actions:
        """Something happened."""
        ...

    def next_deadline(self) -> float | None:
        """When `on_deadline` wants to be called if nothing happens before, or None."""
        ...

    def on_deadline(self, now: float) -> Actions:
        """A deadline has passed."""
        ...


@dataclass(slots=True)
class Effects:
    """Collects what a role decides while it handles one event; `core.node` freezes it."""

    persist: list[Persist] = field(default_factory=list[Persist])
    messages: list[tuple[NodeId, Message, bool]] = field(default_factory=list[tuple[NodeId, Message, bool]])
    unhurried: list[tuple[NodeId, Message]] = field(default_factory=list[tuple[NodeId, Message]])
    starts: list[Start] = field(default_factory=list[Start])
    forgotten: list[NodeId] = field(default_factory=list[NodeId])
    crowds: list[tuple[NodeId, int]] = field(default_factory=list[tuple[NodeId, int]])

    def put(self, key: str, record: Record) -> None:
        """Persist a record before anything of this bundle is said."""
        self.persist.append(Put(key, record))

    def delete(self, key: str) -> None:
        """Forget a record."""
        self.persist.append(Delete(key))

    def send(self, to: NodeId, message: Message) -> None:
        """Say something that must arrive: acknowledged, repeated, in order."""
        self.messages.append((to, message, True))

    def send_along(self, to: NodeId, message: Message) -> None:
        """Say something that must arrive, but may wait for what is said next. After the rest of it all."""
        self.unhurried.append((to, message))

    def send_once(self, to: NodeId, message: Message) -> None:
        """Say something that may be lost (heartbeats, refusals)."""
        self.messages.append((to, message, False))

    def start(self, action: Start) -> None:
        """Have something done outside."""
        self.starts.append(action)

    def forget(self, node: NodeId) -> None:
        """Drop the link to a node that will never answer again."""
        self.forgotten.append(node)

    def crowd(self, node: NodeId, members: int) -> None:
        """Of the two ends of that link one talks with so many: both spare it frames."""
        self.crowds.append((node, members))


class Role(Protocol):
    """A service's own decisions, below the link book-keeping of `core.node`."""

    def refuses(self, sender: NodeId, /) -> Message | None:
        """A refusal to send back instead of hearing the sender, or None to hear it."""
        ...

    def handle(self, event: Event, now: float, out: Effects) -> None:
        """Something happened."""
        ...

    def next_deadline(self) -> float | None:
        """When `on_deadline` wants to be called, or None."""
        ...

    def on_deadline(self, now: float, out: Effects) -> None:
        """A deadline has passed."""
        ...

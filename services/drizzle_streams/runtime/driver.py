"""The one driver: keeps the order of effects that `core.machine` makes a law.

persist → send → start, for one event after another, in one task. What is persisted is
awaited before anything of the same bundle is said; a failed write ends the service (the next
life recovers from the ledger). Everything else that takes time is the performer's, and comes
back as events through `post`.

The event queue is bounded: frames that find it full are dropped and counted (the sender's
outbox repeats them); events of our own work always find room, since that work is bounded.

What several events in a row say to one peer leaves as one frame, before the driver lets others run. A
turn that wrote the ledger speaks at once: what launching a group costs is measured by its turn.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from drizzle_streams.core.actions import LearnPeer, Start
from drizzle_streams.core.events import EnvelopeArrived, Event, PeerUnreachable
from drizzle_streams.core.machine import Actions, Machine, Persist, Send
from drizzle_streams.core.outbox import joined
from drizzle_streams.errors import ProtocolError
from drizzle_streams.model.ids import NodeId
from drizzle_streams.protocol.codec import decode_envelope, encode_envelope
from drizzle_streams.protocol.messages import Envelope, Message
from drizzle_streams.runtime.clock import Clock
from drizzle_streams.transport.base import Transport

FRAMES_WAITING_MAX = 8_192
"""Frames taken in and not yet handled; beyond it frames are dropped and repeated by their sender."""

PAYLOADS_PER_FRAME_BYTES_MAX = 4 * 1024 * 1024
"""Payloads that ride in one frame; what lies beyond is pulled by its receiver."""

EVENTS_PER_TURN_MAX = 64
"""Events handled before the loop lets others run."""

REST_S_MIN = 0.001
"""The loop's timers count milliseconds and ring at once for less: who rests for that turns and turns."""

ITEMS_PER_FRAME_MAX = 256
"""Messages that one frame is filled up to by what later events say."""


class Performer(Protocol):
    """Does what a machine starts. One per service."""

    def perform(self, action: Start) -> Awaitable[None] | None:
        """Start it. An awaitable is awaited before the next event (only where order demands it)."""
        ...

    def attach(self, to: NodeId, message: Message) -> bytes | None:
        """The payload that rides along with a message to a node, if it is small enough to."""
        ...

    def absorb(self, sender: NodeId, message: Message, payload: bytes) -> bool:
        """Keep a payload that came along; False if it is not usable (it will be pulled)."""
        ...


Persister = Callable[[Sequence[Persist]], Awaitable[None]]


@dataclass(slots=True)
class _Unsaid:
    """What a peer is about to hear in one frame; `room` is left for payloads, in bytes."""

    address: str
    envelope: Envelope
    payloads: tuple[bytes | None, ...]
    room: int

    def join(self, address: str, envelope: Envelope, payloads: tuple[bytes | None, ...], room: int) -> bool:
        """Let more ride in the same frame; False where it must have its own."""
        left = self.room - (PAYLOADS_PER_FRAME_BYTES_MAX - room)
        if left < 0 or address != self.address or len(self.payloads) + len(payloads) > ITEMS_PER_FRAME_MAX:
            return False
        both = joined(self.envelope, envelope)
        if both is None:
            return False
        self.envelope, self.payloads, self.room = both, self.payloads + payloads, left
        return True


class Driver:
    """Drives one machine until it is cancelled or something that may not fail fails."""

    def __init__(
        self,
        machine: Machine,
        clock: Clock,
        transport: Transport,
        performer: Performer,
        persist: Persister | None = None,
        *,
        punctual: bool = False,
    ) -> None:
        self.machine = machine
        self.clock = clock
        self.transport = transport
        self.performer = performer
        self.persist = persist
        self.punctual = punctual
        """Whether deadlines are kept to fractions of a millisecond, by turning until they are there."""
        self.addresses: dict[NodeId, str] = {}
        self.frames_dropped = 0
        self.frames_refused = 0
        self.repeats_sent = 0
        """Messages repeated for want of an answer; none while what was said before has yet to leave."""
        self.messages_sent: dict[str, int] = {}
        self.messages_received: dict[str, int] = {}
        self._events: deque[Event] = deque()
        self._frames = 0
        self._unsaid: dict[NodeId, _Unsaid] = {}
        self._resting: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        transport.on_frame = self.take_frame
        transport.on_introduced = self.addresses.__setitem__
        transport.on_unreachable = lambda node: self.post(PeerUnreachable(node))

    def post(self, event: Event) -> None:
        """Something happened; handled in order of posting."""
        self._events.append(event)
        self._wake()

    def take_frame(self, sender: NodeId, frame: bytes) -> None:
        """A frame came in: decode it, keep payloads, hand the rest to the machine."""
        if self._frames >= FRAMES_WAITING_MAX:
            self.frames_dropped += 1
            return
        try:
            envelope, payloads = decode_envelope(frame)
            if envelope.sender != sender:
                raise ProtocolError(f"envelope says {envelope.sender}, its connection says {sender}")
        except ProtocolError:
            self.frames_refused += 1
            return
        carried: list[bool] = []
        for item, payload in zip(envelope.items, payloads, strict=True):
            kind = type(item.message).__name__
            self.messages_received[kind] = self.messages_received.get(kind, 0) + 1
            carried.append(payload is not None and self.performer.absorb(sender, item.message, payload))
        self._frames += 1
        self.post(EnvelopeArrived(envelope, tuple(carried)))

    async def run(self) -> None:
        """Handle events and deadlines until cancelled."""
        try:
            await self._run()
        finally:
            self._set_timer(None)

    async def _run(self) -> None:
        while True:
            await self._handle_events()
            deadline, now = self.machine.next_deadline(), self.clock.now()
            if deadline is not None and deadline <= now:
                await self._carry_out(self.machine.on_deadline(now))
                self._say()
                await asyncio.sleep(0)  # others' turn, as below
            elif self._events:
                await asyncio.sleep(0)  # others' turn: a flood of events must not starve the loop
            else:
                await self._rest(None if deadline is None else deadline - now)

    async def _handle_events(self) -> None:
        for _ in range(EVENTS_PER_TURN_MAX):
            if not self._events:
                break
            event = self._events.popleft()
            if isinstance(event, EnvelopeArrived):
                self._frames -= 1
            await self._carry_out(self.machine.handle(event, self.clock.now()))
        self._say()

    async def _rest(self, within_s: float | None) -> None:
        """Wait for an event, but not longer; wakes at times for nothing.

        Deadlines move away with nearly every event (what was to be repeated was acknowledged), so a
        timer that is early enough is left as it is instead of being made anew each time.
        """
        loop = asyncio.get_running_loop()
        self._resting = loop.create_future()
        if within_s is not None:
            at = loop.time() + (within_s if self.punctual else max(within_s, REST_S_MIN))
            if self._timer is None or self._timer.when() > at:
                self._set_timer(loop.call_at(at, self._timer_rang))
        try:
            await self._resting
        finally:
            self._resting = None

    def _set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def _timer_rang(self) -> None:
        self._timer = None
        self._wake()

    def _wake(self) -> None:
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    async def _carry_out(self, actions: Actions) -> None:
        if actions.persist:
            if self.persist is None:
                raise TypeError("this machine persists, but its driver was given no ledger")
            self._say()  # what is remembered already does not wait for the ledger
            await self.persist(actions.persist)
        for start in actions.start:
            if isinstance(start, LearnPeer):
                self.addresses[start.node] = start.address
        for send in actions.send:
            self._send(send)
        if actions.persist:
            self._say()
        for start in actions.start:
            if not isinstance(start, LearnPeer):
                waited = self.performer.perform(start)
                if waited is not None:
                    self._say()
                    await waited

    def _send(self, send: Send) -> None:
        """Payloads ride along as they are now; the frame leaves with what else its peer is to hear."""
        address = self.addresses.get(send.to)
        if address is None:
            return  # not known yet: the outbox repeats, and Peers precede what needs them
        if send.again:
            if self.transport.holds(send.to, address):
                return  # a link that is slow, or yet to open, is not given the same twice
            self.repeats_sent += len(send.envelope.items)
        payloads: list[bytes | None] = []
        room = PAYLOADS_PER_FRAME_BYTES_MAX
        for item in send.envelope.items:
            kind = type(item.message).__name__
            self.messages_sent[kind] = self.messages_sent.get(kind, 0) + 1
            payload = self.performer.attach(send.to, item.message) if room > 0 else None
            if payload is not None and len(payload) > room:
                payload = None
            room -= len(payload or b"")
            payloads.append(payload)
        unsaid = self._unsaid.get(send.to)
        if unsaid is not None:
            if unsaid.join(address, send.envelope, tuple(payloads), room):
                return
            self._frame(send.to, self._unsaid.pop(send.to))
        self._unsaid[send.to] = _Unsaid(address, send.envelope, tuple(payloads), room)

    def _say(self) -> None:
        """Hand to the transport what has been collected. Before anything is awaited."""
        unsaid, self._unsaid = self._unsaid, {}
        for node, frame in unsaid.items():
            self._frame(node, frame)

    def _frame(self, to: NodeId, frame: _Unsaid) -> None:
        self.transport.send(to, frame.address, encode_envelope(frame.envelope, frame.payloads))

"""The driver: what several events say to one peer leaves as one frame, in the order of effects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from drizzle_streams.core.actions import ForgetProgram, LearnPeer, Start
from drizzle_streams.core.events import Event, StopRequested
from drizzle_streams.core.machine import Actions, Delete, Persist, Send
from drizzle_streams.model.ids import JobId, NodeId
from drizzle_streams.protocol.codec import decode_envelope
from drizzle_streams.protocol.messages import Envelope, Item, Message, PeerSuspected
from drizzle_streams.runtime import driver as dr
from drizzle_streams.runtime.clock import SystemClock
from drizzle_streams.runtime.driver import Driver

ME, A, B = NodeId("me"), NodeId("a"), NodeId("b")
Turn = Callable[[int], Actions]


class Script:
    """A machine of which the n-th event has the effects that `turn` says."""

    def __init__(self, turn: Turn) -> None:
        self._turn, self._events = turn, 0

    def handle(self, event: Event, now: float) -> Actions:
        self._events += 1
        return self._turn(self._events)

    def next_deadline(self) -> float | None:
        return None

    def on_deadline(self, now: float) -> Actions:
        raise AssertionError("no deadline was named")


class Wire:
    """A transport that writes down what it is given; `held`: peers whose frames have yet to leave."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.held: set[NodeId] = set()

    def send(self, to: NodeId, address: str, frame: bytes) -> None:
        envelope, payloads = decode_envelope(frame)
        self.log.append(("frame", (to, [item.seq for item in envelope.items], payloads)))

    def holds(self, to: NodeId, address: str) -> bool:
        return to in self.held


class Performer:
    """Writes down what is started; payloads have the size that a message's name says."""

    def __init__(self, log: list[tuple[str, Any]]) -> None:
        self._log = log

    def perform(self, action: Start) -> Awaitable[None] | None:
        self._log.append(("start", action))
        return asyncio.sleep(0) if isinstance(action, ForgetProgram) else None

    def attach(self, to: NodeId, message: Message) -> bytes | None:
        return bytes(int(str(message.peer))) if isinstance(message, PeerSuspected) else None

    def absorb(self, sender: NodeId, message: Message, payload: bytes) -> bool:
        return True


def says(to: NodeId, *seqs: int, stream: int = 1, payload_bytes: int = 0, again: bool = False) -> Send:
    items = tuple(Item(seq, PeerSuspected(ME, NodeId(str(payload_bytes)))) for seq in seqs)
    return Send(to, Envelope(ME, 1, stream, 1, 1, 7, items), again)


async def driven(turn: Turn, events: int, wire: Wire | None = None) -> tuple[list[tuple[str, Any]], Driver]:
    """What happens when so many events come at once."""
    wire = wire or Wire()

    async def persist(changes: Sequence[Persist]) -> None:
        wire.log.append(("persist", len(changes)))

    driver = Driver(Script(turn), SystemClock(), wire, Performer(wire.log), persist)  # type: ignore[arg-type]
    driver.addresses = {A: "http://a", B: "http://b"}
    for number in range(events):
        driver.post(StopRequested(JobId(str(number))))
    running = asyncio.create_task(driver.run())
    for _ in range(5):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    return wire.log, driver


def frames(log: list[tuple[str, Any]]) -> list[tuple[NodeId, list[int]]]:
    return [(what[0], what[1]) for kind, what in log if kind == "frame"]


async def test_what_events_in_a_row_say_to_a_peer_is_one_frame() -> None:
    log, _ = await driven(lambda n: Actions(send=(says(A, n), says(B, n))), 3)
    assert frames(log) == [(A, [1, 2, 3]), (B, [1, 2, 3])]


async def test_another_numbering_has_its_own_frame_after_the_one_before() -> None:
    log, _ = await driven(lambda n: Actions(send=(says(A, n, stream=1 + n // 3),)), 4)
    assert frames(log) == [(A, [1, 2]), (A, [3, 4])]


async def test_a_frame_is_bounded_in_messages_and_in_payloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dr, "ITEMS_PER_FRAME_MAX", 3)
    log, _ = await driven(lambda n: Actions(send=(says(A, n, 100 + n),)), 3)
    assert frames(log) == [(A, [n, 100 + n]) for n in (1, 2, 3)]
    monkeypatch.setattr(dr, "ITEMS_PER_FRAME_MAX", 256)
    monkeypatch.setattr(dr, "PAYLOADS_PER_FRAME_BYTES_MAX", 100)
    log, _ = await driven(lambda n: Actions(send=(says(A, n, payload_bytes=40),)), 5)
    assert frames(log) == [(A, [1, 2]), (A, [3, 4]), (A, [5])]
    assert [len(p) for kind, what in log if kind == "frame" for p in what[2]] == [40] * 5


async def test_what_is_said_before_the_ledger_is_written_does_not_wait_for_it() -> None:
    def turn(n: int) -> Actions:
        return Actions(persist=(Delete("k"),) if n == 2 else (), send=(says(A, n),))

    log, _ = await driven(turn, 3)
    assert [kind for kind, _ in log] == ["frame", "persist", "frame", "frame"]
    assert frames(log) == [(A, [1]), (A, [2]), (A, [3])], "what the ledger was written for is said at once"


async def test_nothing_is_awaited_before_it_is_said() -> None:
    forget = ForgetProgram(JobId("j"))
    log, _ = await driven(lambda n: Actions(send=(says(A, n),), start=(forget,) if n == 1 else ()), 2)
    assert [kind for kind, _ in log] == ["start", "frame", "frame"]


async def test_who_is_not_known_yet_hears_nothing_and_who_becomes_known_does() -> None:
    c = NodeId("c")
    learn = LearnPeer(c, "http://c")
    log, _ = await driven(lambda n: Actions(send=(says(c, n),), start=(learn,) if n == 2 else ()), 3)
    assert frames(log) == [(c, [2, 3])]


async def test_repeats_are_held_back_while_what_was_said_has_yet_to_leave() -> None:
    wire = Wire()
    wire.held = {A}
    both = Actions(send=(says(A, 1, 2, again=True), says(A, 3), says(B, 1, again=True)))
    log, driver = await driven(lambda n: both, 1, wire)
    assert frames(log) == [(A, [3]), (B, [1])]
    assert driver.repeats_sent == 1


NOW, AHEAD_S = 50.0, 0.0002


class Waiting(Script):
    """A machine whose deadline is a short time ahead."""

    def next_deadline(self) -> float:
        return NOW + AHEAD_S


class Standing(SystemClock):
    """A clock that stands."""

    def now(self) -> float:
        return NOW


@pytest.mark.parametrize(("punctual", "rests_s"), [(False, dr.REST_S_MIN), (True, AHEAD_S)])
async def test_who_need_not_be_punctual_does_not_turn_and_turn_until_a_deadline(
    monkeypatch: pytest.MonkeyPatch, punctual: bool, rests_s: float
) -> None:
    loop, timers, wire = asyncio.get_running_loop(), list[float](), Wire()

    def call_at(when: float, *_: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return asyncio.TimerHandle(when, lambda: None, (), loop)

    machine, performer = Waiting(lambda n: Actions()), Performer(wire.log)
    driver = Driver(machine, Standing(), wire, performer, punctual=punctual)  # type: ignore[arg-type]
    running = asyncio.create_task(driver.run())
    with monkeypatch.context() as patched:
        patched.setattr(loop, "call_at", call_at)
        patched.setattr(loop, "time", lambda: 100.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert timers == [pytest.approx(100.0 + rests_s, abs=1e-9)]

"""Finding the leader and following it: by what coordinators answer, against what old ones say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import pytest

from drizzle_streams.core.events import Event, PeerRestarted, PeerUnreachable
from drizzle_streams.core.machine import Actions
from drizzle_streams.errors import ProtocolError, UnreachableError
from drizzle_streams.model.ids import COORDINATOR, NodeId
from drizzle_streams.protocol.leading import LEADER_PATH, LeaderAnswer, leader_answer
from drizzle_streams.runtime import leader as module
from drizzle_streams.runtime.clock import SystemClock
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.runtime.leader import LeaderWatch
from drizzle_streams.transport.memory import MemoryNetwork, MemoryTransport

A, B, HINT = "http://a:7070", "http://b:7070", "http://10.0.0.9:7070"


class Coordinators(MemoryTransport):
    """A member's transport to coordinators that the test speaks for; a question waits for news."""

    def __init__(self) -> None:
        super().__init__(NodeId("worker-1"), MemoryNetwork(), "secret-of-the-tests")
        self.answers: dict[str, LeaderAnswer | None] = {}
        self.questions: list[tuple[str, int]] = []
        self._news = asyncio.Condition()

    async def say(self, address: str, answer: LeaderAnswer | None) -> None:
        async with self._news:
            self.answers[address] = answer
            self._news.notify_all()

    async def fetch(
        self, address: str, path: str, params: Mapping[str, str], timeout_s: float, bytes_max: int
    ) -> bytes:
        assert path == LEADER_PATH
        term = int(params["term"])
        self.questions.append((address, term))
        async with self._news:
            if self.answers.get(address) is None:
                raise UnreachableError(f"{address} is not there")
            await self._news.wait_for(lambda: (found := self.answers[address]) is None or found.term > term)
            answer = self.answers[address]
        if answer is None:
            raise UnreachableError(f"{address} went away")
        return answer.to_bytes()


class Idle:
    """A machine that does nothing."""

    def handle(self, event: Event, now: float) -> Actions:
        return Actions((), (), ())

    def next_deadline(self) -> float | None:
        return None

    def on_deadline(self, now: float) -> Actions:
        return Actions((), (), ())


class World:
    def __init__(self, *addresses: str) -> None:
        self.transport = Coordinators()
        driver = Driver(Idle(), SystemClock(), self.transport, None)  # type: ignore[arg-type]
        self.posted: list[Event] = []
        driver.post = self._post
        self.watch = LeaderWatch(addresses, driver)
        self.driver = driver

    def _post(self, event: Event) -> None:
        self.posted.append(event)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - a condition is any fact of a test
                await asyncio.sleep(0.002)

    async def follows(self, address: str) -> None:
        await self.until(lambda: self.watch.address == address)


@asynccontextmanager
async def world(*addresses: str) -> AsyncIterator[World]:
    found = World(*addresses)
    running = asyncio.create_task(found.watch.run())
    try:
        yield found
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST_S_FIRST", 0.002)
    monkeypatch.setattr(module, "REST_S_MAX", 0.01)


def restarts(found: World) -> int:
    return found.posted.count(PeerRestarted(COORDINATOR))


async def test_the_first_address_is_believed_until_somebody_answers() -> None:
    async with world(A, B) as found:
        assert found.watch.address == A
        await found.transport.say(B, LeaderAnswer(B, 1, leads=True))
        await found.follows(B)
        assert restarts(found) == 1, "it says hello there"


async def test_a_leader_where_it_was_looked_for_is_no_news() -> None:
    async with world(A) as found:
        await found.transport.say(A, LeaderAnswer(A, 5, leads=True))
        await found.until(lambda: found.watch.term == 5)
        assert (restarts(found), found.watch.followed) == (0, 0)


async def test_a_standby_tells_of_a_new_leader_while_the_old_one_still_looks_alive() -> None:
    async with world(A, B) as found:
        for address, leads in ((A, True), (B, False)):
            await found.transport.say(address, LeaderAnswer(A, 1, leads=leads))
        await found.until(lambda: {(A, 1), (B, 1)} <= set(found.transport.questions))
        await found.transport.say(B, LeaderAnswer(B, 2, leads=True))
        await found.follows(B)
        assert restarts(found) == 1

        await found.transport.say(A, LeaderAnswer(A, 1, leads=True))  # it woke up, and does not know yet
        await found.until(lambda: found.transport.questions.count((B, 2)) > 0)
        assert (found.watch.address, found.watch.term, restarts(found)) == (B, 2, 1)


async def test_when_the_link_breaks_nobody_waits_for_an_answer_that_may_never_come() -> None:
    async with world(A, B) as found:
        for address, leads in ((A, True), (B, False)):
            await found.transport.say(address, LeaderAnswer(A, 1, leads=leads))
        asked = found.transport.questions
        await found.until(lambda: {(A, 1), (B, 1)} <= set(asked))
        before = len(asked)
        found.transport.on_unreachable(NodeId("worker-2"))
        found.transport.on_unreachable(COORDINATOR)
        await found.until(lambda: {(A, 1), (B, 1)} <= set(asked[before:]))
        assert len(asked) == before + 2, "once each: they wait again"
        await found.transport.say(B, LeaderAnswer(B, 2, leads=True))
        await found.follows(B)


async def test_the_same_leader_in_a_new_term_is_told_to_the_machine() -> None:
    """It may be a new life at the old address."""
    async with world(A) as found:
        await found.transport.say(A, LeaderAnswer(A, 1, leads=True))
        await found.until(lambda: found.watch.term == 1)
        await found.transport.say(A, LeaderAnswer(A, 2, leads=True))
        await found.until(lambda: found.watch.term == 2)
        assert (found.watch.address, restarts(found)) == (A, 1)


async def test_where_one_address_of_a_leader_cannot_be_reached_the_other_is_tried() -> None:
    async with world(A) as found:
        await found.transport.say(A, LeaderAnswer(HINT, 1, leads=True))
        await found.until(lambda: found.watch.term == 1)
        tried = [found.watch.address]
        for _ in range(2):
            found.transport.on_unreachable(COORDINATOR)
            tried.append(found.watch.address)
        assert tried == [A, HINT, A]
        assert found.posted.count(PeerUnreachable(COORDINATOR)) == 2, "the machine hears of it as ever"


async def test_a_leader_that_only_a_standby_knows_is_followed() -> None:
    async with world(B) as found:
        await found.transport.say(B, LeaderAnswer(HINT, 3, leads=False))
        await found.follows(HINT)


async def test_nobody_leads_is_no_leader() -> None:
    async with world(A, B) as found:
        await found.transport.say(A, LeaderAnswer(None, 4, leads=False))
        await found.until(lambda: len(found.transport.questions) > 3)
        assert (found.watch.address, found.watch.term, found.posted) == (A, -1, [])


async def test_that_a_coordinator_has_dialled_proves_nothing() -> None:
    async with world(A) as found:
        found.transport.on_introduced(COORDINATOR, HINT)
        found.transport.on_introduced(NodeId("worker-2"), "http://two")
        assert found.driver.addresses == {COORDINATOR: A, NodeId("worker-2"): "http://two"}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"leader": 7, "term": 1, "leads": true}', b'{"leader": null, "term": "1"}']
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="/leader"):
        leader_answer(data)


def test_an_answer_is_read_as_it_was_written() -> None:
    for answer in (LeaderAnswer(A, 1, leads=True), LeaderAnswer(None, -1, leads=False)):
        assert leader_answer(answer.to_bytes()) == answer

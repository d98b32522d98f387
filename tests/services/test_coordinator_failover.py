"""Two coordinators on one ledger: who leads, who follows, and what becomes of one that was replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from drizzle_streams.coordinator.leadership import Leadership
from drizzle_streams.coordinator.service import CoordinatorService
from drizzle_streams.coordinator.silence import LeadersTransport
from drizzle_streams.local.ports import free_port
from drizzle_streams.model.ids import COORDINATOR, NodeId
from drizzle_streams.protocol.leading import LEADER_PATH
from drizzle_streams.stores.memory import MemoryLedger
from drizzle_streams.transport.base import DropReason
from drizzle_streams.transport.http_server import HttpServer
from tests.services.service_worlds import (
    TOKEN,
    ask,
    coordinator_on,
    job_becomes,
    job_file,
    members,
    running,
    source,
    submit,
    until,
    worker,
)

LEASE_MS = 2_000
"""Of a leader. Long beside what a busy machine may hold up one that renews it."""
LONG_MS = 600_000


class Pair:
    """Two coordinators on free ports, `one` and `two`, started and stopped by the test."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self.ports = {name: free_port() for name in ("one", "two")}
        self.both = ",".join(self.at(name) for name in self.ports)
        self._ledger = ledger
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, asyncio.Event] = {}

    def at(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def start(self, name: str, ledger: Any = None, **settings: Any) -> CoordinatorService:
        values = {"name": name, "port": self.ports[name], "leader_lease_ms": LEASE_MS} | settings
        service = coordinator_on(ledger or self._ledger, **values)
        stop = self._stops[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(service.run(stop))
        return service

    async def kill(self, name: str) -> None:
        """Gone without a word to the ledger."""
        self._tasks[name].cancel()
        await asyncio.wait({self._tasks.pop(name)})

    async def close(self) -> None:
        for name, task in self._tasks.items():
            self._stops[name].set()
            await task

    async def answer(self, name: str, question: str = "") -> Any:
        """What a coordinator says of who leads; None while it does not answer."""
        try:
            return (await ask("GET", f"{self.at(name)}{LEADER_PATH}{question}")).json
        except aiohttp.ClientError:
            return None

    async def stands_by(self, name: str) -> None:
        async def says_so() -> bool:
            answer = await self.answer(name)
            return answer is not None and not answer["leads"] and answer["leader"] is not None

        await until(says_so, f"{name} stands by and knows the leader")


@pytest.fixture
async def pair(ledger: MemoryLedger) -> AsyncIterator[Pair]:
    found = Pair(ledger)
    yield found
    await found.close()


@asynccontextmanager
async def a_job(pair: Pair) -> AsyncIterator[tuple[Any, Any]]:
    """Two members that were told of both coordinators, and a job that runs."""
    one, reader = worker(pair.both), source(pair.both)
    async with members(one, reader):
        await submit(pair.at("one"), job_file())
        await job_becomes(pair.at("one"), lambda v: v["batches_done"] >= 5, "it runs")
        yield one, reader


async def leads(pair: Pair, service: CoordinatorService) -> None:
    await until(lambda: service.leadership.leads and service.started.is_set(), "it leads")


async def test_a_standby_is_alive_sends_elsewhere_and_takes_what_is_let_go(ledger, pair):
    stop = asyncio.Event()
    one = coordinator_on(ledger, name="one", port=pair.ports["one"], leader_lease_ms=LONG_MS)
    async with running(one):
        await submit(one.address, job_file())
        standby = pair.start("two", leader_lease_ms=LONG_MS)
        await pair.stands_by("two")
        at = pair.at("two")
        assert (await ask("GET", f"{at}/healthz", token=None)).status == 200
        ready = await ask("GET", f"{at}/readyz", token=None)
        assert (ready.status, "standing by" in ready.json["reason"]) == (503, True)
        for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/status"), ("GET", "/link")):
            answer = await ask(method, at + path)
            assert (answer.status, answer.json["leader"]) == (503, one.address)
            assert one.address in answer.error
        assert (await ask("GET", f"{at}/status", token=None)).status == 401, "strangers learn nothing"
        assert not standby.started.is_set()
    await leads(pair, standby)
    assert (await ask("GET", f"{at}/readyz", token=None)).status == 200
    assert (await ask("GET", f"{at}/jobs")).json["jobs"][0]["job"] == "sums"
    stop.set()


async def test_members_follow_and_the_job_goes_on_when_the_leader_is_gone_without_a_word(pair):
    first = pair.start("one")
    await leads(pair, first)
    second = pair.start("two")
    await pair.stands_by("two")
    async with a_job(pair) as (one, reader):
        await pair.kill("one")
        await leads(pair, second)
        before = (await ask("GET", f"{pair.at('two')}/jobs/sums")).json["batches_done"]
        values = await job_becomes(pair.at("two"), lambda v: v["batches_done"] >= before + 30, "it goes on")
        assert values["placement"].keys() == {one.id}
        assert values["recoveries"] == [], "nobody had lost anything"
        assert one.leader.address == reader.leader.address == pair.at("two")
        assert second.leadership.lost == 0, "one that leads goes on leading"

        pair.start("one")
        await pair.stands_by("one")
        assert (await pair.answer("one"))["leader"] == pair.at("two")


async def test_a_leader_that_is_cut_off_falls_silent_and_stands_by_when_it_comes_back(ledger, pair):
    """As if stopped by SIGSTOP, or cut off from Redis: its successor is not disturbed, nor any member."""
    cut = CutOff(ledger)
    first = pair.start("one", cut)
    await leads(pair, first)
    second = pair.start("two")
    await pair.stands_by("two")
    async with a_job(pair) as (one, reader):
        cut.off.clear()
        await leads(pair, second)
        assert not first.leadership.leads, "by its own clock, before anybody else may lead"
        values = await job_becomes(pair.at("two"), lambda v: v["group_size"] and v["generation"] > 3, "led")
        generation = values["generation"]
        cut.off.set()
        await pair.stands_by("one")
        assert (first.leadership.lost, second.leadership.lost) == (1, 0)
        before = values["batches_done"]
        values = await job_becomes(pair.at("two"), lambda v: v["batches_done"] >= before + 30, "it goes on")
        assert values["generation"] == generation, "nobody raised it above the new leader's"
        assert values["placement"].keys() == {one.id}, "the worker was not refused"
        assert not any(type(action).__name__ == "Rejoin" for action in one.performer.performed)
        assert one.leader.address == reader.leader.address == pair.at("two")


async def test_a_standby_leaves_others_one_lease_to_come_first(pair):
    standby = pair.start("two", standby=True, leader_lease_ms=2_000)
    await until(lambda: bool(standby.address), "it stands by")
    first = pair.start("one", leader_lease_ms=2_000)
    await leads(pair, first)
    await pair.stands_by("two")
    assert standby.leadership.taken == 0
    await pair.kill("one")
    await leads(pair, standby)


async def test_a_standby_leads_where_nobody_else_does(pair):
    began = asyncio.get_running_loop().time()
    standby = pair.start("two", standby=True)
    await leads(pair, standby)
    assert asyncio.get_running_loop().time() - began >= LEASE_MS / 1000


async def test_a_standby_does_not_take_what_an_earlier_life_of_its_own_left(ledger, pair):
    """It was told to leave the lead to others: so also right after its own life ended."""
    assert await ledger.acquire_lease("two", LONG_MS, pair.at("two"))
    standby = pair.start("two", standby=True)
    await until(lambda: bool(standby.address), "it stands by")
    await asyncio.sleep(0.05)
    assert standby.leadership.taken == 0
    plain = pair.start("one")
    await ledger.release_lease("two")
    await leads(pair, plain)


async def test_a_question_on_who_leads_waits_for_news_and_no_longer_than_it_says(pair):
    first = pair.start("one")
    await leads(pair, first)
    known = await pair.answer("one")
    assert (known["leads"], known["leader"]) == (True, pair.at("one"))
    assert await pair.answer("one", f"?term={known['term']}&wait_ms=50") == known, "nothing new"
    second = pair.start("two")
    await pair.stands_by("two")
    waiting = asyncio.create_task(pair.answer("two", f"?term={known['term']}&wait_ms=10000"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await pair.kill("one")
    news = await waiting
    assert news["term"] > known["term"]
    assert (news["leader"], news["leads"]) == (pair.at("two"), True)
    await leads(pair, second)
    for question in ("?term=x", "?term=--5", "?term=-", "?wait_ms=1e3", f"?term={'9' * 40}"):
        answer = await ask("GET", f"{pair.at('two')}{LEADER_PATH}{question}")
        assert (answer.status, "a whole number" in answer.error) == (400, True)
    assert (await ask("GET", pair.at("two") + LEADER_PATH, token=None)).status == 401


async def test_who_waits_for_news_does_not_hold_up_a_stop(pair):
    one, stop = coordinator_on(MemoryLedger(), name="alone"), asyncio.Event()
    living = asyncio.create_task(one.run(stop))
    await until(one.started.is_set, "it leads")
    waiting = asyncio.create_task(ask("GET", f"{one.address}{LEADER_PATH}?term={1 << 48}&wait_ms=10000"))
    await asyncio.sleep(0.05)
    began = asyncio.get_running_loop().time()
    stop.set()
    await living
    assert asyncio.get_running_loop().time() - began < 5.0
    assert (await waiting).status == 200


async def test_a_leader_that_cannot_be_certain_says_nothing(ledger):
    server = HttpServer("127.0.0.1", 0, TOKEN)
    transport = LeadersTransport(COORDINATOR, server, TOKEN)
    leadership = Leadership(ledger, "one", LEASE_MS, clock=lambda: clock)
    transport.leads = lambda: leadership.leads
    clock = 100.0
    await transport.start()
    try:
        transport.send(NodeId("worker-1"), "http://127.0.0.1:1", b"a")
        assert transport.counters.dropped == {DropReason.NOT_LEADING: 1}, "it never led"
        assert await leadership.take()
        transport.send(NodeId("worker-1"), "http://127.0.0.1:1", b"b")
        assert transport.peers == 1, "it dials"
        clock += LEASE_MS / 1000
        transport.send(NodeId("worker-1"), "http://127.0.0.1:1", b"c")
        assert transport.counters.dropped[DropReason.NOT_LEADING] == 2
    finally:
        await transport.close()


async def test_a_lease_counts_from_before_it_was_asked_for():
    """The answer may have been long under way: by then the store's clock has run."""
    clock = 100.0

    class Slow(MemoryLedger):
        async def acquire_lease(self, holder: str, ttl_ms: int, address: str = "") -> bool:
            nonlocal clock
            taken = await super().acquire_lease(holder, ttl_ms, address)
            clock += 0.8 * LEASE_MS / 1000
            return taken

    leadership = Leadership(Slow(lambda: clock), "one", LEASE_MS, clock=lambda: clock)
    assert await leadership.take()
    assert leadership.leads
    clock += 0.22 * LEASE_MS / 1000
    assert not leadership.leads, "though the answer came a fifth of the lease ago"


class CutOff:
    """A ledger whose server may not be reached for a while: every call waits until it is again."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self.off = asyncio.Event()
        self.off.set()

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._ledger, name)

        async def waited(*arguments: Any, **named: Any) -> Any:
            await self.off.wait()
            return await call(*arguments, **named)

        return waited

"""What the services' tests share: services on free ports, and members whose work is instant.

A `Member` is the real machine of a worker or a source behind a real transport; only what it
does outside itself is made up, so it speaks the protocol as the product does.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import aiohttp

from drizzle_streams.api.leader import addresses_of
from drizzle_streams.config import CoordinatorServiceSettings
from drizzle_streams.coordinator.service import CoordinatorService
from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.machine import Role
from drizzle_streams.core.node import Node
from drizzle_streams.core.source import Source, SourceSettings
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    BatchId,
    JobId,
    NodeId,
    Offset,
    PartitionId,
    SourceId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.snapshot import SnapshotRef
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol.jobfile import JOB_MEDIA_TYPE, JobFile, pack_job
from drizzle_streams.runtime.clock import ClusterClock
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.runtime.leader import LeaderWatch
from drizzle_streams.stores.base import Ledger, SnapshotStore
from drizzle_streams.stores.memory import MemoryLedger, MemorySnapshotStore
from drizzle_streams.transport.auth import header
from drizzle_streams.transport.http import HttpTransport
from drizzle_streams.transport.http_server import HttpServer
from tests.bearer import bearer

TOKEN = "token-of-the-tests"
WAIT_S = 30.0
"""Only ever reached by a failing test."""
STREAM = "ad-events"


async def until(condition: Callable[[], bool | Awaitable[bool]], what: str) -> None:
    """Turn the loop until `condition`, which may be a coroutine function, holds."""
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                holds = condition()
                if holds if isinstance(holds, bool) else await holds:
                    return
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


class Service(Protocol):
    """A service object as the tests use it."""

    started: asyncio.Event

    @property
    def address(self) -> str: ...

    async def run(self, stop: asyncio.Event) -> None: ...


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[Service]:
    """Start a service, and stop it politely at the end; whatever it raises is raised here."""
    stop = asyncio.Event()
    life = asyncio.create_task(service.run(stop))
    started = asyncio.create_task(service.started.wait())
    try:
        async with asyncio.timeout(WAIT_S):
            await asyncio.wait({life, started}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            life.result()
        yield service
    finally:
        started.cancel()
        stop.set()
        async with asyncio.timeout(WAIT_S):
            await life


async def ends(service: Service, cause: Callable[[], Awaitable[object]]) -> BaseException:
    """What a service ends with by itself, after `cause` was done to it while it ran."""
    life = asyncio.create_task(service.run(asyncio.Event()))
    try:
        await until(lambda: life.done() or service.started.is_set(), "the service has started")
        await cause()
        await until(life.done, "the service has ended")
    finally:
        life.cancel()
        await asyncio.wait({life})
    error = life.exception()
    assert error is not None
    return error


def coordinator_on(
    ledger: Ledger | None = None, snapshots: SnapshotStore | None = None, **settings: Any
) -> CoordinatorService:
    """A coordinator on a free port, with stores of the test's."""
    values: dict[str, Any] = {"token": TOKEN, "port": 0, "metrics_public": True}
    return CoordinatorService(
        CoordinatorServiceSettings(**(values | settings)),
        ledger=ledger or MemoryLedger(),
        snapshots=snapshots or MemorySnapshotStore(),
    )


# --- asking ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return " ".join(str(part) for part in self.json["error"].values())


async def ask(
    method: str,
    url: str,
    *,
    token: str | None = TOKEN,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request with its own connection; the secret is not shown, but mints a token."""
    shown = bearer(token) if token == TOKEN else header(token or "")
    sent = dict(headers or {}) | ({"Authorization": shown} if token else {})
    data = None if body is None else io.BytesIO(body)  # aiohttp warns of large bytes
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=data, headers=sent) as got,
    ):
        return Answer(got.status, await got.read(), dict(got.headers))


async def submit(address: str, data: bytes, token: str | None = TOKEN) -> Answer:
    return await ask(
        "POST", f"{address}/jobs", token=token, body=data, headers={"Content-Type": JOB_MEDIA_TYPE}
    )


async def job_values(address: str, job: str = "sums") -> Any:
    answer = await ask("GET", f"{address}/jobs/{job}")
    assert answer.status == 200, answer.body
    return answer.json


async def job_becomes(address: str, condition: Callable[[Any], bool], what: str, job: str = "sums") -> Any:
    """The job's values once they fit."""
    seen: Any = None

    async def fits() -> bool:
        nonlocal seen
        seen = await job_values(address, job)
        return condition(seen)

    try:
        await until(fits, what)
    except AssertionError as error:
        raise AssertionError(f"{error}; the job is {seen}") from None
    return seen


# --- jobs --------------------------------------------------------------------------------------


def two_stages(name: str = "sums", **changes: Any) -> JobSpec:
    """Read a stream, shuffle, keep state and write: 4 partitions downstream."""
    stages = (
        StageSpec(StageId(0), 0, stream=StreamId(STREAM)),
        StageSpec(StageId(1), 4, inputs=(StageId(0),), stateful=True, writes_output=True),
    )
    values: dict[str, Any] = {
        "stages": stages,
        "batch_interval_ms": 20.0,
        "group_size": 5,
        "checkpoint_interval_ms": 100.0,
        "key_groups": 16,
    }
    return JobSpec(JobId(name), **(values | changes))


def job_file(spec: JobSpec | None = None, program: bytes = b"a program") -> bytes:
    return pack_job(JobFile(spec or two_stages(), program))


# --- members -----------------------------------------------------------------------------------


@dataclass
class InstantWorker:
    """A worker's performer: whatever is started has ended at once."""

    post: Callable[[ev.Event], None] = lambda event: None
    performed: list[act.Start] = field(default_factory=list)
    absorbed: list[tuple[msg.Message, bytes]] = field(default_factory=list)
    cohorts: dict[int, tuple[PartitionId, ...]] = field(default_factory=dict)

    def perform(self, action: act.Start) -> None:
        self.performed.append(action)
        match action:
            case act.LoadProgram(spec=spec):
                self.post(ev.ProgramLoaded(spec.job))
            case act.OpenCohort():
                self.cohorts[action.cohort] = action.partitions
                self.post(ev.CohortOpened(action.job, action.stage, action.cohort))
            case act.KeepPartitions():
                self.cohorts[action.cohort] = action.partitions
            case act.MergeCohorts() if action.cohort not in self.cohorts:
                pass  # of a stage without state, which opens none
            case act.MergeCohorts():
                self.cohorts[action.cohort] += self.cohorts.pop(action.other, ())
            case act.RunTask(key=key):
                self.post(ev.TaskFinished(key))
            case act.WriteOutput():
                self.post(ev.OutputWritten(action.job, action.stage, action.cohort, action.last))
            case act.TakeSnapshot():
                ref = SnapshotRef(action.stage, tuple(sorted(self.cohorts[action.cohort])), action.batch, ())
                self.post(ev.SnapshotTaken(action.job, action.stage, action.cohort, ref, 0.01))
            case act.FetchBlocks(first=first, last=last):
                batches = tuple((BatchId(batch), 0.0) for batch in range(first, last + 1))
                self.post(ev.BlocksFetched(action, batches))
            case act.FetchInput():
                self.post(ev.InputFetched(action))

    def attach(self, to: NodeId, message: msg.Message) -> bytes | None:
        return b"" if isinstance(message, msg.BlocksReady) and message.first == message.last else None

    def absorb(self, sender: NodeId, message: msg.Message, payload: bytes) -> bool:
        self.absorbed.append((message, payload))
        return True


@dataclass
class InstantSource:
    """A source's performer: every batch is one record of every partition."""

    post: Callable[[ev.Event], None] = lambda event: None
    performed: list[act.Start] = field(default_factory=list)

    def perform(self, action: act.Start) -> None:
        self.performed.append(action)
        if isinstance(action, act.SealBatches):
            bounds = tuple(
                Bounds(BatchId(batch), partition, Offset((first or 0) + at), Offset((first or 0) + at + 1))
                for at, batch in enumerate(range(action.first, action.last + 1))
                for partition, first in action.firsts
            )
            self.post(ev.BatchesSealed(action.job, action.stage, action.first, action.last, bounds, 0))

    def attach(self, to: NodeId, message: msg.Message) -> bytes | None:
        return b"" if isinstance(message, msg.Offer) else None

    def absorb(self, sender: NodeId, message: msg.Message, payload: bytes) -> bool:
        return False


class Member:
    """A node of the cluster that the test owns: real machine, real transport, made-up work.

    `coordinator` may be several addresses between commas.
    """

    def __init__(self, node: str, coordinator: str, performer: Any, role: Callable[[str], Role]) -> None:
        self.id = NodeId(node)
        self.performer = performer
        self._server = HttpServer("127.0.0.1", 0, TOKEN)
        self._transport = HttpTransport(self.id, self._server, TOKEN)
        self._make_role = role
        self._coordinator = coordinator
        self.driver: Driver
        self.leader: LeaderWatch

    @property
    def role(self) -> Any:
        return self.driver.machine.role  # type: ignore[attr-defined]

    @property
    def address(self) -> str:
        return self._server.address

    @asynccontextmanager
    async def living(self) -> AsyncIterator[Member]:
        """Join the cluster; at the end vanish without a word."""
        await self._transport.start()
        clock = ClusterClock()
        node = Node(self.id, int(clock.now() * 1000), self._make_role(self.address))
        self.driver = Driver(node, clock, self._transport, self.performer)
        self.leader = LeaderWatch(addresses_of(self._coordinator), self.driver)
        self.performer.post = self.driver.post
        lives = [asyncio.create_task(work.run()) for work in (self.driver, self.leader)]
        try:
            yield self
        finally:
            for life in lives:
                life.cancel()
            await asyncio.wait(lives)
            await self._transport.close()
            for life in lives:
                if not life.cancelled():
                    life.result()


_LIVES = itertools.count()


def worker(coordinator: str, name: str = "worker") -> Member:
    node = f"{name}-{next(_LIVES)}"
    return Member(node, coordinator, InstantWorker(), lambda at: Worker(WorkerSettings(WorkerId(node), at)))


def source(coordinator: str, name: str = "source", partitions: int = 2) -> Member:
    settings = SourceId(name)
    return Member(
        name, coordinator, InstantSource(), lambda at: Source(SourceSettings(settings, at, partitions))
    )


@asynccontextmanager
async def members(*some: Member) -> AsyncIterator[None]:
    """All of them alive."""
    async with AsyncExitStack() as stack:
        for member in some:
            await stack.enter_async_context(member.living())
        yield

"""Many members of a cluster in few processes, whose work is nothing: what is left is the scheduling.

Machine, links, transport and codec of every member are the product's, each on a port of its own. Only
what a service does outside its machine is made up: a task has ended at once, a block is empty, a batch
is one record of each partition. Tasks keep nothing, so jobs must have stages without state or output.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any

import uvloop

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.machine import Role
from drizzle_streams.core.node import Node
from drizzle_streams.core.source import Source, SourceSettings
from drizzle_streams.core.untold import RUN_BATCHES_MAX
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.errors import DrizzleError, explain
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, NodeId, Offset, SourceId, WorkerId
from drizzle_streams.protocol import messages as msg
from drizzle_streams.runtime.clock import ClusterClock
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.runtime.leader import LeaderWatch
from drizzle_streams.runtime.lifecycle import die_with
from drizzle_streams.runtime.supervisor import Supervisor
from drizzle_streams.transport.base import LinkLimits
from drizzle_streams.transport.http import HttpTransport
from drizzle_streams.transport.http_server import HttpServer

COUNT_EVERY_S = 0.05
"""How often a process writes down how many messages its members have sent."""
LIMITS = LinkLimits(dial_timeout_s=30.0, heartbeat_s=30.0)
"""Links of dozens of members are dialled by one process at once, and answer in their turn."""
STOP_S_MAX = 20.0
"""What a process gets to close its links before it is ended."""


class IdleWork:
    """Performs everything that a worker or a source starts, at once and without doing it."""

    def __init__(self) -> None:
        self.post: Callable[[ev.Event], None] = _unwired

    def perform(self, action: act.Start) -> None:
        """Post the event that the action ends in; tells end in none."""
        match action:
            case act.RunTask(key=key):
                self.post(ev.TaskFinished(key))
            case act.SealBatches():
                self.post(_sealed(action))
            case act.LoadProgram(spec=spec):
                self.post(ev.ProgramLoaded(spec.job))
            case act.FetchBlocks(first=first, last=last):
                batches = tuple((BatchId(batch), 0.0) for batch in range(first, last + 1))
                self.post(ev.BlocksFetched(action, batches))
            case act.FetchInput():
                self.post(ev.InputFetched(action))
            case act.OpenCohort() | act.WriteOutput() | act.TakeSnapshot():
                raise TypeError(f"{type(action).__name__}: idle members have stages without state or output")
            case _:
                return

    def attach(self, to: NodeId, message: msg.Message) -> bytes | None:  # noqa: ARG002 - the protocol's
        """Blocks and records are empty and always ride along, of as many batches as may."""
        if isinstance(message, msg.BlocksReady) and message.last - message.first >= RUN_BATCHES_MAX:
            return None
        return b"" if isinstance(message, msg.BlocksReady | msg.Offer) else None

    def absorb(self, sender: NodeId, message: msg.Message, payload: bytes) -> bool:  # noqa: ARG002 - as above
        """Nothing is kept of what is empty."""
        return True


def _sealed(action: act.SealBatches) -> ev.BatchesSealed:
    bounds = tuple(
        Bounds(BatchId(batch), partition, Offset((first or 0) + at), Offset((first or 0) + at + 1))
        for at, batch in enumerate(range(action.first, action.last + 1))
        for partition, first in action.firsts
    )
    return ev.BatchesSealed(action.job, action.stage, action.first, action.last, bounds, 0)


def _unwired(event: ev.Event) -> None:
    raise RuntimeError(f"{type(event).__name__} came before the driver")


@dataclass(frozen=True, slots=True)
class Hosted:
    """What one process hosts: so many workers, and a source with so many partitions."""

    number: int
    workers: int
    partitions: int


@dataclass(slots=True)
class Hosts:
    """The processes, and what their members have sent."""

    processes: list[BaseProcess] = field(default_factory=list[BaseProcess])
    counts: list[Any] = field(default_factory=list[Any])

    def check(self) -> None:
        """Raise `DrizzleError` when a process has ended."""
        for process in self.processes:
            if process.exitcode is not None:
                raise DrizzleError(
                    explain(
                        process.name,
                        wanted="a process that runs until the end",
                        found=f"exit code {process.exitcode}",
                        remedy="See what it wrote above; fewer --workers need less memory and fewer files.",
                    )
                )

    def pids(self) -> list[int]:
        """Of all processes; raises `DrizzleError` when one has ended."""
        self.check()
        return [process.pid for process in self.processes if process.pid is not None]

    @property
    def messages_sent(self) -> int:
        """By all members, as of at most `COUNT_EVERY_S` ago."""
        return sum(int(count.value) for count in self.counts)


@asynccontextmanager
async def hosting(shares: Sequence[Hosted], coordinator: str, token: str) -> AsyncIterator[Hosts]:
    """Start a process for each share; its members say hello by themselves. Stops them at the end."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    hosts = Hosts()
    try:
        for share in shares:
            count = context.Value("Q", 0)
            process = context.Process(
                target=_host,
                name=f"host {share.number}",
                args=(share, coordinator, token, stop, count, multiprocessing.current_process().pid),
                daemon=True,
            )
            process.start()
            hosts.processes.append(process)
            hosts.counts.append(count)
        yield hosts
    finally:
        stop.set()
        for process in hosts.processes:
            await asyncio.to_thread(process.join, STOP_S_MAX)
            if process.exitcode is None:
                process.kill()
                await asyncio.to_thread(process.join)


def _host(share: Hosted, coordinator: str, token: str, stop: Any, count: Any, parent_pid: int) -> None:
    """One process: its members, until `stop` is set."""
    die_with(parent_pid)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_live(share, coordinator, token, stop, count))


async def _live(share: Hosted, coordinator: str, token: str, stop: Any, count: Any) -> None:
    # Partitions are placed by the names of workers: stages of a few tasks are spread over all processes, too.
    members = [_worker(f"idle-{n:03}-{share.number}", coordinator, token) for n in range(share.workers)]
    members.append(_source(f"idle-{share.number}", share.partitions, coordinator, token))
    stopped = asyncio.Event()
    async with AsyncExitStack() as closing, Supervisor() as tasks:
        for member in members:
            await member.join(closing, tasks)
        tasks.start(_count(members, stop, count, stopped), "count")
        await tasks.until(stopped)


async def _count(members: Sequence[Member], stop: Any, count: Any, stopped: asyncio.Event) -> None:
    while not stop.is_set():
        count.value = sum(sum(member.driver.messages_sent.values()) for member in members)
        await asyncio.sleep(COUNT_EVERY_S)
    stopped.set()


class Member:
    """One worker or source: everything that the product has around the work itself."""

    def __init__(self, node: str, coordinator: str, token: str, role: Callable[[str], Role]) -> None:
        self._node = NodeId(node)
        self._coordinator = coordinator
        self._role = role
        self._server = HttpServer("127.0.0.1", 0, token)
        self._transport = HttpTransport(self._node, self._server, token, limits=LIMITS)
        self.driver: Driver

    async def join(self, closing: AsyncExitStack, tasks: Supervisor) -> None:
        """Listen, and say hello; closed by `closing`, after its tasks."""
        self._transport.on_failure = tasks.fail
        await self._transport.start()
        closing.push_async_callback(self._transport.close)
        clock, work = ClusterClock(), IdleWork()
        role = self._role(self._server.address)
        node = Node(self._node, int(clock.now() * 1000), role)
        self.driver = Driver(node, clock, self._transport, work, punctual=isinstance(role, Source))
        work.post = self.driver.post
        tasks.start(LeaderWatch([self._coordinator], self.driver).run(), f"leader watch of {self._node}")
        tasks.start(self.driver.run(), f"driver of {self._node}")


def _worker(node: str, coordinator: str, token: str) -> Member:
    return Member(node, coordinator, token, lambda at: Worker(WorkerSettings(WorkerId(node), at)))


def _source(node: str, partitions: int, coordinator: str, token: str) -> Member:
    name = f"{node}-source"
    return Member(name, coordinator, token, lambda at: Source(SourceSettings(SourceId(name), at, partitions)))

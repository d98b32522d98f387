"""Every service as it is wired in life, and every door that its server has: found, not listed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drizzle_streams.config import SourceServiceSettings, WorkerServiceSettings
from drizzle_streams.source.service import SourceService
from drizzle_streams.stores.base import SnapshotStore
from drizzle_streams.stores.memory import MemoryLedger, MemorySnapshotStore
from drizzle_streams.transport.auth import Auth
from drizzle_streams.transport.http_server import HttpServer
from drizzle_streams.worker.service import WorkerService
from tests.services.service_worlds import TOKEN, coordinator_on, running, until

SERVICES = ("coordinator", "standby", "source", "worker")


@dataclass(frozen=True)
class Door:
    """One way in."""

    method: str
    path: str
    key: Auth

    def url(self, stream: str = "clicks") -> str:
        path = self.path.replace("{stream}", stream).replace("{path}", "jobs")
        for variable in ("{job}", "{node}", "{worker}", "{name}", "{asset}"):
            path = path.replace(variable, "nobody")
        assert "{" not in path, f"say in tests/security/houses.py what {path} is tried with"
        return path


class Letters:
    """A Redis that nobody needs here."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def execute(self, *arguments: Any) -> None: ...


@dataclass
class Houses:
    """The servers of running services, by service."""

    servers: dict[str, HttpServer]

    def doors(self, service: str) -> list[Door]:
        server = self.servers[service]
        found: list[Door] = []
        for route in server._app.router.routes():
            assert route.resource is not None
            found.append(Door(route.method, route.resource.canonical, server._keys[route]))
        return found


@asynccontextmanager
async def houses(directory: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Houses]:
    """A leading coordinator, one that stands by, a source and a worker, in this process."""
    started: list[HttpServer] = []
    start = HttpServer.start

    async def noted(server: HttpServer) -> None:
        await start(server)
        started.append(server)

    monkeypatch.setattr(HttpServer, "start", noted)
    ledger, snapshots = MemoryLedger(), MemorySnapshotStore()
    common: dict[str, Any] = {"metrics_public": False} | settings
    async with AsyncExitStack() as stack:
        leader = coordinator_on(ledger, snapshots, name="c-1", **common)
        await stack.enter_async_context(running(leader))
        servers = {"coordinator": started[-1]}
        second = coordinator_on(ledger, snapshots, name="c-2", **common)
        await stack.enter_async_context(_living(second, "standby", started, servers))
        at: dict[str, Any] = {"token": TOKEN, "port": 0, "coordinator": leader.address} | common
        source = SourceService(SourceServiceSettings(**at, name="source-1", data_dir=directory))
        await stack.enter_async_context(running(source))
        servers["source"] = started[-1]
        worker = _worker(at, snapshots)
        await stack.enter_async_context(_living(worker, "worker", started, servers))
        yield Houses(servers)


def _worker(at: dict[str, Any], snapshots: SnapshotStore) -> WorkerService:
    return WorkerService(
        WorkerServiceSettings(**at, name="worker-1"),
        snapshots=snapshots,
        link=Letters(),  # type: ignore[arg-type]
    )


@asynccontextmanager
async def _living(
    service: Any, name: str, started: list[HttpServer], servers: dict[str, HttpServer]
) -> AsyncIterator[None]:
    """A service that has no `started` of its own to wait for: it lives once it listens."""
    before, stop = len(started), asyncio.Event()
    life = asyncio.create_task(service.run(stop))
    try:
        await until(lambda: len(started) > before or life.done(), f"the {name} listens")
        if life.done():
            life.result()
        servers[name] = started[before]
        yield
    finally:
        stop.set()
        await asyncio.wait_for(life, 20)

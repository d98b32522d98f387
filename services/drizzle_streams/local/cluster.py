"""A cluster for the pip user: real services as processes on loopback, embedded Redis, a supervisor.

Rules:
- With standbys, a coordinator that ended comes back as a standby: another one leads by then.
- Ports are chosen once and kept over restarts, so a restarted service is found where it was.
- The supervisor sees a process end at once, tells the coordinator (law 6: then it may be judged
  without waiting for its lease) and starts it again, with a bounded backoff.
- The cluster's secret is made here and goes to children by environment, never by command line.
- Stopping is orderly and bounded, and leaves no process behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from drizzle_streams.errors import ConfigError, DrizzleError, UnreachableError, explain
from drizzle_streams.local.directory import StateDirectory
from drizzle_streams.local.http import ask, is_ready
from drizzle_streams.local.ports import HOST, require_free
from drizzle_streams.local.process import ServiceProcess
from drizzle_streams.local.processors import ours, shares
from drizzle_streams.local.redis import EmbeddedRedis
from drizzle_streams.local.together import together
from drizzle_streams.protocol.leading import LEADER_PATH
from drizzle_streams.protocol.tokens import TokenKind

READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.05
RESTART_BACKOFF_S = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Rest before a restart, by how many came within HEALTHY_S of their start."""
HEALTHY_S = 10.0
TELL_ATTEMPTS_MAX = 20
TELL_REST_S = 0.1
EXIT_CONFIG = 2
STANDBY = "--standby"
DRAIN_GRACE_S = 30.0
"""What a worker that is scaled away gets to hand over what it holds."""


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """What a local cluster is made of. `port` is the first coordinator's, None takes a free one."""

    directory: Path
    workers: int = 2
    sources: int = 2
    port: int | None = None
    standbys: int = 0
    partitions: int = 2
    lease_ms: int = 2_000
    polars_threads: int = 1


class LocalCluster:
    """Owns the processes; use as an async context manager."""

    def __init__(self, settings: LocalSettings) -> None:
        self.settings = settings
        self.directory = settings.directory
        self.token = ""
        self.services: dict[str, ServiceProcess] = {}
        self.redis = EmbeddedRedis(settings.directory / "redis")
        self._failure: asyncio.Future[BaseException] | None = None
        self._state = StateDirectory(settings.directory)
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    # --- life -----------------------------------------------------------------------------

    async def __aenter__(self) -> LocalCluster:
        """Start everything and wait until it is ready."""
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop everything."""
        await self.stop()

    async def start(self) -> None:
        """Start Redis, coordinator, sources, workers; raises `ConfigError` with what one of them said."""
        self._failure = asyncio.get_running_loop().create_future()
        self._prepare()
        await self.redis.start()
        for service in self.services.values():
            service.environment = {**service.environment, "DRIZZLE_REDIS_URL": self.redis.url}
        for service in self.services.values():
            await service.start()  # all at once: members say hello again until the coordinator hears
        await together(*(self._until_ready(service) for service in self.services.values()))
        for service in self.services.values():
            self._watch_over(service.name, self._watch(service))
        self._watch_over("redis", self._watch_redis())

    async def stop(self) -> None:
        """Workers and sources, then the coordinator, then Redis."""
        self._stopping = True
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        members = [s for s in self.services.values() if s.role != "coordinator"]
        await asyncio.gather(*(service.stop() for service in members))
        # All at once: none of them is to take over from another.
        await asyncio.gather(*(service.stop() for service in self.of_role("coordinator")))
        await self.redis.stop()
        self._state.unlock()

    # --- what the outside needs -----------------------------------------------------------

    @property
    def address(self) -> str:
        """The coordinator, and after commas its standbys."""
        return ",".join(service.address for service in self.of_role("coordinator"))

    @property
    def source_addresses(self) -> list[str]:
        """Where records are posted."""
        return [s.address for s in self.services.values() if s.role == "source"]

    def of_role(self, role: str) -> list[ServiceProcess]:
        """Services of a kind, by name."""
        return [s for s in self.services.values() if s.role == role]

    def kill(self, role: str) -> str:
        """SIGKILL the last process of a role (or redis); returns its name."""
        if role == "redis":
            if self.redis.pid is not None:
                os.kill(self.redis.pid, signal.SIGKILL)
            return "redis"
        victim = self.of_role(role)[-1]
        victim.signal(signal.SIGKILL)
        return victim.name

    async def leader(self) -> ServiceProcess:
        """The coordinator that leads. Raises `DrizzleError` if none does just now."""
        answer = await self.ask(LEADER_PATH)
        for service in self.of_role("coordinator"):
            if service.address == answer["leader"]:
                return service
        raise UnreachableError(
            explain("the leader", wanted="a coordinator of ours", found=str(answer), remedy="Ask again.")
        )

    async def failed(self) -> NoReturn:
        """Wait for what the supervisor cannot mend (a service that cannot start again) and raise it."""
        if self._failure is None:
            raise RuntimeError("the cluster was never started")
        raise await asyncio.shield(self._failure)

    async def ask(self, path: str, method: str = "GET") -> dict[str, Any]:
        """A request to the coordinator, by a service of its cluster."""
        return await asyncio.to_thread(
            ask, self.address, path, self.token, method=method, kind=TokenKind.CLUSTER
        )

    # --- more and fewer -------------------------------------------------------------------

    async def scale(self, workers: int) -> None:
        """Start workers, or have the newest ones drain and end, until there are so many."""
        names = [f"worker-{number}" for number in range(1, workers + 1)]
        leaving = [worker for worker in self.of_role("worker") if worker.name not in names]
        await asyncio.gather(*(self._drain(worker) for worker in leaving))
        joining = [name for name in names if name not in self.services]
        ports = self._state.ports(joining, {})
        for name in joining:
            self._add(name, "worker", ports[name], ("--coordinator", self.address))
        self._share_processors()
        await asyncio.gather(*(self._join(self.services[name]) for name in joining))

    async def _join(self, worker: ServiceProcess) -> None:
        worker.environment = {**worker.environment, "DRIZZLE_REDIS_URL": self.redis.url}
        await worker.start()
        self._watch_over(worker.name, self._watch(worker))
        await self._until_ready(worker)

    async def _drain(self, worker: ServiceProcess) -> None:
        watcher = self._watchers.pop(worker.name)
        watcher.cancel()
        await asyncio.wait({watcher})
        await worker.stop(DRAIN_GRACE_S)
        del self.services[worker.name]
        await self._tell_exited(worker)

    # --- making ---------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._state.lock()
        (self.directory / "logs").mkdir(exist_ok=True)
        self.token = self._state.token()
        port = self.settings.port
        if port is not None:
            require_free(port, "coordinator")
        standbys = [f"coordinator-{number}" for number in range(2, self.settings.standbys + 2)]
        names = ("redis", "coordinator", *standbys, *self._names("source"), *self._names("worker"))
        ports = self._state.ports(names, {} if port is None else {"coordinator": port})
        self.redis = EmbeddedRedis(self.directory / "redis", ports["redis"])
        self._add("coordinator", "coordinator", ports["coordinator"], ())
        for name in standbys:
            self._add(name, "coordinator", ports[name], (STANDBY,))
        coordinator = self.address
        for name in self._names("source"):
            place = ("--data-dir", str(self.directory / name), "--partitions", str(self.settings.partitions))
            self._add(name, "source", ports[name], ("--coordinator", coordinator, *place))
        for name in self._names("worker"):
            self._add(name, "worker", ports[name], ("--coordinator", coordinator))
        self._share_processors()

    def _share_processors(self) -> None:
        workers = self.of_role("worker")
        for worker, share in zip(workers, shares(ours(), len(workers)), strict=True):
            worker.move(share)

    def _add(self, name: str, role: str, port: int, flags: Sequence[str]) -> None:
        common = ("--name", name, "--port", str(port), "--host", HOST)
        lease = ("--lease-ms", str(self.settings.lease_ms)) if role == "coordinator" else ()
        environment = {
            "DRIZZLE_TOKEN": self.token,
            "POLARS_MAX_THREADS": str(self.settings.polars_threads),
        }
        self.services[name] = ServiceProcess(
            name=name,
            role=role,
            address=f"http://{HOST}:{port}",
            flags=(*common, *lease, *flags),
            environment=environment,
            log=self.directory / "logs" / f"{name}.log",
        )

    def _names(self, role: str) -> list[str]:
        count = self.settings.sources if role == "source" else self.settings.workers
        return [f"{role}-{number}" for number in range(1, count + 1)]

    async def _until_ready(self, service: ServiceProcess) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        path = "/healthz" if STANDBY in service.flags else "/readyz"
        while not await asyncio.to_thread(is_ready, service.address, path=path):
            if service.pid is None:
                raise ConfigError(service.last_words())
            if time.monotonic() > deadline:
                raise ConfigError(
                    explain(
                        service.name,
                        wanted=f"ready within {READY_TIMEOUT_S:g} s",
                        found=service.last_words(),
                        remedy=f"See {service.log}.",
                    )
                )
            await asyncio.sleep(READY_POLL_S)

    # --- watching -------------------------------------------------------------------------

    def _watch_over(self, name: str, watch: Coroutine[None, None, None]) -> None:
        watcher = self._watchers[name] = asyncio.create_task(watch, name=name)
        watcher.add_done_callback(self._watcher_ended)

    async def _watch(self, service: ServiceProcess) -> None:
        quick = 0
        while True:
            began = time.monotonic()
            status = await service.wait()
            if self._stopping:
                return
            if status == EXIT_CONFIG:
                raise ConfigError(service.last_words())
            quick = quick + 1 if time.monotonic() - began < HEALTHY_S else 0
            await self._tell_exited(service)
            await asyncio.sleep(RESTART_BACKOFF_S[min(quick, len(RESTART_BACKOFF_S) - 1)])
            if service.role == "coordinator" and self.settings.standbys and STANDBY not in service.flags:
                service.flags = (*service.flags, STANDBY)
            await service.start()

    async def _watch_redis(self) -> None:
        while True:
            await self.redis.wait()
            if self._stopping:
                return
            await self.redis.start()

    async def _tell_exited(self, service: ServiceProcess) -> None:
        """Let the coordinator judge at once. If it cannot be told, the lease tells it later."""
        if service.role != "worker":
            return
        for _ in range(TELL_ATTEMPTS_MAX):
            try:
                status = await self.ask("/status")
                for member in status["workers"]:
                    if str(member["id"]).startswith(f"{service.name}-"):
                        await self.ask(f"/nodes/{member['id']}/exited", "POST")
                return
            except DrizzleError:  # it may be the coordinator that is away
                await asyncio.sleep(TELL_REST_S)

    def _watcher_ended(self, watcher: asyncio.Task[None]) -> None:
        error = None if watcher.cancelled() else watcher.exception()
        if error is not None and self._failure is not None and not self._failure.done():
            self._failure.set_result(error)

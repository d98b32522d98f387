"""One service of a local cluster as a real process: started, watched, stopped, killed.

The child dies with this process (it asks the kernel for that, `--parent-pid`), writes its log
to a file, and gets secrets by environment only.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drizzle_streams.local.processors import confine

STOP_GRACE_S = 8.0
LOG_TAIL_BYTES = 4_000
LOG_BYTES_MAX = 16 * 1024 * 1024
"""A log longer than this is put aside, in place of the one before, when a new life begins."""


@dataclass
class ServiceProcess:
    """`role` is coordinator, worker or source; `flags` are the command's; `address` where it answers."""

    name: str
    role: str
    address: str
    flags: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    processors: frozenset[int] = frozenset()
    """Where it runs; anywhere if there are none."""
    starts: int = 0
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The pid while it runs."""
        return self.process.pid if self.process and self.process.returncode is None else None

    async def start(self) -> None:
        """Start a new life; the log is appended to."""
        self.starts += 1
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "drizzle_streams.cli",
                self.role,
                "--parent-pid",
                str(os.getpid()),
                *self.flags,
                env={**os.environ, **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we stop them in order
            )
        confine(self.process.pid, self.processors)  # at once: threads that it will have inherit it

    def move(self, processors: frozenset[int]) -> None:
        """Run there from now on, in later lives too."""
        self.processors = processors
        if self.pid is not None:
            confine(self.pid, processors)

    async def wait(self) -> int:
        """The exit status of the present life (negative: a signal)."""
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await self.process.wait()

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self.pid is not None:
            os.kill(self.pid, signum)

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """SIGTERM, then SIGKILL after the grace."""
        if self.pid is None:
            return
        self.signal(signal.SIGCONT)  # a stopped process cannot hear SIGTERM
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()

    def last_words(self) -> str:
        """The last line of its log, for an error message; without the `drizzle: ` of a refusal."""
        data = self.log.read_bytes()[-LOG_TAIL_BYTES:] if self.log.exists() else b""
        lines = [line for line in data.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].removeprefix("drizzle: ") if lines else "nothing in its log"

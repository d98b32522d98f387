"""The `drizzle` command as a person runs it: a process of its own, in a folder of its own.

Whatever it starts has its working directory in that folder or below, and its temporary files in
`tmp` there, so that what is left behind can be found without knowing what was started.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tests.bearer import bearer

WAIT_S = 60.0
"""Only ever reached by a failing test, or on a machine that is very busy."""
POLL_S = 0.05

T = TypeVar("T")


def until(what: str, look: Callable[[], T | None], timeout_s: float = WAIT_S) -> T:
    """The first answer of `look` that is neither None nor false."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(POLL_S)
    raise AssertionError(f"never came true within {timeout_s:g} s: {what}")


class Place:
    """A folder, and the commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **more: str) -> Running:
        """Start `drizzle` with these arguments, and `more` in its environment."""
        out = self.folder / f"out-{len(self._running)}.txt"
        with out.open("wb") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", "drizzle_streams.cli", *arguments],
                cwd=self.folder,
                env=environment(TMPDIR=str(self.temporary), **more),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(process)
        return Running(process, out)

    def run(self, *arguments: str, timeout_s: float = WAIT_S, **variables: str) -> Running:
        """Run `drizzle` to its end."""
        running = self.start(*arguments, **variables)
        running.ended(timeout_s)
        return running

    def processes(self) -> dict[int, str]:
        """Every living process that works in this folder, with its command line."""
        return {pid: line for pid, line in _processes() if _works_in(pid, self.folder)}

    def left_behind(self) -> tuple[list[str], list[str]]:
        """Processes and temporary files that are still there."""
        return list(self.processes().values()), [path.name for path in self.temporary.iterdir()]

    def close(self) -> None:
        """End whatever still runs: only after a test that failed."""
        for process in self._running:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


@dataclass(frozen=True)
class Running:
    """A `drizzle` command under way or ended."""

    process: subprocess.Popen[bytes]
    out: Path

    def ended(self, timeout_s: float = WAIT_S) -> int:
        """Its exit code; fails with its words if it does not end."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {timeout_s:g} s; it said:\n{self.said()}") from None

    @property
    def code(self) -> int | None:
        """The exit code, once it ended."""
        return self.process.poll()

    def said(self) -> str:
        """Standard output and error."""
        return self.out.read_text(errors="replace")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def says(self, words: str, timeout_s: float = WAIT_S) -> None:
        """Wait until it said this."""
        until(f"said {words!r}", lambda: words in self.said() or self._not_ended(words), timeout_s)

    def _not_ended(self, words: str) -> bool:
        if self.code is not None:
            raise AssertionError(f"ended ({self.code}) and never said {words!r}; it said:\n{self.said()}")
        return False


class ClusterDoors:
    """A local cluster from outside, by what lies in its state directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.token = (directory / "token").read_text()
        self.ports: dict[str, int] = json.loads((directory / "ports.json").read_text())

    def address(self, service: str) -> str:
        """Where a service answers."""
        return f"http://127.0.0.1:{self.ports[service]}"

    @property
    def redis_url(self) -> str:
        """The cluster's Redis."""
        return f"redis://127.0.0.1:{self.ports['redis']}/0"

    def ask(self, path: str, service: str = "coordinator") -> Any:
        """The JSON answer of a service; None while there is none, or it says that it cannot yet."""
        try:
            status, body = self.send(service, path)
        except (URLError, OSError):
            return None
        return None if status == HTTPStatus.SERVICE_UNAVAILABLE else json.loads(body)

    def send(
        self, service: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body of any answer, a refusal too."""
        request = Request(f"{self.address(service)}{path}", body)
        request.add_header("Authorization", bearer(self.token))
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except HTTPError as refusal:
            return refusal.code, refusal.read()

    def metric(self, service: str, name: str, **labels: str) -> float:
        """The sum of a metric's series that have these labels; 0 if there is none."""
        text = self.send(service, "/metrics")[1].decode()
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        return sum(
            float(value)
            for series, value in re.findall(rf"^{name}(\{{.*\}}|) (\S+)$", text, re.MULTILINE)
            if all(pair in series for pair in wanted)
        )


def doors_of(directory: Path) -> ClusterDoors:
    """The doors of a cluster that is starting in this directory."""
    until("a state directory with ports", (directory / "ports.json").exists)
    return until("ports that can be read", lambda: _readable(directory))


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would lead a command to another cluster."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DRIZZLE_")} | more


def _readable(directory: Path) -> ClusterDoors | None:
    try:
        return ClusterDoors(directory)
    except ValueError:  # it is being written
        return None


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if line:  # a zombie has none
                yield int(entry.name), line


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder)
    except OSError:
        return False

"""The cluster of compose.yaml on a real engine, as a person runs it: `docker compose`, published ports.

Rules: a project, an image tag and ports of its own, so that nobody else's containers are touched; no
wait without a bound; what a fault did is read from the engine or from the cluster, never assumed.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[2]
COORDINATORS = ("coordinator", "coordinator-standby")
PORTS = {
    "coordinator": "COORDINATOR_PORT",
    "coordinator-standby": "COORDINATOR_STANDBY_PORT",
    "source-1": "SOURCE_1_PORT",
    "source-2": "SOURCE_2_PORT",
    "prometheus": "PROMETHEUS_PORT",
    "grafana": "GRAFANA_PORT",
}
"""The variable of each service that is open to this machine."""
JOB = "ysb-0"
WINDOW_MS = 2_000
"""Short windows: a run begins with one, and judging has to wait for none that is long."""
BLOCK_MS = 50
"""Few posts: what a starved machine cannot do is many round trips."""
WAIT_S = 120.0
"""Only ever reached by a failing test, or on a machine that is very busy."""
POLL_S = 0.2
BUILD_S = 900.0
COMMAND_S = 240.0

T = TypeVar("T")


def until(
    what: str, look: Callable[[], T | None], timeout_s: float = WAIT_S, *, seen: Sequence[str] = ()
) -> T:
    """The first answer of `look` that is neither None nor false. `seen` is told if there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(POLL_S)
    raise AssertionError("\n".join([f"never came true within {timeout_s:g} s: {what}", *seen]))


def missing_engine() -> str:
    """Why no containers can be run here; empty if they can."""
    for command in (
        ["docker", "version", "--format", "{{.Server.Version}}"],
        ["docker", "compose", "version"],
    ):
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{command[0]}: {error}"
        if ended.returncode:
            return f"`{' '.join(command)}`: {ended.stderr.strip() or ended.stdout.strip()}"
    return ""


def fetched(address: str, token: str = "") -> Any:
    """The JSON at an address. Raises OSError (refusals too) or ValueError."""
    request = Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urlopen(request, timeout=5) as answer:
        return json.loads(answer.read())


@dataclass
class Stack:
    """One project. `folder` takes what loads print."""

    folder: Path
    name: str = field(default_factory=lambda: f"drizzle-test-{secrets.token_hex(4)}")
    ports: dict[str, int] = field(default_factory=lambda: _free_ports(PORTS))
    since: float = field(default_factory=time.time)
    """When it began, unix s."""
    _token: str = ""
    _loads: int = 0

    # --- docker ---------------------------------------------------------------------------

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("DRIZZLE_", "YSB_"))
        }
        return kept | {PORTS[service]: str(port) for service, port in self.ports.items()} | {
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_ANSI": "never",
            "DRIZZLE_TAG": "test",
            "YSB_WINDOW_MS": str(WINDOW_MS),
        }  # fmt: skip

    def docker(self, *arguments: str, timeout_s: float = COMMAND_S, check: bool = True) -> str:
        """Standard output of a docker command; fails with what it said."""
        ended = subprocess.run(
            ["docker", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and ended.returncode:
            said = f"{ended.stdout}\n{ended.stderr}"[-6000:]
            raise AssertionError(f"docker {' '.join(arguments)} ended with {ended.returncode}:\n{said}")
        return ended.stdout

    def compose(self, *arguments: str, timeout_s: float = COMMAND_S, check: bool = True) -> str:
        """`docker compose` for this project."""
        return self.docker("compose", *arguments, timeout_s=timeout_s, check=check)

    def up(self, *arguments: str) -> None:
        """The command of the README."""
        self.compose("up", "-d", "--build", "--wait", *arguments, timeout_s=BUILD_S)

    def down(self) -> None:
        """Everything of this project, volumes too."""
        self.compose("--profile", "load", "down", "-v", "--remove-orphans", "--timeout", "5")

    def containers(self, service: str) -> list[str]:
        """Ids of a service's running containers, in the order of their numbers."""
        lines = self.compose("ps", "--format", "json", service).splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        return [row["ID"] for row in sorted(rows, key=lambda row: int(row["Name"].rsplit("-", 1)[1]))]

    def all_containers(self) -> dict[str, dict[str, Any]]:
        """What `docker inspect` says about each container of the project, by name."""
        ids = self.docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={self.name}").split()
        return {row["Name"].strip("/"): row for row in json.loads(self.docker("inspect", *ids))}

    def inspect(self, container: str) -> dict[str, Any]:
        return json.loads(self.docker("inspect", container))[0]

    def kill_9(self, container: str) -> int:
        """SIGKILL from the host, which is a crash where `docker kill` would be a stop; the process's id."""
        pid = int(self.inspect(container)["State"]["Pid"])
        assert pid > 1, container
        os.kill(pid, signal.SIGKILL)
        return pid

    def logs(self, container: str) -> str:
        ended = subprocess.run(
            ["docker", "logs", container], env=self.environment, capture_output=True, text=True, check=True
        )
        return ended.stdout + ended.stderr

    # --- the cluster ----------------------------------------------------------------------

    def address(self, service: str) -> str:
        """Where a service answers on this machine."""
        return f"http://127.0.0.1:{self.ports[service]}"

    @property
    def token(self) -> str:
        """A user's token, made as the documents say."""
        if not self._token:
            command = ("exec", "-T", "coordinator", "drizzle", "token", "--kind", "user")
            self._token = self.compose(*command).strip()
        return self._token

    def ask(self, path: str) -> Any:
        """The JSON answer of whichever coordinator leads; None while none does."""
        for service in COORDINATORS:
            if (answer := self.ask_one(service, path)) is not None:
                return answer
        return None

    def ask_one(self, service: str, path: str) -> Any:
        """The JSON answer of one coordinator; None if it does not answer, or refuses."""
        try:
            return fetched(self.address(service) + path, self.token)
        except (OSError, ValueError):  # urllib's errors are OSErrors
            return None

    def workers(self) -> set[str]:
        """Ids of the workers that are members now."""
        return {worker["id"] for worker in (self.ask("/status") or {"workers": []})["workers"]}

    def story(self) -> list[dict[str, Any]]:
        """The leader's story."""
        return (self.ask("/debug/story") or {"story": []})["story"]

    def told(self, kind: str, about: str) -> bool:
        """Whether the leader's story has a line of this kind about somebody."""
        return any(line["kind"] == kind and about in line["text"] for line in self.story())

    def batches_done(self) -> int:
        """Batches of the benchmark's job, as far as a coordinator can be asked; else -1."""
        return (self.ask(f"/jobs/{JOB}") or {"batches_done": -1})["batches_done"]

    def goes_on(self) -> None:
        """Wait until batches are done that were not when we asked."""
        before = until("a coordinator knows the job", lambda: self.batches_done() + 1)
        until("the frontier moves", lambda: self.batches_done() > before)

    def load(self, rate: int, seconds: float) -> Load:
        """Start the load service with these settings; it judges itself."""
        self._loads += 1
        return Load(self, rate, seconds, self.folder / f"load-{self._loads}.txt")


class Load:
    """A run of the load service: its events, and in the end its verdict."""

    def __init__(self, stack: Stack, rate: int, seconds: float, out: Path) -> None:
        self.rate, self.seconds, self._out = rate, seconds, out
        self._name = f"{stack.name}-{out.stem}"
        command = ["docker", "compose", "--profile", "load", "run", "--rm", "-T", "--no-deps"]
        wanted = {"LOAD_RATE": rate, "LOAD_SECONDS": f"{seconds:g}", "LOAD_BLOCK_MS": BLOCK_MS}
        settings = [word for name, value in wanted.items() for word in ("-e", f"{name}={value}")]
        with out.open("wb") as written:
            self.process = subprocess.Popen(
                [*command, "--name", self._name, *settings, "load"],
                cwd=ROOT,
                env=stack.environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
            )
        self._stack = stack

    def said(self) -> str:
        return self._out.read_text(errors="replace")

    def acknowledged(self) -> int:
        """Events that sources have taken, by the newest line of progress."""
        lines = [line for line in self.said().splitlines() if line.startswith('{"seconds"')]
        return json.loads(lines[-1])["acknowledged"] if lines else 0

    def has_taken(self, seconds: float) -> None:
        """Wait until so many seconds of its events are taken: it is really under way."""
        until(f"{seconds:g} s of events are taken", lambda: self._taken(seconds * self.rate))

    def _taken(self, events: float) -> bool:
        assert self.process.poll() is None, f"the load ended early:\n{self.said()}"
        return self.acknowledged() >= events

    def verdict(self) -> dict[str, Any]:
        """What the oracle found. Fails unless everything was sent, taken, and counted exactly once."""
        try:
            code = self.process.wait(self.seconds + 2 * WAIT_S + 60)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the load did not end:\n{self.said()}") from None
        verdicts = [line for line in self.said().splitlines() if line.startswith('{"exact"')]
        assert verdicts, f"no verdict ({code}):\n{self.said()}"
        found: dict[str, Any] = json.loads(verdicts[-1])
        assert (code, found["exact"], found["counted"]) == (0, True, found["expected"]), self.said()
        assert found["expected"] > 0.25 * self.rate * self.seconds  # about a third of the events are views
        return found

    def end(self) -> None:
        """Only after a test that failed."""
        if self.process.poll() is None:
            self._stack.docker("rm", "-f", self._name, check=False)
            self.process.wait(30)


def _free_ports(services: Iterable[str]) -> dict[str, int]:
    """A free port of loopback for each: chosen once, since a container that starts again keeps its own."""
    with ExitStack() as opened:
        probes = {service: opened.enter_context(socket.socket()) for service in services}
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {service: probe.getsockname()[1] for service, probe in probes.items()}

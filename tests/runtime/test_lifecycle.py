"""Beginning and end of a service process: signals, exit codes, bounds. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator

import pytest

PREAMBLE = """
import asyncio, os, sys, time
from drizzle_streams.errors import ConfigError
from drizzle_streams.runtime.lifecycle import run_service

def say(word):
    sys.stdout.write(word + "\\n")
    sys.stdout.flush()
"""
WAIT_S = 30

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a service given as source text; nothing survives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str, **options: object) -> subprocess.Popen[str]:
        arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
        end = f"\nsys.exit(run_service(main{', ' if arguments else ''}{arguments}))"
        process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(source) + end],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=WAIT_S)


def heard(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


POLITE = """
async def main(stop):
    say("ready")
    await stop.wait()
    say("winding up")
    await asyncio.sleep(0.01)
    say("done")
"""


def test_a_service_that_is_done_exits_with_0(start: Start) -> None:
    process = start("async def main(stop):\n    say(type(asyncio.get_running_loop()).__module__)")
    assert ended(process) == (0, "uvloop\n", "")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_and_the_service_winds_up(start: Start, signum: signal.Signals) -> None:
    process = start(POLITE)
    heard(process, "ready")
    process.send_signal(signum)
    assert ended(process) == (0, "winding up\ndone\n", "")


def test_after_its_grace_a_service_is_cancelled(start: Start) -> None:
    source = """
    async def main(stop):
        say("ready")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            say("cancelled")
    """
    process = start(source, grace_s=0.1)
    heard(process, "ready")
    process.terminate()
    code, out, err = ended(process)
    assert (code, out) == (1, "cancelled\n")
    assert "did not stop when asked" in err


def test_a_second_signal_does_not_wait_for_the_grace(start: Start) -> None:
    source = """
    async def main(stop):
        say("ready")
        await stop.wait()
        say("winding up")
        await asyncio.get_running_loop().create_future()
    """
    process = start(source, grace_s=600.0)
    heard(process, "ready")
    process.terminate()
    heard(process, "winding up")
    process.terminate()
    assert ended(process)[0] == 1


def test_a_thread_that_never_returns_does_not_hold_the_process(start: Start) -> None:
    source = """
    from drizzle_streams.runtime import lifecycle
    lifecycle.CANCELLED_GRACE_S = 0.2

    async def main(stop):
        say("ready")
        await asyncio.to_thread(time.sleep, 3600)
    """
    process = start(source, grace_s=0.1)
    heard(process, "ready")
    process.terminate()
    code, _, err = ended(process)
    assert code == 1
    assert "ended by force" in err


def test_a_crash_shows_its_traceback_and_exits_with_1(start: Start) -> None:
    code, _, err = ended(start("async def main(stop):\n    raise ValueError('a bug')"))
    assert code == 1
    assert "Traceback" in err
    assert "ValueError: a bug" in err


REFUSED = "raise ConfigError('the port 80: wanted it free, found it taken. Choose another.')"
IN_A_GROUP = """
    async def fail():
        raise ConfigError('the port 80: wanted it free, found it taken. Choose another.')
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail())
"""


@pytest.mark.parametrize("body", ["    " + REFUSED, IN_A_GROUP], ids=["plain", "in a group"])
def test_what_cannot_start_is_one_line_and_exits_with_2(start: Start, body: str) -> None:
    code, out, err = ended(start("async def main(stop):\n" + body))
    assert (code, out) == (2, "")
    assert err == "drizzle: the port 80: wanted it free, found it taken. Choose another.\n"


def test_a_crash_beside_a_refusal_is_a_crash(start: Start) -> None:
    source = """
    async def fail(error):
        raise error

    async def main(stop):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail(ConfigError("refused")))
            tasks.create_task(fail(ValueError("a bug")))
    """
    code, _, err = ended(start(source))
    assert code == 1
    assert "ValueError: a bug" in err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_ends_with_its_parent(start: Start) -> None:
    child = PREAMBLE + textwrap.dedent(POLITE) + "\nsys.exit(run_service(main, parent_pid=int(sys.argv[1])))"
    start_child = "subprocess.run([sys.executable, '-c', sys.argv[1], str(os.getpid())])"
    parent_source = f"import os, subprocess, sys; {start_child}"
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_source, child],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    heard(parent, "ready")
    os.kill(parent.pid, signal.SIGKILL)
    # The pipe ends when its last writer does: the child has wound up and gone.
    out, err = parent.communicate(timeout=WAIT_S)
    assert (out, err) == ("winding up\ndone\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_whose_parent_has_gone_does_not_start(start: Start) -> None:
    code, out, err = ended(start(POLITE, parent_pid=1))
    assert (code, out) == (2, "")
    assert "It has ended" in err

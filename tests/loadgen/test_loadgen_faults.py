"""Faults hit the process that was named, at the moment that was named, and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drizzle_loadgen.clock import Clock
from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.faults import Fault, strike_all


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    yield process
    process.kill()
    process.wait()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(
    "text",
    ["", "5", "5:kill", "5:kill:x", "x:kill:5", "5:burn:55", "-1:kill:55", "nan:kill:55", "5:kill:55:6"],
)
def test_what_is_not_a_fault_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="SECONDS:kill"):
        Fault.parse(text)


def test_processes_that_no_run_should_hit_are_refused() -> None:
    for pid in (1, 0, -9, 99_999_999_999, os.getpid()):
        with pytest.raises(UsageError, match="SECONDS:kill"):
            Fault.parse(f"5:kill:{pid}")


def test_a_fault_is_parsed() -> None:
    assert Fault.parse("1.5:pause:4321") == Fault(1.5, "pause", 4321)


async def test_faults_strike_in_the_order_of_time(victim: subprocess.Popen[bytes]) -> None:
    clock = Clock()
    start_ms = clock.now_ms()
    happened: list[dict[str, Any]] = []
    plan = ((0.2, "kill"), (0.05, "pause"), (0.1, "resume"))
    faults = [Fault(at_s, action, victim.pid) for at_s, action in plan]
    await strike_all(faults, start_ms, clock, happened)
    assert await asyncio.to_thread(victim.wait, 10) == -signal.SIGKILL
    assert [fault["action"] for fault in happened] == ["pause", "resume", "kill"]
    assert {fault["result"] for fault in happened} == {"done"}
    for fault, at_s in zip(happened, (0.05, 0.1, 0.2), strict=True):
        assert fault["at_ms"] >= round(start_ms + at_s * 1000) - 1


def test_pause_and_resume_stop_and_continue(victim: subprocess.Popen[bytes]) -> None:
    assert Fault(0, "pause", victim.pid).strike() == "done"
    os.waitid(os.P_PID, victim.pid, os.WSTOPPED | os.WNOWAIT)
    assert state_of(victim.pid) == "T"
    assert Fault(0, "resume", victim.pid).strike() == "done"
    os.waitid(os.P_PID, victim.pid, os.WCONTINUED | os.WNOWAIT)
    assert state_of(victim.pid) != "T"


def test_a_process_that_is_gone_is_reported() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert Fault(0, "kill", process.pid).strike() == "failed: No such process"

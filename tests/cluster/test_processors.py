"""Workers of a local cluster get even shares of the processors, and their threads stay there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.local.process import ServiceProcess
from drizzle_streams.local.processors import confine, ours, shares

NEEDS_TWO = pytest.mark.skipif(len(ours()) < 2, reason="this machine lets us run on one processor only")


@given(available=st.sets(st.integers(0, 255), min_size=1), workers=st.integers(0, 64))
def test_shares_are_even_disjoint_and_leave_none_idle(available: set[int], workers: int) -> None:
    found = shares(sorted(available), workers)
    assert len(found) == workers
    if workers > len(available):
        assert all(share == available for share in found)
    elif workers:
        assert frozenset().union(*found) == available
        sizes = [len(share) for share in found]
        assert sum(sizes) == len(available)
        assert max(sizes) - min(sizes) <= 1


def test_where_the_system_does_not_say_nobody_is_confined() -> None:
    assert shares([], 2) == [frozenset(), frozenset()]
    before = ours()
    confine(os.getpid(), frozenset())
    assert ours() == before


@NEEDS_TWO
def test_all_threads_of_a_process_move_and_new_ones_follow() -> None:
    program = """
import os, sys, threading
waiting = threading.Event()
threads = [threading.Thread(target=waiting.wait, daemon=True) for _ in range(3)]
[thread.start() for thread in threads]
print("ready", flush=True)
sys.stdin.readline()
late = threading.Thread(target=waiting.wait, daemon=True)
late.start()
print(*(len(os.sched_getaffinity(int(one))) for one in os.listdir("/proc/self/task")), flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        confine(child.pid, frozenset(ours()[:1]))
        found, _ = child.communicate("\n", timeout=30)
    assert found.split() == ["1"] * 5


def test_a_process_that_has_ended_is_no_error() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(30)
    confine(child.pid, frozenset(ours()[:1]))


@NEEDS_TWO
async def test_every_life_of_a_service_runs_on_its_share(tmp_path: Path) -> None:
    service = ServiceProcess("one", "worker", "", ("--help",), {}, tmp_path / "log")
    service.move(frozenset(ours()[1:2]))
    for _ in range(2):
        await service.start()
        assert service.pid is not None
        assert os.sched_getaffinity(service.pid) == set(ours()[1:2])
        assert await service.wait() == 0

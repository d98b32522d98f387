"""Threads of a worker: what nobody waits for steps back behind what somebody does."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import pytest

from drizzle_streams.worker.threads import NICENESS_MAX, UPKEEP_NICENESS, Threads

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness of threads")


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads(1)
    yield threads
    threads.close()


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_upkeep_steps_back_and_nothing_else_does(threads: Threads) -> None:
    own = niceness()
    assert await threads.task(niceness) == await threads.background(niceness) == own
    assert await threads.upkeep(niceness) == min(own + UPKEEP_NICENESS, NICENESS_MAX)
    assert niceness() == own


async def test_restoring_waits_for_no_merge(threads: Threads) -> None:
    """Whoever restores a state is waited for; upkeep may hold all its threads for seconds."""
    merged = threading.Event()
    merges = [threads.upkeep(merged.wait, 30) for _ in range(8)]
    assert await threads.background(lambda: "restored") == "restored"
    assert not any(merge.done() for merge in merges)
    merged.set()
    assert all([await merge for merge in merges])

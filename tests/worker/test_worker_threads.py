"""Threads of a worker: what nobody waits for steps back behind what somebody does."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from drizzle_streams.worker.threads import NICENESS_MAX, UPKEEP_NICENESS, Threads
from tests.worker.worker_worlds import until

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


@pytest.mark.parametrize("beside", ["task", "upkeep", "background"])
async def test_a_worker_is_idle_while_nothing_is_computed_beside_its_task(
    threads: Threads, beside: str
) -> None:
    assert threads.idle
    ends = threading.Event()
    works: list[asyncio.Future[bool]] = [getattr(threads, beside)(ends.wait, 30) for _ in range(2)]
    assert not threads.idle
    works[0].cancel()
    assert not threads.idle, "nobody waits for it any more, but it goes on"
    ends.set()
    assert await works[1] is True
    await until(lambda: threads.idle, "the one that was given up ends, too")
    two = Threads(2)
    assert not two.idle, "another task may be computed at any time"
    two.close()


async def test_restoring_waits_for_no_merge(threads: Threads) -> None:
    """Whoever restores a state is waited for; upkeep may hold all its threads for seconds."""
    merged = threading.Event()
    merges = [threads.upkeep(merged.wait, 30) for _ in range(8)]
    assert await threads.background(lambda: "restored") == "restored"
    assert not any(merge.done() for merge in merges)
    merged.set()
    assert all([await merge for merge in merges])

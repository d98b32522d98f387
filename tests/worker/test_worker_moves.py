"""Workers come and leave while a job runs: owners change at a boundary, nothing is replayed, all is exact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.services import service_worlds
from tests.services.service_worlds import ask
from tests.worker.test_worker_cluster import Cluster

LONG_GROUP = 500
"""Batches of 20 ms: ten seconds, which no move may wait for."""
MOVE_S_MAX = 5.0
"""Half of the group; on an idle machine a move takes a tenth of a second."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as closing:
        found = Cluster(tmp_path, closing, group_size=LONG_GROUP)
        await found.start()
        yield found


async def job(cluster: Cluster) -> dict[str, Any]:
    answer = await ask("GET", f"{cluster.address}/jobs/counts")
    assert answer.status == 200
    return answer.json


async def owning(cluster: Cluster, count: int) -> None:
    async def owns() -> bool:
        return len((await job(cluster))["placement"]) == count

    async with asyncio.timeout(MOVE_S_MAX):
        await service_worlds.until(owns, f"{count} workers own partitions")


async def nothing_was_replayed(cluster: Cluster) -> None:
    assert [ended for ended in (await job(cluster))["recoveries"] if ended["replayed_batches"]] == []


async def test_a_worker_joins_in_the_middle_of_a_group(cluster: Cluster) -> None:
    await cluster.worker()
    await cluster.submit()
    await cluster.post(0)
    await cluster.is_exact()
    newcomer = await cluster.worker()
    await owning(cluster, 2)
    await cluster.post(1)
    await cluster.is_exact()
    assert (await job(cluster))["groups_cut"] >= 1
    await nothing_was_replayed(cluster)
    assert newcomer.life is not None
    assert newcomer.life.bench.counters.states_taken_over >= 1, "state came over HTTP"


async def test_a_worker_that_is_asked_to_stop_hands_over_first(cluster: Cluster) -> None:
    leaving = await cluster.worker()
    staying = await cluster.worker()
    await cluster.submit()
    await cluster.post(0)
    await cluster.is_exact()
    cluster.stops[leaving].set()
    async with asyncio.timeout(MOVE_S_MAX):
        await cluster.workers[leaving]
    assert leaving.life is not None
    assert "nothing of it" in str([line.text for line in leaving.life.bench.story.lines])
    await cluster.post(1)
    await cluster.is_exact()
    await nothing_was_replayed(cluster)
    assert staying.life is not None
    assert staying.life.bench.counters.states_taken_over >= 1
    status = (await ask("GET", f"{cluster.address}/status")).json
    assert status["workers_lost"] == 0


async def test_the_last_worker_leaves_at_once_and_the_next_one_goes_on(cluster: Cluster) -> None:
    leaving = await cluster.worker()
    await cluster.submit()
    await cluster.post(0)
    await cluster.is_exact()
    cluster.stops[leaving].set()
    async with asyncio.timeout(MOVE_S_MAX):
        await cluster.workers[leaving]
    assert leaving.life is not None
    await ask("POST", f"{cluster.address}/nodes/{leaving.life.worker}/exited")
    await cluster.worker()
    await cluster.post(1)
    await cluster.is_exact()

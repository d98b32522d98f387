"""A store that is away is waited for, within a bound; a refusal is not."""

from __future__ import annotations

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.errors import OutageError, StoreError
from drizzle_streams.model.ids import BatchId
from drizzle_streams.worker import patience
from drizzle_streams.worker.patience import patiently
from tests.worker.conftest import World
from tests.worker.worker_worlds import COHORT, JOB, REDUCE, partitions

A = partitions(0, 1)


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PAUSE_S", 0.001)


class Away:
    """Fails so many times with this error, then answers."""

    def __init__(self, times: int, error: StoreError) -> None:
        self.times, self.error = times, error
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error
        return "here"


async def test_an_outage_is_waited_for_and_told_once(world: World) -> None:
    hand = await world.hand("a")
    job, store = hand.performer.jobs[JOB], Away(5, OutageError("gone"))
    assert await patiently(job, "output", store) == "here"
    kinds = [line.kind for line in hand.bench.story.lines]
    assert (kinds.count("StoreAway"), kinds.count("StoreBack")) == (1, 1)
    assert hand.bench.counters.outages_waited == 5


async def test_a_refusal_is_final(world: World) -> None:
    hand = await world.hand("a")
    store = Away(1, StoreError("memory full"))
    with pytest.raises(StoreError, match="memory full"):
        await patiently(hand.performer.jobs[JOB], "output", store)
    assert store.asked == 1


async def test_beyond_the_bound_it_is_an_error(world: World) -> None:
    hand = await world.hand("a")
    hand.bench.outage_s_max = 0.0
    with pytest.raises(OutageError):
        await patiently(hand.performer.jobs[JOB], "output", Away(10**9, OutageError("gone")))


async def test_nobody_waits_for_a_run_that_was_forgotten(world: World) -> None:
    hand = await world.hand("a")
    job = hand.performer.jobs[JOB]
    hand.performer.perform(act.ForgetJob(JOB, "stopped"))
    with pytest.raises(OutageError):
        await patiently(job, "output", Away(10**9, OutageError("gone")))


async def test_a_restore_waits_for_its_store(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    a, _ = await world.pair()
    await a.open(A)
    ref = await a.snapshot(-1)
    get, away = world.snapshots.get, Away(3, OutageError("gone"))

    async def slow_get(parts):
        await away()
        return await get(parts)

    monkeypatch.setattr(world.snapshots, "get", slow_get)
    c = await world.hand("c")
    c.performer.perform(act.OpenCohort(JOB, REDUCE, COHORT, A, BatchId(-1), (ref,)))
    await c.events.next(ev.CohortOpened)
    assert away.asked == 4

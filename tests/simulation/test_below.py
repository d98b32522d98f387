"""Last stages that are slow: sources wait for them within a bound, and for nobody who cannot be known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.core.below import AHEAD_WINDOWS_MAX, Below
from drizzle_streams.core.window import IN_FLIGHT_MIN
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.model.ids import NO_BATCH
from drizzle_streams.model.task import TaskKey
from tests.simulation.checkers import demand_caught, demand_everything, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.faults import heal
from tests.simulation.test_planted_bugs import calm_run
from tests.simulation.values import spec
from tests.simulation.world import Weather, World

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting

LAST = 2
AHEAD_MAX = AHEAD_WINDOWS_MAX * IN_FLIGHT_MIN
GROUP = 80


def ahead(world: World) -> int:
    """How many batches the furthest source has sealed that some last stage has yet to compute."""
    jobs = [job for life in world.of_kind("worker") for job in life.machine.role.jobs.values()]
    computed = [c.computed for job in jobs for c in job.cohorts.values() if c.stage == LAST]
    readings = [
        r.sealed
        for life in world.of_kind("source")
        for job in life.machine.role.jobs.values()
        for r in job.readings.values()
    ]
    return max(readings, default=-1) - min(computed, default=-1)


def slow_at_the_end(seed: int) -> World:
    """Workers enough that last stages have some of their own, which need three intervals for a batch."""
    # Nobody is relieved: a partition that moves is replayed, and who replays does not count.
    world = World(seed, workers=6, job=replace(spec(group_size=GROUP), speculation=False))
    world.cost = cost
    furthest = 0

    def look() -> bool:
        nonlocal furthest
        furthest = max(furthest, ahead(world))
        return False

    world.run(6.0, until=look)
    if furthest > AHEAD_MAX:
        raise BrokenPromiseError(f"{furthest} batches were sealed beyond what the last stage had computed")
    if furthest < AHEAD_MAX:
        raise AssertionError(f"nobody was slow enough: {furthest} batches ahead")
    world.cost = None
    demand_progress(world)
    demand_everything(world)
    return world


def cost(key: TaskKey) -> float:
    return 0.15 if key.stage == LAST else 0.002


def everybody_dies_meanwhile(seed: int) -> World:
    """Slow last stages, and what sources know of them is lost in every way there is."""
    world = World(seed, workers=5, job=spec(group_size=GROUP))
    world.cost = cost
    if seed % 2:
        world.weather = Weather(loss=0.08, duplicate=0.05)
    world.run(3.0)
    source = world.of_kind("source")[seed % 2]
    world.crash(source)
    world.run(0.3)
    world.start_source(source.id)
    world.run(2.0)
    world.crash(world.of_kind("worker")[seed % 5])
    world.run(2.0)
    world.crash(world.coordinator)
    world.run(0.3)
    world.start_coordinator()
    world.run(1.0)
    heal(world)
    world.cost = None
    demand_progress(world)
    demand_everything(world)
    return world


@pytest.mark.parametrize("seed", range(2))
def test_sources_stay_within_the_bound(seed: int) -> None:
    slow_at_the_end(seed)


@pytest.mark.parametrize("seed", range(4))
def test_nobody_waits_for_ever(seed: int) -> None:
    everybody_dies_meanwhile(seed)


def test_without_credit_they_run_as_far_as_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: only readers count, as before there was such a bound."""
    monkeypatch.setattr(Below, "allows", lambda self, batch: True)
    demand_caught(slow_at_the_end, seeds=range(1))


def test_last_stages_that_say_nothing_are_a_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the word is forgotten."""
    monkeypatch.setattr(WorkerJob, "credit_below", lambda self, cohort, only, out: None)
    demand_caught(calm_run, seeds=range(1))


def test_waiting_for_who_has_not_spoken_is_a_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: after a crash of a source, what it was told before is waited for."""
    begin = Below.begin

    def strict(self: Below, spec, placement, sealed) -> None:
        begin(self, spec, placement, NO_BATCH)

    monkeypatch.setattr(Below, "begin", strict)
    demand_caught(everybody_dies_meanwhile, seeds=range(4))

"""`batch_interval="auto"` in the simulated world: batches cost a fixed time and one per record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.core.events import NodeExited
from drizzle_streams.core.interval import RHO
from drizzle_streams.model.tuning import INTERVAL_AUTO_MS_MAX
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.values import spec
from tests.simulation.world import World

TASKS = 3
"""Of a batch on the one worker: one per stage, one after another."""

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


def world_of(fixed_s: float, record_s: float, **settings) -> World:
    world = World(3, workers=1, sources=1, job=replace(spec(), interval_auto=True), **settings)
    load(world, fixed_s, record_s)
    return world


def load(world: World, fixed_s: float, record_s: float) -> None:
    def cost(key) -> float:
        bounds = [world.history.fixed.get((key.batch, p)) for p in range(2)]
        return (fixed_s + record_s * sum(b.records for b in bounds if b is not None)) / TASKS

    world.cost = cost


def interval_ms(world: World) -> float:
    return world.job_state.interval_ms


def smallest_ms(fixed_s: float, record_s: float) -> float:
    """200 records per second arrive at each of two partitions, on average half of what may come at most."""
    return 1000.0 * fixed_s / (RHO - record_s * 200.0)


def is_near(found: float, wanted: float) -> bool:
    return wanted / 1.35 < found < wanted * 1.35


def test_a_constant_load_converges_near_the_smallest_stable_interval() -> None:
    world = world_of(0.024, 0.001)
    world.run(25.0)
    assert is_near(interval_ms(world), smallest_ms(0.024, 0.001)), interval_ms(world)
    world.run(10.0)
    assert is_near(interval_ms(world), smallest_ms(0.024, 0.001)), "and stays there"
    demand_everything(world)


def test_a_step_of_the_load_converges_anew() -> None:
    world = world_of(0.024, 0.001)
    world.run(20.0)
    before = interval_ms(world)
    load(world, 0.08, 0.0015)
    world.run(30.0)
    assert is_near(interval_ms(world), smallest_ms(0.08, 0.0015)), interval_ms(world)
    load(world, 0.024, 0.001)
    world.run(30.0)
    assert is_near(interval_ms(world), before), "and back"
    demand_everything(world)


def test_an_overload_is_survived() -> None:
    world = world_of(0.024, 0.001)
    world.run(15.0)
    load(world, 0.05, 0.006)  # 2.4 s of work per second
    world.run(15.0)
    assert interval_ms(world) == INTERVAL_AUTO_MS_MAX
    load(world, 0.024, 0.001)
    world.run(40.0)
    assert is_near(interval_ms(world), smallest_ms(0.024, 0.001)), interval_ms(world)
    demand_everything(world)


def test_a_new_coordinator_goes_on_with_the_interval_there_was() -> None:
    world = world_of(0.06, 0.001)
    world.run(20.0)
    before = interval_ms(world)
    assert before > 80.0
    world.crash(world.coordinator)
    world.run(0.3)
    world.start_coordinator()
    assert interval_ms(world) == before
    worker = world.of_kind("worker")[0]
    world.start_worker()
    world.crash(worker)
    world.coordinator.post(NodeExited(worker.id))
    demand_progress(world)
    demand_everything(world)

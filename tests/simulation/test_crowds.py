"""Crowds under faults: the rules of more than 33 workers in worlds of a few, where all are told of one."""

from __future__ import annotations

import pytest

from drizzle_streams.core import below, crowds, outbox
from drizzle_streams.model.ids import COORDINATOR
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.faults import heal
from tests.simulation.values import spec
from tests.simulation.world import Weather, World

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


@pytest.fixture(autouse=True)
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are a crowd, acknowledgements wait for all of their second, and last stages speak once a window."""
    for module in (outbox, crowds):
        monkeypatch.setattr(module, "ACK_LINKS_FEW", 1)
    monkeypatch.setattr(outbox, "ACK_DELAY_PER_LINK_S", 1.0)
    monkeypatch.setattr(below, "MANY_ANNOUNCEMENTS", 0)


def crowded(seed: int, weather: Weather | None = None) -> World:
    world = World(seed, workers=3, sources=2, job=spec(group_size=20))
    if weather is not None:
        world.weather = weather
    world.run(4.0)
    return world


@pytest.mark.parametrize("seed", range(4))
def test_both_ends_are_told_of_the_same_crowd(seed: int) -> None:
    world = crowded(seed)
    demand_progress(world)
    demand_everything(world)
    said = world.coordinator.machine.outbox._links
    workers = world.of_kind("worker")
    assert len(workers) == 3
    for worker in workers:
        heard = worker.machine.outbox._links
        assert heard[COORDINATOR].crowd == said[worker.id].crowd == 3


@pytest.mark.parametrize("seed", range(8))
def test_crowds_are_exact_whatever_is_lost(seed: int) -> None:
    """What is lost is said again although answers are waited for longer; a worker and a coordinator die."""
    world = crowded(seed, Weather(loss=0.1, duplicate=0.1, straggle=0.05, straggle_s=0.5))
    world.crash(world.of_kind("worker")[seed % 3])
    world.start_worker()
    world.run(3.0)
    world.crash(world.coordinator)
    world.start_coordinator()
    world.run(5.0)
    heal(world)
    demand_progress(world)
    demand_everything(world)

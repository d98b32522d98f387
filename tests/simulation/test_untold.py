"""Workers that have fallen behind announce what they make up for as ranges, and nothing is held for long."""

from __future__ import annotations

import pytest

from drizzle_streams.core.untold import RUN_BATCHES_MAX, Untold
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.protocol.messages import BlocksReady
from tests.simulation.checkers import demand_caught, demand_everything, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.faults import heal
from tests.simulation.listening import Listener
from tests.simulation.values import spec
from tests.simulation.world import Weather, World

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting

TURN_S = 0.01
"""Drivers handle what came within so long before they look at their deadlines; tasks take a tenth of it."""


def stopped_for_moments(seed: int, weather: Weather | None = None) -> tuple[World, Listener]:
    """One worker after another is stopped for less than its lease, and makes up for what it missed."""
    world = World(seed, workers=4, job=spec(group_size=40))
    world.turn_s, world.cost = TURN_S, lambda key: TURN_S / 10
    listener = Listener(world, BlocksReady)
    world.run(3.0)
    if weather is not None:
        world.weather = weather
    for number in range(6):
        world.stop(world.of_kind("worker")[number % 4], 0.35)
        world.run(0.8)
    return world, listener


def in_calm_weather(seed: int) -> World:
    """Nothing is lost, so nobody may have to ask, and much is told as ranges."""
    world, listener = stopped_for_moments(seed)
    demand_progress(world)
    demand_everything(world)
    if world.asked:
        raise BrokenPromiseError(f"{world.asked} tasks had to ask who owes them what, in a calm world")
    longest = max(listener.lengths)
    if not 4 <= longest <= RUN_BATCHES_MAX:
        raise BrokenPromiseError(f"the longest announcement is of {longest} batches")
    return world


def in_bad_weather(seed: int) -> World:
    """Ranges are lost, come twice and late; a worker dies with what it held, and one joins."""
    world, listener = stopped_for_moments(
        seed, Weather(loss=0.1, duplicate=0.1, straggle=0.05, straggle_s=0.5)
    )
    victim = world.of_kind("worker")[seed % 4]
    world.stop(victim, 0.3)
    world.run(0.3 + TURN_S / 2)
    world.crash(victim)
    world.start_worker()
    world.run(3.0)
    heal(world)
    demand_progress(world)
    demand_everything(world)
    if max(listener.lengths) < 4:
        raise AssertionError("nobody had fallen behind")
    return world


@pytest.mark.parametrize("seed", range(4))
def test_what_was_missed_is_announced_as_ranges(seed: int) -> None:
    in_calm_weather(seed)


@pytest.mark.parametrize("seed", range(6))
def test_ranges_are_exact_whatever_is_lost(seed: int) -> None:
    in_bad_weather(seed)


def test_who_keeps_up_announces_at_once() -> None:
    world = World(1, workers=4)
    listener = Listener(world, BlocksReady)
    world.run(3.0)
    assert world.written > 20
    assert set(listener.lengths) == {1}


def test_what_is_held_and_never_told_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the deadline lets go of what is held without a word."""

    def forgetful(self: Untold) -> list[object]:
        self.drop()
        return []

    monkeypatch.setattr(Untold, "take", forgetful)
    demand_caught(in_calm_weather, seeds=range(4))


def test_hearing_of_the_first_batch_of_a_range_only_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: only the first batch of a range is taken in by who hears it."""
    local = WorkerJob._local_blocks

    def short(self: WorkerJob, ready: BlocksReady) -> None:
        from dataclasses import replace

        local(self, replace(ready, last=ready.first))

    monkeypatch.setattr(WorkerJob, "_local_blocks", short)
    demand_caught(in_calm_weather, seeds=range(4))

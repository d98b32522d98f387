"""The ledger and the sink are away for many leases: everything waits, nobody is lost, values are exact."""

from __future__ import annotations

import pytest

from drizzle_streams.core.coordinator import Coordinator
from tests.simulation.checkers import demand_everything, demand_flatness, demand_progress
from tests.simulation.world import LEASE_S, World

AWAY_S = 12 * LEASE_S

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


def outage(seed: int) -> World:
    """A coordinator that awaits its ledger hears nobody; workers and sources live, and cannot write."""
    world = World(seed)
    world.run(2.0)
    assert world.written > 10
    launched = world.job_state.group.last
    world.sink_seconds_max = AWAY_S
    world.pause(world.coordinator)
    world.run(AWAY_S)
    assert world.written <= launched, "nothing is decided meanwhile"
    world.sink_seconds_max = 0.01
    world.resume(world.coordinator)
    demand_progress(world, within_s=30.0)
    return world


def kinds(world: World) -> set[str]:
    return {line.kind for line in world.coordinator.machine.role.story.lines}


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_lost_for_what_the_coordinator_could_not_hear(seed: int) -> None:
    world = outage(seed)
    assert "WorkerLost" not in kinds(world)
    assert "SourceLost" not in kinds(world)
    assert world.coordinator.machine.role.lost_workers == 0
    assert not world.job_state.recoveries
    demand_everything(world)
    demand_flatness(world)


def test_who_died_meanwhile_is_lost_a_lease_later() -> None:
    world = World(5)
    world.run(2.0)
    world.pause(world.coordinator)
    world.run(AWAY_S / 2)
    victim = world.of_kind("worker")[0]
    world.crash(victim)
    world.run(AWAY_S / 2)
    world.resume(world.coordinator)
    back_at = world.now
    assert world.run(3 * LEASE_S, until=lambda: "WorkerLost" in kinds(world))
    assert world.now - back_at < 1.5 * LEASE_S
    demand_progress(world)
    demand_everything(world)


def test_planted_a_coordinator_that_was_held_up_judges_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in its queue is of some; the others' leases ended while nobody listened."""
    monkeypatch.setattr(Coordinator, "_excuse", lambda self, now: None)
    lost = 0
    for seed in range(4):
        world = World(seed)
        world.run(2.0)
        world.pause(world.coordinator)
        world.run(AWAY_S)
        world.coordinator.held_back.clear()  # the queue was full, and links broke
        world.resume(world.coordinator)
        world.run(LEASE_S)
        lost += world.coordinator.machine.role.lost_workers
    assert lost


def test_a_queue_that_was_full_changes_nothing() -> None:
    for seed in range(4):
        world = World(seed)
        world.run(2.0)
        world.pause(world.coordinator)
        world.run(AWAY_S)
        world.coordinator.held_back.clear()
        world.resume(world.coordinator)
        demand_progress(world)
        assert world.coordinator.machine.role.lost_workers == 0
        demand_everything(world)

"""Two coordinators at once: an old leader that does not know yet, and the one that took over.

The worst case is simulated: the old leader does not fall silent by its own clock, as the service
does (`coordinator/silence.py`); it is held off by the ledger's fence and by what members heard of
the new one, and by nothing else.
"""

from __future__ import annotations

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.model.ids import COORDINATOR
from drizzle_streams.protocol.messages import Refused
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.faults import Nemesis, heal
from tests.simulation.performers import SimCoordinator
from tests.simulation.values import spec
from tests.simulation.world import LEASE_S, Life, World

STORM_S = 5.0
SEEDS = 20


class Fenced(SimCoordinator):
    """Raises the generation only above its own, as `stores.base.Ledger` does it."""

    def perform(self, action: act.Start) -> None:
        if isinstance(action, act.RaiseGeneration) and self.world.ledger.fence != self.generation:
            self.world.crash(self.life)
        else:
            super().perform(action)


class Contested(World):
    """A world in which a coordinator may take over from one that still lives."""

    def start_coordinator(self) -> Life:
        life = super().start_coordinator()
        life.performer = Fenced(self, life, life.performer.generation)
        return life

    def take_over(self) -> Life:
        """Another coordinator leads from now on; returns the old one, which was told nothing."""
        old = self.coordinator
        self.start_coordinator()
        return old


def settled(kind: type[World] = Contested, **settings) -> World:
    world = kind(1, **settings)
    world.run(3.0)
    assert world.written > 20
    return world


def workers(world: World) -> set[str]:
    return {life.id for life in world.of_kind("worker")}


def test_a_leader_that_was_stopped_wakes_up_and_disturbs_nobody() -> None:
    world = settled()
    assert isinstance(world, Contested)
    before = workers(world)
    world.pause(world.coordinator)
    world.run(1.5 * LEASE_S)
    old = world.take_over()
    demand_progress(world)
    new, generation = world.coordinator, world.ledger.fence

    world.resume(old)
    demand_progress(world)
    assert not old.alive, "the ledger refused it"
    assert (world.coordinator, world.ledger.fence) == (new, generation), "and the new one leads on"
    assert new.alive
    assert workers(world) == before, "no worker believed it"
    demand_everything(world)


def test_a_leader_that_was_only_cut_off_is_refused_when_it_decides_anything() -> None:
    """It lives on and hears nobody any more, so for it all leases end."""
    world = settled()
    assert isinstance(world, Contested)
    before = workers(world)
    old = world.take_over()
    world.run(3 * LEASE_S)
    assert not old.alive, "what it made of the silence was refused"
    demand_progress(world)
    assert workers(world) == before
    demand_everything(world)


def test_what_an_old_leader_sent_before_comes_late_and_is_not_taken() -> None:
    """Words of the old life that arrive after the new one's: members know a newer life."""
    world = settled()
    assert isinstance(world, Contested)
    old = world.take_over()
    demand_progress(world)
    worker = world.of_kind("worker")[0]
    old.machine.outbox.send(worker.id, Refused(old.machine.role.generation, "declared lost"), once=True)
    for to, envelope, _ in old.machine.outbox.flush(world.now):
        world.network_send(old, to, envelope)
    world.run(0.5)
    assert worker.alive, "a worker that follows the new leader starts no new life for the old one"
    demand_progress(world)


def test_without_the_condition_an_old_leader_would_fence_its_successor_out() -> None:
    """The planted bug: any coordinator may raise the generation at any time."""
    world = settled(World)
    world.start_coordinator()
    new = world.coordinator
    world.run(3 * LEASE_S)
    assert not new.alive, "this is what the condition is for"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("first", range(0, SEEDS, 5), ids=lambda first: f"seed_{first}-")
def test_values_are_exact_through_storms_with_takeovers(first: int) -> None:
    for seed in range(first, first + 5):
        world = Contested(seed, workers=2 + seed % 3, sources=1 + seed % 2, job=spec(group_size=3 + seed % 9))
        nemesis = Nemesis(world, until=world.now + STORM_S)
        for takeover in range(3):
            at = world.now + 0.5 + takeover * 1.5 + world.uniform(0, 1.0)
            world.at(at, world.take_over)
        try:
            world.run(STORM_S)
            heal(world)
            demand_progress(world)
            demand_everything(world)
        except Exception as error:
            raise BrokenPromiseError(f"seed {seed}: {error}\n" + "\n".join(nemesis.told)) from error
        assert world.lives[COORDINATOR].alive

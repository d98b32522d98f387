"""Two hundred bad days, each from a seed: exact values through every fault, then progress.

A failing seed prints what struck when; run it alone with `run_seed(17)`.
"""

from __future__ import annotations

import pytest

from drizzle_streams.model.job import Scheduling
from tests.simulation.checkers import demand_everything, demand_flatness, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.faults import Nemesis, heal
from tests.simulation.values import spec
from tests.simulation.world import World

SEEDS = 200
SEEDS_PER_TEST = 10
STORM_S = 5.0

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


def run_seed(seed: int, scheduling: Scheduling = Scheduling.GROUP, *, joins: bool = False) -> World:
    """One storm and its aftermath; raises `BrokenPromiseError` with the story of the seed."""
    job = spec(scheduling, 3 + seed % 9, resizable=seed % 3 > 0 and not joins, joins=joins)
    world = World(seed, workers=2 + seed % 3, sources=1 + seed % 2, job=job)
    nemesis = Nemesis(world, until=world.now + STORM_S)
    try:
        world.run(STORM_S)
        heal(world)
        demand_progress(world)
        demand_everything(world)
        demand_flatness(world)
    except Exception as error:
        raise BrokenPromiseError(
            f"seed {seed} ({scheduling}): {error}\n" + "\n".join(nemesis.told)
        ) from error
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST), ids=lambda first: f"seed_{first}-")
def test_values_are_exact_through_every_fault(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        run_seed(seed)


@pytest.mark.parametrize("scheduling", [Scheduling.PRESCHEDULED, Scheduling.BARRIER])
def test_other_scheduling_modes_survive_too(scheduling: Scheduling) -> None:
    for seed in range(1_000, 1_010):
        run_seed(seed, scheduling)

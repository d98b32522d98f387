"""A checkpoint interval that Drizzle chooses, in a whole cluster: it moves, and values stay exact."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.core.rhythm import Because
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.values import spec
from tests.simulation.world import Weather, World

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_grows_from_what_was_stated_and_values_stay_exact(seed: int) -> None:
    job = replace(spec(), checkpoint_auto=True)
    world = World(seed, job=job)
    world.weather = Weather(loss=0.05, duplicate=0.05)
    world.run(0.5)
    began = world.job_state.snapshot_every
    world.run(6.0)
    rhythm = world.job_state.rhythm
    assert rhythm.because in (Because.MAXIMUM, Because.COST, Because.RECOVERY, Because.OPTIMUM)
    assert rhythm.every > began, "hardly anything fails here, and snapshots take up to 0.1 s"
    committed = world.job_state.checkpoints.committed.batch
    world.crash(world.of_kind("worker")[seed])
    demand_progress(world, rhythm.every + 30, within_s=30.0)
    demand_everything(world)
    assert world.job_state.checkpoints.committed.batch > committed

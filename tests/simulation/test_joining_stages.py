"""A stage between two shuffles that keeps nothing, as a shuffled join is: lost partitions run again.

It has no snapshots to go back to: whoever takes over its partitions runs all batches behind the
checkpoint anew, from blocks that the stage before it still has, or gives again.
"""

from __future__ import annotations

import pytest

from drizzle_streams.core import recovery
from drizzle_streams.model.ids import BatchId
from drizzle_streams.model.job import StageSpec
from tests.simulation.checkers import demand_caught, demand_everything, demand_progress
from tests.simulation.test_seeds import run_seed
from tests.simulation.values import spec
from tests.simulation.world import World

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


@pytest.mark.parametrize("first", range(0, 20, 5), ids=lambda first: f"seed_{first}-")
def test_values_are_exact_through_every_fault(first: int) -> None:
    for seed in range(first, first + 5):
        run_seed(seed, joins=True)


def lose_who_joins(seed: int) -> World:
    """An owner of the joining stage dies, then the one that took over from it."""
    world = World(seed, workers=4, job=spec(joins=True))
    world.run(2.0)
    for _ in range(2):
        owner = world.job_state.placement.owners[1][seed % 3]
        world.crash(world.lives[owner])
        world.run(0.4)
    demand_progress(world)
    demand_everything(world)
    return world


def test_losing_owners_of_a_joining_stage_loses_nothing() -> None:
    for seed in range(8):
        lose_who_joins(seed)


def test_taking_over_only_what_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage gave is gone with its owner, also of batches that the stage is done with."""
    needed_from = recovery._needed_from

    def only_open(facts: recovery.Facts, placement: object, stage: StageSpec, partition: int) -> BatchId:
        if not stage.stateful and stage.inputs:
            return BatchId(facts.done[stage.stage][partition] + 1)
        return needed_from(facts, placement, stage, partition)  # type: ignore[arg-type]

    monkeypatch.setattr(recovery, "_needed_from", only_open)
    demand_caught(lose_who_joins, seeds=range(8))

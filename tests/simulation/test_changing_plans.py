"""Plans that change between groups in a simulated cluster: agreed on, kept over failures, still exact."""

from __future__ import annotations

from drizzle_streams.model.replanning import StageChoice
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.world import World


def test_plans_change_while_everything_stays_exact() -> None:
    world = World(3)
    world.run(8.0)
    assert world.job_state.replanning.replans >= 2, "there and back again"
    ways = {choice.partial for choice in world.choices.values() if isinstance(choice, StageChoice)}
    assert ways == {True, False}
    demand_progress(world)
    demand_everything(world)


def test_replay_and_a_new_coordinator_go_on_with_the_plan() -> None:
    """The simulated workers refuse to run a batch under another choice than it ran under before."""
    world = World(5)
    world.run(4.0)
    world.crash(world.of_kind("worker")[0])
    world.run(2.0)
    world.crash(world.coordinator)
    world.run(0.3)
    world.start_coordinator()
    demand_progress(world)
    assert world.job_state.replanning.chosen, "read back from the ledger"
    demand_everything(world)

"""A snapshot that is not what was stored: the checkpoint before it is used, and values stay exact.

Damage is silent: it is found when a partition is restored. So each run here damages parts of the
newest checkpoint and then has a worker die, in calm and in foul weather.
"""

from __future__ import annotations

import pytest

from drizzle_streams.core.checkpoints import Checkpoints
from drizzle_streams.core.lineage import Lineage
from drizzle_streams.protocol.records import JobPhase
from tests.simulation.checkers import demand_everything, demand_flatness, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.faults import heal
from tests.simulation.performers import SimWorker
from tests.simulation.test_planted_bugs import demand_caught
from tests.simulation.world import Weather, World

SEEDS = range(12)

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


def damage(world: World, *, oldest_part: bool) -> int:
    """One part of each snapshot of the newest checkpoint: its base, or what came last. How many."""
    refs = world.job_state.checkpoints.committed.snapshots
    keys = {ref.parts[0 if oldest_part else -1].key for ref in refs}
    world.snapshots.damaged |= keys
    return len(keys)


def lose_a_worker(world: World, number: int) -> None:
    """One that has state, so that somebody restores."""
    owners = sorted({o for row in world.job_state.placement.owners[1:] for o in row})
    world.crash(world.lives[owners[number % len(owners)]])
    world.start_worker()


def damaged_run(seed: int) -> World:
    """Twice: the newest checkpoint is damaged and a worker dies, with more trouble in between."""
    world = World(seed, workers=2 + seed % 3, sources=1 + seed % 2)
    if seed % 3 == 0:
        world.weather = Weather(loss=0.1, duplicate=0.05, straggle=0.03)
    for turn in range(2):
        world.run(2.5)
        assert world.run(5.0, until=lambda: bool(world.job_state.checkpoints.committed.snapshots))
        assert damage(world, oldest_part=(seed + turn) % 2 == 0) > 0
        lose_a_worker(world, seed + turn)
        if seed % 4 == 1:  # during the recovery, too
            world.run(1.6)
            world.crash(world.coordinator)
            world.run(0.2)
            world.start_coordinator()
        if seed % 4 == 3:
            world.run(world.uniform(1.0, 1.6))
            lose_a_worker(world, seed)
        world.run(4.0)
        heal(world)
        demand_progress(world)
    demand_everything(world)
    demand_flatness(world)
    if world.job_state.checkpoints.damaged == 0 and seed % 4 != 1:
        raise BrokenPromiseError("nobody noticed the damage")
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_the_checkpoint_before_it_is_used(seed: int) -> None:
    damaged_run(seed)


def test_the_story_says_so() -> None:
    world = damaged_run(0)
    told = [line for line in world.coordinator.machine.role.story.lines if line.kind == "SnapshotDamaged"]
    assert told
    assert "replay from batch" in told[0].text


def test_where_both_are_damaged_the_job_says_so_and_ends() -> None:
    world = World(4)
    world.run(2.5)
    checkpoints = world.job_state.checkpoints
    for checkpoint in (checkpoints.committed, checkpoints.previous):
        world.snapshots.damaged |= {part.key for ref in checkpoint.snapshots for part in ref.parts}
    lose_a_worker(world, 0)
    assert world.run(8.0, until=lambda: world.job_state.phase is JobPhase.FAILED)
    assert "and so is the one before" in world.job_state.detail


# --- planted bugs -------------------------------------------------------------------------


def test_trimmed_behind_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources and workers drop what only the newest checkpoint makes unnecessary."""
    monkeypatch.setattr(Checkpoints, "floor", property(lambda self: self.committed.batch))
    demand_caught(damaged_run)


def test_the_fallback_shares_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers build each snapshot on the last one: damage of the base spoils both checkpoints."""
    take = SimWorker._TakeSnapshot

    def on_the_last(self: SimWorker, action) -> None:
        cohort = self.cohorts[action.cohort]
        cohort.chains = (*cohort.chains[-1:], *cohort.chains[-1:])
        take(self, action)

    monkeypatch.setattr(SimWorker, "_TakeSnapshot", on_the_last)
    demand_caught(damaged_run)


def test_nobody_is_short_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owners that came at the damaged checkpoint are believed to have the blocks before it."""
    monkeypatch.setattr(Lineage, "short_of", lambda *_: set())
    demand_caught(damaged_run)

"""Sources that join while a job runs: read from a batch on, exactly once, whatever fails meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from drizzle_streams.core.coordinator_standing import JobStanding
from drizzle_streams.core.recovery import Facts
from drizzle_streams.model.ids import BatchId
from drizzle_streams.model.job import Scheduling
from drizzle_streams.model.placement import StreamLayout
from tests.simulation import checkers
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.disks import SimSourceDisk
from tests.simulation.values import spec
from tests.simulation.world import World

SEEDS = range(3)

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


def running(seed: int = 1, **settings) -> World:
    world = World(seed, **settings)
    world.run(2.0)
    assert world.written > 10
    return world


def joins(world: World) -> bool:
    """Whether the coordinator has decided from which batch on every source is read."""
    return len(world.job_state.sources()) == len(world.disks)


def since(world: World) -> BatchId:
    return max(world.job_state.layouts[0].since)


def test_a_source_that_joins_is_read_from_a_batch_on_and_nothing_is_replayed() -> None:
    world = running()
    newcomer = world.add_source()
    waiting = [log.append((1, 7)) for log in world.disks[newcomer.id].logs]
    assert world.run(3.0, until=lambda: joins(world)), "the next boundary is near"
    assert since(world) > world.written
    assert len(waiting) == len(world.job_state.layouts[0].owners) - 4
    assert [r.replayed_batches for r in world.job_state.recoveries if newcomer.id in r.reason] in ([], [0])
    demand_progress(world)
    first = {bound.batch for bound in world.history.fixed.values() if bound.partition >= 4}
    assert min(first) == since(world), "no earlier batch has bounds of it"
    demand_everything(world)


@pytest.mark.parametrize("scheduling", [Scheduling.PRESCHEDULED, Scheduling.BARRIER])
def test_other_scheduling_modes_take_sources_in_too(scheduling: Scheduling) -> None:
    world = running(job=spec(scheduling))
    world.add_source()
    assert world.run(3.0, until=lambda: joins(world))
    demand_progress(world)
    demand_everything(world)


def test_two_sources_join_one_after_the_other() -> None:
    world = running(sources=1)
    for _ in range(2):
        world.add_source()
        assert world.run(5.0, until=lambda: joins(world))
        demand_progress(world)
    demand_everything(world)


def test_a_source_joins_while_a_worker_is_recovered() -> None:
    world = running()
    world.slow = {life.id: 40.0 for life in world.of_kind("worker")}
    world.crash(world.of_kind("worker")[0])
    assert world.run(5.0, until=lambda: world.job_state.recovery is not None)
    world.add_source()
    world.run(1.0)
    world.slow = {}
    assert world.run(10.0, until=lambda: joins(world))
    demand_progress(world)
    demand_everything(world)


def test_a_coordinator_restarts_before_there_is_any_source() -> None:
    world = World(1, sources=0)
    world.run(1.0)
    world.crash(world.coordinator)
    world.start_coordinator()
    world.run(1.0)
    world.add_source()
    demand_progress(world)
    world.add_source()
    assert world.run(5.0, until=lambda: joins(world))
    demand_progress(world)
    demand_everything(world)


def lose_the_coordinator_at_the_join(seed: int, after_s: float = 0.0) -> World:
    """It has decided and perhaps said so to some; the next one knows what it decided, and no more."""
    world = running(seed)
    world.add_source()
    assert world.run(3.0, until=lambda: joins(world))
    world.run(after_s)
    world.crash(world.coordinator)
    world.run(0.3)
    world.start_coordinator()
    demand_progress(world)
    demand_everything(world)
    return world


@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.1])
def test_the_coordinator_is_lost_right_after_the_join(after_s: float) -> None:
    for seed in SEEDS:
        lose_the_coordinator_at_the_join(seed, after_s)


def kill_the_newcomer(seed: int, after_s: float = 0.0) -> World:
    world = running(seed)
    newcomer = world.add_source()
    assert world.run(3.0, until=lambda: joins(world))
    world.run(after_s)
    world.crash(newcomer)
    world.run(0.7)
    world.start_source(newcomer.id)
    demand_progress(world)
    demand_everything(world)
    return world


@pytest.mark.parametrize("after_s", [0.0, 0.02, 1.0])
def test_the_newcomer_is_killed_right_after_it_joined(after_s: float) -> None:
    for seed in SEEDS:
        kill_the_newcomer(seed, after_s)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_is_lost_right_after_the_join(seed: int) -> None:
    world = running(seed)
    world.add_source()
    assert world.run(3.0, until=lambda: joins(world))
    world.crash(world.of_kind("worker")[seed % 3])
    demand_progress(world)
    demand_everything(world)


def fall_back_behind_the_join(seed: int, then: Callable[[], object] = lambda: None) -> World | None:
    """Snapshots of the first checkpoint with the newcomer are damaged: what is replayed began without it.

    None where a checkpoint lies just at the join, so that nothing would be replayed from before.
    """
    world = running(seed)
    world.run(0.1 * seed)
    world.add_source()
    assert world.run(3.0, until=lambda: joins(world))

    def stands_behind() -> bool:
        kept = world.job_state.checkpoints
        return kept.previous.batch < since(world) - 1 and kept.committed.batch >= since(world)

    if not world.run(5.0, until=stands_behind):
        return None
    newest = world.job_state.checkpoints.committed
    before = {part.key for ref in world.job_state.checkpoints.previous.snapshots for part in ref.parts}
    world.snapshots.damaged |= {part.key for ref in newest.snapshots for part in ref.parts} - before
    then()
    world.crash(world.of_kind("worker")[0])
    demand_progress(world)
    assert world.job_state.checkpoints.damaged
    demand_everything(world)
    return world


BEHIND = range(8)
"""Seeds of which some have no checkpoint just at the join."""


def test_a_replay_that_begins_before_the_join_is_without_it_until_then() -> None:
    assert any(fall_back_behind_the_join(seed) is not None for seed in BEHIND)


demand_caught = partial(checkers.demand_caught, seeds=BEHIND)


def test_planted_a_newcomer_is_part_of_batches_that_were_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the checkpoint on, though others have computed further by then."""
    early = property(lambda self: self.checkpoints.floor)
    monkeypatch.setattr(JobStanding, "granted", early)
    demand_caught(kill_the_newcomer)


def test_planted_a_new_coordinator_forgets_when_a_source_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then bounds of the newcomer are awaited for batches that never had any."""

    def forget() -> None:
        monkeypatch.setattr(Facts, "first_of", lambda self, stage, partition: BatchId(0))

    demand_caught(lambda seed: fall_back_behind_the_join(seed, forget))


def test_planted_the_newcomer_seals_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StreamLayout, "first_batch", lambda self, partition: BatchId(0))
    demand_caught(kill_the_newcomer)


def test_planted_records_from_before_the_join_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer that lost what it had fixed reads its log from the start again."""
    start = World.start_source

    def forgetful(self: World, name: str):
        disk: SimSourceDisk = self.disks[name]
        disk.bounds.clear()
        return start(self, name)

    monkeypatch.setattr(World, "start_source", forgetful)
    demand_caught(lambda seed: kill_the_newcomer(seed, after_s=1.0))

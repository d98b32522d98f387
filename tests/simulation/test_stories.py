"""Stories: one situation each, told in full; what was found in a real cluster is first told here."""

from __future__ import annotations

import pytest

from drizzle_streams.core.events import NodeExited, StopRequested
from drizzle_streams.model.job import Scheduling
from drizzle_streams.protocol.records import JobPhase
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.values import JOB, spec
from tests.simulation.world import LEASE_S, World


def kinds(world: World) -> list[str]:
    return [line.kind for line in world.coordinator.machine.role.story.lines]


def settled(seed: int = 1, **settings) -> World:
    """A world whose job runs and whose members are all in."""
    world = World(seed, **settings)
    world.run(3.0)
    assert world.written > 20
    return world


def test_a_new_coordinator_keeps_the_workers_and_their_state() -> None:
    """The first thing a new coordinator hears is a heartbeat: no reason to end a worker's life."""
    world = settled()
    before = {life.id for life in world.of_kind("worker")}
    replayed = [life.performer.cohorts for life in world.of_kind("worker")]
    world.crash(world.coordinator)
    world.run(0.3)
    world.start_coordinator()
    demand_progress(world)
    assert {life.id for life in world.of_kind("worker")} == before
    assert [life.performer.cohorts for life in world.of_kind("worker")] == replayed
    assert "RecoveryPlanned" not in kinds(world), "nothing moved, so nothing is rebuilt"
    demand_everything(world)


def test_workers_finish_the_group_they_hold_while_the_coordinator_is_away() -> None:
    world = settled(job=spec(group_size=40))
    launched = world.job_state.group.last
    world.crash(world.coordinator)
    assert launched - world.written > 5
    world.run(3.0)
    assert world.written == launched, "everything launched is written without a coordinator"


def test_an_exit_that_is_seen_is_judged_at_once() -> None:
    world = settled()
    victim = world.of_kind("worker")[0]
    world.crash(victim)
    lost_at = world.now
    world.coordinator.post(NodeExited(victim.id))
    target = world.written + 10
    assert world.run(5.0, until=lambda: world.written >= target)
    assert world.now - lost_at < LEASE_S + 0.2, "no lease was waited for"
    demand_everything(world)


def test_a_paused_worker_is_refused_and_joins_as_new() -> None:
    world = settled()
    victim = world.of_kind("worker")[0]
    world.pause(victim)
    world.run(LEASE_S * 3)
    generation = world.job_state.generation
    world.resume(victim)
    world.run(1.0)
    assert not victim.alive, "its old life is over"
    assert len(world.of_kind("worker")) == 3, "and a new one has joined"
    assert world.job_state.generation >= generation
    demand_progress(world)
    demand_everything(world)


def test_surviving_partitions_never_stop() -> None:
    """While lost partitions are rebuilt, what does not depend on them goes on; no gap beyond detection."""
    world = settled(workers=3)
    victim = world.of_kind("worker")[-1]
    world.crash(victim)
    world.coordinator.post(NodeExited(victim.id))
    before = world.now
    target = world.written + 3
    assert world.run(2.0, until=lambda: world.written >= target)
    assert world.now - before < 0.8, "three batch intervals and a recovery, not a lease"


def test_all_workers_lost_at_once_and_others_come() -> None:
    world = settled()
    for life in world.of_kind("worker"):
        world.crash(life)
    world.run(3 * LEASE_S)
    stuck = world.written
    world.run(1.0)
    assert world.written == stuck
    world.start_worker()
    demand_progress(world)
    demand_everything(world)


def test_a_worker_that_joins_gets_its_share_without_a_restart() -> None:
    world = settled(workers=1)
    newcomer = world.start_worker()
    world.run(3.0)
    assert newcomer.id in world.job_state.placement.workers()
    demand_everything(world)


@pytest.mark.parametrize("scheduling", list(Scheduling))
def test_a_stopped_job_finishes_what_is_launched_and_leaves_nothing(scheduling: Scheduling) -> None:
    world = settled(job=spec(scheduling))
    world.coordinator.post(StopRequested(JOB))
    world.run(5.0)
    job = world.job_state
    assert job.phase is JobPhase.STOPPED
    assert world.written == job.group.last
    assert world.snapshots.parts == {}
    assert set(world.ledger.records) == {f"job:{JOB}:spec"}
    assert all(not life.machine.role.jobs for life in world.of_kind("worker"))
    assert all(not disk.bounds for disk in world.disks.values())


def test_a_source_that_is_away_when_a_job_is_placed_is_read_all_the_same() -> None:
    world = World(2)
    world.run(0.05)  # members are in, the job is not
    away = world.of_kind("source")[0]
    world.pause(away)
    world.run(0.05 + LEASE_S * 2)
    world.resume(away)
    demand_progress(world)
    assert set(world.job_state.layouts[0].owners) == {"source-1", "source-2"}
    demand_everything(world)


def test_the_same_seed_is_the_same_story() -> None:
    def told(seed: int) -> list[tuple[float, str, str]]:
        world = World(seed)
        world.run(2.0)
        world.crash(world.of_kind("worker")[0])
        world.run(3.0)
        return [(line.at, line.kind, line.text) for line in world.coordinator.machine.role.story.lines]

    assert told(5) == told(5)

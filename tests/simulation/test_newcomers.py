"""A worker that joins is given its share when it has loaded the program, and not for the want of it."""

from __future__ import annotations

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.newcomers import PREPARE_S_MAX, Newcomers
from drizzle_streams.model.ids import BatchId
from drizzle_streams.model.task import TaskError
from drizzle_streams.protocol.records import JobPhase
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.performers import SimWorker
from tests.simulation.test_boundaries import LONG_GROUP, demand_nothing_replayed, until_owner
from tests.simulation.test_stories import kinds, settled
from tests.simulation.values import spec
from tests.simulation.world import World

LOAD_S = 0.4


def load_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on programs take so long to load."""

    def slow(self: SimWorker, action: act.LoadProgram) -> None:
        self.spec = action.spec
        self._later(seconds, lambda: ev.ProgramLoaded(action.spec.job))

    monkeypatch.setattr(SimWorker, "_LoadProgram", slow)


def joined(monkeypatch: pytest.MonkeyPatch, load_s: float) -> tuple[World, float]:
    """A newcomer whose program loads slowly; seconds from its start until it owns something."""
    world = settled(workers=2, job=spec(group_size=LONG_GROUP))
    load_for(monkeypatch, load_s)
    return world, until_owner(world, world.start_worker(), 5.0)


def longest_gap(world: World, within_s: float) -> float:
    """The longest time without a batch written."""
    longest, written, at, end = 0.0, world.written, world.now, world.now + within_s
    while world.now < end:
        world.run(0.005)
        if world.written > written:
            written, at = world.written, world.now
        longest = max(longest, world.now - at)
    return longest


def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    world, after_s = joined(monkeypatch, LOAD_S)
    if after_s < LOAD_S:
        raise BrokenPromiseError(f"it owns partitions after {after_s} s, and no program")
    if (gap_s := longest_gap(world, 1.0)) > LOAD_S:
        raise BrokenPromiseError(f"nothing was written for {gap_s} s")
    demand_progress(world)
    demand_nothing_replayed(world)
    demand_everything(world)


def test_nobody_waits_for_a_newcomers_program(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed(monkeypatch)


def test_planted_the_boundary_does_not_wait_for_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Newcomers, "ready", True)
    with pytest.raises(BrokenPromiseError):
        undisturbed(monkeypatch)


def split_for_newcomers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newcomers are so many that partitions are split for them: that waits for their programs, too."""
    world = settled(workers=1, job=spec(group_size=LONG_GROUP, resizable=True))
    load_for(monkeypatch, LOAD_S)
    for _ in range(3):
        world.start_worker()
    world.run(0.9 * LOAD_S)
    if "PartitionsResized" in kinds(world):
        raise BrokenPromiseError("partitions were split for workers that have no program yet")
    world.run(2.0, until=lambda: "PartitionsResized" in kinds(world))
    assert len(world.job_state.placement.workers()) == 4, "at the boundary at which they got their share"
    demand_progress(world)
    demand_nothing_replayed(world)
    demand_everything(world)


def test_partitions_are_split_for_newcomers_that_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    split_for_newcomers(monkeypatch)


def test_planted_a_split_does_not_wait_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Newcomers, "ready", True)
    with pytest.raises(BrokenPromiseError):
        split_for_newcomers(monkeypatch)


def test_a_newcomer_that_does_not_get_ready_gets_its_share_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, after_s = joined(monkeypatch, PREPARE_S_MAX + 1.0)
    assert PREPARE_S_MAX <= after_s < PREPARE_S_MAX + 0.9
    demand_progress(world)
    demand_everything(world)


def test_a_recovery_does_not_wait_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    world = settled(workers=2, job=spec(group_size=LONG_GROUP))
    load_for(monkeypatch, LOAD_S)
    world.start_worker()
    world.run(0.1)
    lost = world.of_kind("worker")[0]
    world.crash(lost)
    demand_progress(world)
    demand_everything(world)


def test_a_job_that_ends_is_forgotten_by_a_newcomer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    world = settled(workers=2, job=spec(group_size=LONG_GROUP))
    load_for(monkeypatch, LOAD_S)
    newcomer = world.start_worker()
    world.run(0.2)
    role = newcomer.machine.role
    assert role.jobs, "it was told of the job"
    job = world.job_state
    world.coordinator.post(ev.StopRequested(job.spec.job))
    assert world.run(5.0, until=lambda: job.phase is JobPhase.STOPPED and not role.jobs)


def test_a_program_that_does_not_load_at_a_newcomer_fails_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would with a share: whoever submitted it hears why."""
    world = settled(workers=2, job=spec(group_size=LONG_GROUP))

    def broken(self: SimWorker, action: act.LoadProgram) -> None:
        error = TaskError("ImportError", "no such module", "", action.spec.stages[0].stage, BatchId(0), ())
        self._later(0.05, lambda: ev.ProgramFailed(action.spec.job, error))

    monkeypatch.setattr(SimWorker, "_LoadProgram", broken)
    job = world.job_state
    world.start_worker()
    assert world.run(5.0, until=lambda: job.phase is JobPhase.FAILED)
    assert "no such module" in job.detail

"""Workers whose memory for blocks is full: no standstill, no failure, no more than two intervals held."""

from __future__ import annotations

import pytest

from drizzle_streams.core import pressure, worker_job
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.model.ids import BatchId
from drizzle_streams.protocol.records import JobPhase
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.faults import heal
from tests.simulation.test_planted_bugs import demand_caught
from tests.simulation.values import spec
from tests.simulation.world import Weather, World

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting

FULL = 5
"""Blocks: two or three batches of two stages. Always full, since checkpoints are further apart."""


def pressed_run(seed: int) -> World:
    """Always full, snapshots that fail now and then, and everybody dies once."""
    world = World(seed, job=spec(group_size=12))
    world.blocks_max = FULL
    if seed % 2:
        world.weather = Weather(loss=0.08, duplicate=0.05)
    world.run(2.0)
    world.crash(world.of_kind("worker")[seed % 3])
    world.run(2.0)
    world.start_worker()
    world.crash(world.coordinator)
    world.run(0.3)
    world.start_coordinator()
    world.run(1.0)
    heal(world)
    demand_progress(world)
    if world.job_state.phase is not JobPhase.RUNNING:
        raise BrokenPromiseError(f"the job ended: {world.job_state.detail}")
    demand_everything(world)
    return world


@pytest.mark.parametrize("seed", range(6))
def test_full_workers_go_on(seed: int) -> None:
    pressed_run(seed)


def refused_once(seed: int) -> World:
    """One snapshot of one worker fails. The others have stored theirs, and cannot know."""
    world = World(seed, job=spec(group_size=12))
    world.blocks_max = FULL
    world.run(2.0)
    put, failing = world.snapshots.put, list[tuple[str, str]]()

    def refuse(run: str, generation: int, key: str, value: object) -> bool:
        _, _, batch, _, worker, _ = key.split("/")
        if not failing:
            failing.append((batch, worker))
        return (batch, worker) not in failing and put(run, generation, key, value)

    world.snapshots.put = refuse
    demand_progress(world)
    assert failing
    demand_everything(world)
    return world


def test_a_checkpoint_that_never_becomes_whole_is_not_waited_for_for_ever() -> None:
    for seed in range(2):
        refused_once(seed)


def test_hoping_for_ever_is_a_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: only who failed to store its part goes on, and soon lacks what the others do not compute."""
    monkeypatch.setattr(WorkerJob, "doubt", lambda self, cohort, now: None)
    demand_caught(refused_once)


def test_full_workers_hold_two_intervals_at_most() -> None:
    """In calm weather, and though one worker is so slow that the other could run far ahead."""
    world = World(3, workers=2, job=spec(group_size=60))
    world.blocks_max = FULL
    world.run(1.0)
    slow = world.of_kind("worker")[0]
    world.slow[slow.id] = 15.0
    world.run(4.0)
    every, stages = world.job_state.snapshot_every, 2
    for life in world.of_kind("worker"):
        assert FULL <= life.performer.blocks_seen_max <= (2 * every + every) * stages
    world.slow.clear()
    demand_progress(world)
    demand_everything(world)


def test_stopping_behind_the_floor_is_a_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: it waits at the first checkpoint after the floor, which may be the newest already."""

    def behind_the_floor(newest: BatchId, every: int, doubtful: BatchId) -> BatchId:
        return pressure.allowed_through(BatchId(newest - every), every, BatchId(-1))

    monkeypatch.setattr(worker_job, "allowed_through", behind_the_floor)
    demand_caught(pressed_run)


def test_hoping_for_a_checkpoint_that_nobody_heard_of_is_a_standstill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Planted: snapshots that were told a coordinator that died are waited for."""

    def trusting(newest: BatchId, every: int, doubtful: BatchId) -> BatchId:
        return pressure.allowed_through(newest, every, BatchId(-1))

    monkeypatch.setattr(worker_job, "allowed_through", trusting)
    demand_caught(pressed_run)


def test_stopping_at_once_is_a_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a full worker begins nothing."""
    monkeypatch.setattr(worker_job, "allowed_through", lambda newest, every, doubtful: newest)
    demand_caught(pressed_run)

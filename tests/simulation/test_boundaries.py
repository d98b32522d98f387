"""Planned moves, told in full: a group is cut, everybody stands, owners change, nothing is replayed.

Each story has its counterpart at the end: a bug planted in the mechanism, which the same story or
the storms of `test_seeds` must notice.
"""

from __future__ import annotations

from functools import partial

import pytest

from drizzle_streams.core.boundary import STAND_S_MAX
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.events import LeaveRequested, NodeExited
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.model.ids import BatchId
from drizzle_streams.model.job import Scheduling
from drizzle_streams.protocol import messages as msg
from tests.simulation import checkers
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.performers import SimWorker
from tests.simulation.test_stories import kinds, settled
from tests.simulation.values import spec
from tests.simulation.world import LEASE_S, Life, World

LONG_GROUP = 60
"""Batches: three seconds, which no move may wait for."""


def until_owner(world: World, worker: Life, within_s: float) -> float:
    """Seconds until that worker owns something."""
    asked_at = world.now
    if not world.run(within_s, until=lambda: worker.id in world.job_state.placement.workers()):
        raise BrokenPromiseError(f"{worker.id} owns nothing after {within_s} s")
    return world.now - asked_at


def drain(world: World, worker: Life, within_s: float = 3.0) -> None:
    """Ask a worker to stop and demand that it goes well: soon, dismissed, and with nothing replayed."""
    worker.post(LeaveRequested())
    if not world.run(within_s, until=lambda: not worker.alive):
        raise BrokenPromiseError(f"{worker.id} still lives {within_s} s after it was asked to stop")
    if "nothing of it" not in worker.performer.departed:
        raise BrokenPromiseError(f"{worker.id} departed, because {worker.performer.departed}")
    demand_nothing_replayed(world)


def demand_nothing_replayed(world: World) -> None:
    for ended in world.job_state.recoveries:
        if ended.replayed_batches:
            raise BrokenPromiseError(f"{ended.reason}: {ended.replayed_batches} batches were replayed")


def joined_in_a_long_group(seed: int, scheduling: Scheduling = Scheduling.GROUP) -> World:
    world = settled(seed, workers=1, job=spec(scheduling, LONG_GROUP))
    world.run(1.0)
    newcomer = world.start_worker()
    assert until_owner(world, newcomer, 2.0) < 0.5, "three seconds of the group are not waited for"
    demand_progress(world)
    demand_nothing_replayed(world)
    demand_everything(world)
    return world


def drained(seed: int, scheduling: Scheduling = Scheduling.GROUP) -> World:
    world = settled(seed, job=spec(scheduling, LONG_GROUP))
    drain(world, world.of_kind("worker")[seed % 3])
    demand_progress(world)
    demand_nothing_replayed(world)
    demand_everything(world)
    return world


@pytest.mark.parametrize("scheduling", list(Scheduling))
def test_a_worker_that_joins_gets_its_share_in_the_middle_of_a_group(scheduling: Scheduling) -> None:
    handed_over = 0
    for seed in range(2):
        world = joined_in_a_long_group(seed, scheduling)
        assert "PartitionsMoved" in kinds(world)
        handed_over += world.handed_over  # one question in ten gets no answer, so not each time
        if scheduling is Scheduling.GROUP:
            assert world.job_state.groups_cut == 1
            assert "GroupCut" in kinds(world)
    assert handed_over, "state came from its former owner"


@pytest.mark.parametrize("scheduling", list(Scheduling))
def test_a_worker_that_is_asked_to_stop_goes_when_its_partitions_have_moved(scheduling: Scheduling) -> None:
    for seed in range(2):
        world = drained(seed, scheduling)
        world.run(2 * LEASE_S)
        assert "WorkerLeft" in kinds(world)
        assert "WorkerLost" not in kinds(world), "who leaves is not lost"
        assert world.coordinator.machine.role.lost_workers == 0


def left_at_once(seed: int, *, heard: bool = True) -> World:
    """A drained worker is told as gone within a round trip; if its last word is lost, when its lease ends."""
    world = settled(seed, job=spec(group_size=LONG_GROUP))
    leaving = world.of_kind("worker")[seed % 3]
    send = world.network_send

    def losing(life: Life, to: str, envelope: msg.Envelope) -> None:
        if heard or not any(isinstance(item.message, msg.Left) for item in envelope.items):
            send(life, to, envelope)

    world.network_send = losing
    drain(world, leaving)
    told = world.run(0.01 if heard else 2 * LEASE_S, until=lambda: "WorkerLeft" in kinds(world))
    if not told or "WorkerLost" in kinds(world):
        raise BrokenPromiseError(f"{leaving.id} is gone, and the story says {kinds(world)[-5:]}")
    demand_progress(world)
    demand_everything(world)
    return world


def test_a_worker_that_left_on_purpose_is_told_as_such_at_once() -> None:
    for seed in range(3):
        world = left_at_once(seed)
        assert world.coordinator.machine.role.lost_workers == 0


def test_a_last_word_that_is_lost_is_made_up_for_by_the_lease() -> None:
    left_at_once(1, heard=False)


def test_partitions_stand_still_for_less_than_a_lost_worker_would_cost() -> None:
    """No batch waits longer than two intervals and a few round trips, drain and join alike."""
    world = settled(job=spec(group_size=LONG_GROUP))
    gaps: list[float] = []
    written, at = world.written, world.now
    leaving = world.of_kind("worker")[0]
    leaving.post(LeaveRequested())
    world.start_worker()
    end = world.now + 2.0
    while world.now < end:
        world.run(0.005)
        if world.written > written:
            gaps.append(world.now - at)
            written, at = world.written, world.now
    assert not leaving.alive
    assert max(gaps) < 0.3
    demand_everything(world)


def test_the_last_worker_is_not_kept() -> None:
    """Nobody could take over: it goes at once, and whoever comes restores the checkpoint."""
    world = settled(workers=1)
    last = world.of_kind("worker")[0]
    last.post(LeaveRequested())
    world.run(0.2)
    assert not last.alive
    assert "nobody" in last.performer.departed
    world.start_worker()
    world.run(2 * LEASE_S)
    demand_progress(world)
    demand_everything(world)


def test_all_workers_are_replaced_one_after_another() -> None:
    """A rolling restart: each newcomer takes over from one that leaves."""
    world = settled(job=spec(group_size=LONG_GROUP))
    for life in world.of_kind("worker"):
        world.start_worker()
        world.run(0.3)
        drain(world, life)
    assert "WorkerLost" not in kinds(world)
    demand_everything(world)


def test_a_worker_without_a_coordinator_does_not_wait_for_one_for_ever() -> None:
    world = settled()
    world.crash(world.coordinator)
    leaving = world.of_kind("worker")[0]
    leaving.post(LeaveRequested())
    world.run(3.0)
    assert not leaving.alive
    world.start_coordinator()
    demand_progress(world)
    demand_everything(world)


def test_a_new_coordinator_goes_on_with_a_drain() -> None:
    world = settled(job=spec(group_size=LONG_GROUP))
    leaving = world.of_kind("worker")[0]
    leaving.post(LeaveRequested())
    world.run(0.02)
    world.crash(world.coordinator)
    world.run(0.3)
    world.start_coordinator()
    assert world.run(5.0, until=lambda: not leaving.alive)
    assert "nothing of it" in leaving.performer.departed
    demand_nothing_replayed(world)
    demand_progress(world)
    demand_everything(world)


@pytest.mark.parametrize("reached", [0, 1, 2])
def test_a_coordinator_dies_between_the_ledger_and_the_cut(reached: int) -> None:
    """The ledger says that the group is short; nobody, or somebody, has heard of it."""
    for seed in range(2):
        world = settled(seed, job=spec(group_size=LONG_GROUP))
        coordinator = world.coordinator
        send, said = world.network_send, []

        def dying(life: Life, to: str, envelope, send=send, said=said, coordinator=coordinator) -> None:
            if any(type(item.message).__name__ == "Cut" for item in envelope.items):
                said.append(to)
                if len(said) > reached:
                    coordinator.alive = False
            if life.alive:
                send(life, to, envelope)

        world.network_send = dying
        world.start_worker()
        assert world.run(3.0, until=lambda coordinator=coordinator: not coordinator.alive)
        world.network_send = send
        world.run(0.2)
        world.start_coordinator()
        demand_progress(world)
        demand_everything(world)


def test_a_cut_that_comes_late_follows_who_went_further() -> None:
    """Half of the workers hear of the cut only when they have passed it."""
    world = settled(job=spec(group_size=LONG_GROUP))
    slow = world.of_kind("worker")[0]
    send = world.network_send

    def late(life: Life, to: str, envelope) -> None:
        if to == slow.id and any(type(item.message).__name__ == "Cut" for item in envelope.items):
            world.at(world.now + 0.12, lambda: send(life, to, envelope))
        else:
            send(life, to, envelope)

    world.network_send = late
    newcomer = world.start_worker()
    assert until_owner(world, newcomer, 3.0) < 1.0
    demand_nothing_replayed(world)
    demand_progress(world)
    demand_everything(world)


def test_a_former_owner_that_dies_during_the_move_is_replaced_by_the_checkpoint() -> None:
    for seed in range(3):
        world = settled(seed, job=spec(group_size=LONG_GROUP))
        leaving = world.of_kind("worker")[0]
        leaving.post(LeaveRequested())
        world.run(3.0, until=lambda w=world, i=leaving.id: i not in w.job_state.placement.workers())
        world.crash(leaving)
        world.coordinator.post(NodeExited(leaving.id))
        demand_progress(world)
        demand_nothing_replayed(world)
        demand_everything(world)


def test_the_newcomer_dies_during_the_move() -> None:
    for seed in range(3):
        world = settled(seed, job=spec(group_size=LONG_GROUP))
        newcomer = world.start_worker()
        until_owner(world, newcomer, 2.0)
        world.run(0.005 * seed)
        world.crash(newcomer)
        world.coordinator.post(NodeExited(newcomer.id))
        demand_progress(world)
        demand_everything(world)


def test_a_boundary_that_is_not_reached_is_given_up_and_tried_again() -> None:
    """A worker that is paused for less than its lease keeps everybody from standing there."""
    world = settled(job=spec(group_size=LONG_GROUP))
    world.coordinator.machine.role.membership.lease_s = 10.0
    paused = world.of_kind("worker")[0]
    world.run(0.3)
    world.pause(paused)
    newcomer = world.start_worker()
    world.run(STAND_S_MAX + 1.5)
    assert "BoundaryGivenUp" in kinds(world)
    world.resume(paused)
    until_owner(world, newcomer, 4.0)
    demand_progress(world)
    demand_everything(world)


def test_a_job_that_is_stopped_during_a_move_stops() -> None:
    from drizzle_streams.core.events import StopRequested
    from drizzle_streams.protocol.records import JobPhase
    from tests.simulation.values import JOB

    for pause in (0.001, 0.01, 0.03, 0.06, 0.1):
        world = settled(job=spec(group_size=LONG_GROUP))
        leaving = world.of_kind("worker")[0]
        leaving.post(LeaveRequested())
        world.run(pause)
        world.coordinator.post(StopRequested(JOB))
        world.run(6.0)
        assert world.job_state.phase is JobPhase.STOPPED
        assert not leaving.alive, "a job that has ended needs nobody"
        assert world.snapshots.parts == {}


# --- planted bugs -------------------------------------------------------------------------


demand_caught = partial(checkers.demand_caught, seeds=range(4), by=(BrokenPromiseError, AssertionError))


def test_planted_a_former_owner_hands_over_whatever_version_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of some other batch, as if it were that of the boundary."""
    state_at = SimWorker.state_at

    def stale(self: SimWorker, stage: int, partitions: set[int], batch: int, of: int):
        good = state_at(self, stage, partitions, batch, of)
        return {p: {key: value - 1 for key, value in sums.items()} for p, sums in good.items()}

    monkeypatch.setattr(SimWorker, "state_at", stale)
    demand_caught(drained)


def test_planted_nobody_stores_at_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerJob, "cut", lambda self, cut, out: None)
    demand_caught(drained)


def test_planted_owners_change_before_all_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan as soon as the cut is said: nobody stands there, so something has to be replayed."""

    def hasty(self: CoordinatorJob, boundary, now: float, out) -> None:
        self.want_plan(boundary.reason, boundary.since)

    monkeypatch.setattr(CoordinatorJob, "_approach", hasty)
    demand_caught(joined_in_a_long_group, drained)


def test_planted_a_worker_is_dismissed_while_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CoordinatorJob, "needs", lambda self, worker: False)
    demand_caught(drained)


def test_planted_a_cut_is_not_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers keep to a cut when the next group has been launched."""
    launch = WorkerJob.launch

    def stubborn(self: WorkerJob, message, now: float) -> None:
        if self.boundary is None:
            launch(self, message, now)

    monkeypatch.setattr(WorkerJob, "launch", stubborn)
    monkeypatch.setattr(WorkerJob, "assign", _assign_that_keeps_the_cut(WorkerJob.assign))
    demand_caught(drained)


def _assign_that_keeps_the_cut(assign):
    def kept(self: WorkerJob, message, now: float, out) -> None:
        boundary = self.boundary
        assign(self, message, now, out)
        self.boundary = boundary

    return kept


def test_planted_a_cut_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator cuts behind what has begun, and does not follow: it never gets its checkpoint."""
    from drizzle_streams.core import coordinator_job, coordinator_resizes

    monkeypatch.setattr(
        coordinator_job, "cut_at", lambda spec, group, progress, now_ms: BatchId(progress.frontier - 2)
    )
    monkeypatch.setattr(coordinator_resizes, "furthest", lambda progress: progress.frontier - 9)
    demand_caught(joined_in_a_long_group)


def test_planted_who_leaves_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The story would have it two seconds later, as if its process had died."""
    send_once = Effects.send_once

    def silent(self: Effects, to, message) -> None:
        if not isinstance(message, msg.Left):
            send_once(self, to, message)

    monkeypatch.setattr(Effects, "send_once", silent)
    demand_caught(left_at_once)

"""Losses that come together, told in full: parallel recovery (Drizzle section 3.3, D-Streams section 5).

Several workers at once, a second one while the first is made up for, one that has just come, and
both ends of a hand-over. At the end each promise has its planted bug.
"""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from drizzle_streams.core import recovery
from drizzle_streams.core.coordinator import Coordinator
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.events import LeaveRequested, NodeExited
from drizzle_streams.model.ids import WorkerId
from drizzle_streams.model.placement import Placement
from tests.simulation import checkers
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.test_stories import settled
from tests.simulation.values import spec
from tests.simulation.world import LEASE_S, Life, World

SEEDS = range(3)
LONG_GROUP = 60
RARELY_MS = 2_000.0
"""Between checkpoints: so that a loss has forty batches to replay, and survivors have their blocks."""
FENCE_S = 0.01
"""What raising the generation takes, where it matters that it takes something."""

pytestmark = pytest.mark.timeout(600)  # seconds of CPU on a busy machine, none of waiting


def lose(world: World, *lives: Life, told: bool = True) -> None:
    """They die in one instant; `told`: a supervisor saw it, else their leases have to end."""
    for life in lives:
        world.crash(life)
    for life in lives if told else ():
        world.coordinator.post(NodeExited(life.id))


def owned(world: World) -> dict[tuple[int, int], str]:
    """Who owns what, by stage and partition."""
    owners = world.job_state.placement.owners
    return {(stage, p): owner for stage, row in enumerate(owners) for p, owner in enumerate(row)}


def until_planned(world: World, reason: str, within_s: float = 3 * LEASE_S) -> None:
    """Until what was lost has new owners, who have yet to catch up."""
    job = world.job_state

    def planned() -> bool:
        return job.recovery is not None and reason in job.recovery.reason

    if not world.run(within_s, until=planned):
        raise BrokenPromiseError(f"nothing is planned for {reason} within {within_s} s")


# --- several at once ----------------------------------------------------------------------


def several_lost(seed: int) -> World:
    """Two of four die; the others share what they had, and keep what they have."""
    world = settled(seed, workers=4)
    workers = world.of_kind("worker")
    lost, left = [life.id for life in workers[:2]], {life.id for life in workers[2:]}
    before = owned(world)
    world.raising_s = FENCE_S
    lose(world, *workers[:2], told=bool(seed % 2))
    demand_progress(world)
    after = owned(world)
    heirs = Counter(after[key] for key, owner in before.items() if owner in lost)
    if set(heirs) != left or max(heirs.values()) - min(heirs.values()) > 1:
        raise BrokenPromiseError(f"what was lost is not spread over {left}: {heirs}")
    moved = [key for key, owner in before.items() if owner in left and after[key] != owner]
    if moved:
        raise BrokenPromiseError(f"survivors lost {moved}, which they still held")
    demand_everything(world)
    return world


def test_several_workers_lost_at_once_are_made_up_for_by_all_who_survive() -> None:
    for seed in SEEDS:
        several_lost(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_batches_that_were_whole_are_no_later_for_being_computed_again(seed: int) -> None:
    """Half of the batches of a second are replayed; who looks at latencies must see none of it twice."""
    world = settled(seed, workers=3, job=spec(every_ms=RARELY_MS))
    writer, progress = world.job_state.placement.owners[-1][0], world.job_state.progress
    (lost,) = (life for life in world.of_kind("worker") if life.id == writer)
    before = {batch: ms for batch, ms in progress.latencies.items() if batch <= progress.frontier}
    lose(world, lost)
    until_planned(world, "lost")
    replayed = world.job_state.recovery.replayed_batches
    assert replayed > 3
    demand_progress(world)
    after = progress.latencies
    changed = {batch: (ms, after[batch]) for batch, ms in before.items() if after[batch] != ms}
    assert not changed, f"{replayed} batches were replayed"
    assert len(after) > len(before), "and those that were under way have theirs"
    demand_everything(world)


def test_workers_lost_within_one_lease_of_each_other() -> None:
    for seed in SEEDS:
        world = settled(seed, workers=4)
        first, second = world.of_kind("worker")[:2]
        lose(world, first, told=False)
        world.run(LEASE_S * world.uniform(0.1, 0.9))
        lose(world, second, told=False)
        demand_progress(world)
        demand_everything(world)


# --- one after another --------------------------------------------------------------------


def lost_during_recovery(seed: int) -> World:
    """An heir dies while it replays what it was given."""
    world = settled(seed, workers=4, job=spec(every_ms=RARELY_MS))
    world.slow.update({life.id: 3.0 for life in world.of_kind("worker")})
    first = world.of_kind("worker")[seed % 4]
    lose(world, first)
    until_planned(world, first.id)
    world.run(0.005 + 0.015 * seed)
    under_way = world.job_state.recovery
    assert under_way is not None, "it still replays"
    stage, partition = under_way.moved[seed % len(under_way.moved)]
    heir = world.lives[world.job_state.placement.owner(stage, partition)]
    lose(world, heir)
    demand_progress(world)
    demand_everything(world)
    return world


def test_an_heir_lost_during_recovery() -> None:
    for seed in SEEDS:
        lost_during_recovery(seed)


def test_a_survivor_lost_before_the_plan_for_the_first_loss_is_made() -> None:
    """The verdict is said, the number of the next generation is on its way: the plan has the newest facts."""
    for seed in SEEDS:
        world = settled(seed, workers=4)
        first, second = world.of_kind("worker")[:2]
        world.raising_s = FENCE_S
        lose(world, first)
        world.run(FENCE_S / 2)
        lose(world, second)
        until_planned(world, first.id)
        assert not {first.id, second.id} & world.job_state.placement.workers()
        demand_progress(world)
        demand_everything(world)


def test_the_coordinator_and_an_heir_lost_during_recovery() -> None:
    for seed in SEEDS:
        world = settled(seed, workers=4, job=spec(every_ms=RARELY_MS))
        first, second = world.of_kind("worker")[:2]
        lose(world, first)
        until_planned(world, first.id)
        world.run(0.01 * seed)
        world.crash(world.coordinator)
        world.crash(second)
        world.run(0.3)
        world.start_coordinator()
        demand_progress(world)
        demand_everything(world)


# --- who has just come --------------------------------------------------------------------


def newcomer_lost(seed: int) -> World:
    """It dies as soon as partitions are its own, and nobody saw it: its lease has to end."""
    world = settled(seed, job=spec(group_size=LONG_GROUP))
    newcomer = world.start_worker()
    if not world.run(3.0, until=lambda: newcomer.id in world.job_state.placement.workers()):
        raise BrokenPromiseError(f"{newcomer.id} is given nothing")
    lose(world, newcomer, told=False)
    world.run(2 * LEASE_S)
    demand_progress(world)
    demand_everything(world)
    return world


def test_a_worker_that_just_joined_is_lost_with_what_it_was_given() -> None:
    for seed in SEEDS:
        newcomer_lost(seed)


@pytest.mark.parametrize("after_s", [0.002, 0.02, 0.05])
def test_a_worker_is_lost_before_it_was_given_anything(after_s: float) -> None:
    """It said hello, the boundary for it may be under way: nobody loses anything by it."""
    world = settled(3, job=spec(group_size=LONG_GROUP))
    newcomer = world.start_worker()
    world.run(after_s)
    assert newcomer.id not in world.job_state.placement.workers()
    lose(world, newcomer)
    demand_progress(world)
    assert all(not ended.replayed_batches for ended in world.job_state.recoveries)
    demand_everything(world)


def test_a_worker_that_stands_in_for_a_lost_one_is_lost_as_well() -> None:
    for seed in SEEDS:
        world = settled(seed, workers=2)
        first = world.of_kind("worker")[0]
        lose(world, first)
        stand_in = world.start_worker()
        world.run(3.0, until=lambda w=world, i=stand_in.id: i in w.job_state.placement.workers())
        world.run(0.01 * seed)
        lose(world, stand_in)
        demand_progress(world)
        demand_everything(world)


# --- a hand-over that loses both ends -----------------------------------------------------


def both_lost(seed: int) -> World:
    """Who gives its partitions up and who gets them die in one instant, at some point of the hand-over."""
    world = settled(seed, workers=4, job=spec(group_size=LONG_GROUP))
    giver = world.of_kind("worker")[seed % 4]
    before = owned(world)
    giver.post(LeaveRequested())
    if not world.run(3.0, until=lambda: giver.id not in world.job_state.placement.workers()):
        raise BrokenPromiseError(f"{giver.id} is not relieved")
    takers = sorted({owned(world)[key] for key, owner in before.items() if owner == giver.id})
    world.run(0.004 * seed)
    assert giver.alive, "it waits until those who took over have done a batch"
    lose(world, world.lives[takers[seed % len(takers)]], giver, told=bool(seed % 2))
    world.run(2 * LEASE_S)
    demand_progress(world)
    demand_everything(world)
    return world


def test_giver_and_taker_are_lost_in_the_middle_of_a_hand_over() -> None:
    for seed in range(8):
        both_lost(seed)


# --- planted bugs -------------------------------------------------------------------------


demand_caught = partial(checkers.demand_caught, seeds=SEEDS)


def all_to_one(place):
    """A placement that has everything lost go to the first who lives."""

    def unfair(job, workers, holders):
        living = [worker for worker, _ in workers]

        def owner(stage: int, p: int) -> WorkerId:
            held = holders.get((stage, p))
            return held if held in living else living[0]

        rows = tuple(tuple(owner(s.stage, p) for p in range(s.partitions)) for s in job.stages)
        return Placement(rows) if holders else place(job, workers, holders)

    return unfair


def test_planted_everything_lost_goes_to_one_survivor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "place", all_to_one(recovery.place))
    demand_caught(several_lost)


def test_planted_the_plan_is_made_for_who_lived_at_the_first_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    lose_, workers_for, known = Coordinator._lose, Coordinator._workers_for, {}

    def noting(self: Coordinator, node, why, now, out) -> None:
        if not any(job.wants_plan for job in self.jobs.values()):
            members = [m for m in self.membership.workers() if m.node != node]
            known[self] = [(WorkerId(m.node), m.size) for m in members]
        lose_(self, node, why, now, out)

    monkeypatch.setattr(Coordinator, "_lose", noting)
    monkeypatch.setattr(
        Coordinator, "_workers_for", lambda self, job: known.get(self) or workers_for(self, job)
    )
    demand_caught(several_lost)


def test_planted_one_recovery_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss is not planned for while another is made up for."""
    want = CoordinatorJob.want_plan

    def busy(self: CoordinatorJob, reason: str, now: float) -> None:
        if self.recovery is None:
            want(self, reason, now)

    monkeypatch.setattr(CoordinatorJob, "want_plan", busy)
    demand_caught(lost_during_recovery)


def test_planted_who_has_done_nothing_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a worker is looked at only when it has reported something since it was given it."""
    lose_ = CoordinatorJob.lose

    def indifferent(self: CoordinatorJob, worker: WorkerId, now: float) -> None:
        mine = [key for key, owner in self.holders.items() if owner == worker]
        if any(self.progress.held[stage][p] > self.checkpoints.committed.batch for stage, p in mine):
            lose_(self, worker, now)

    monkeypatch.setattr(CoordinatorJob, "lose", indifferent)
    demand_caught(newcomer_lost)


def test_planted_a_hand_over_relies_on_the_giver_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No snapshot is named where a living worker stands at the batch."""
    snapshots = recovery._snapshots

    def trusting(facts, stage, partitions):
        at = facts.checkpoint.batch
        given = recovery._formers(facts, stage, partitions, at)
        return () if given else snapshots(facts, stage, partitions)

    monkeypatch.setattr(recovery, "_snapshots", trusting)
    demand_caught(both_lost, seeds=range(8))

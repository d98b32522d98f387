"""Stragglers: a worker that is stopped again and again, or slow, hurts for a moment and not for ever.

Each story compares the same seed with and without speculation, and demands exact values. The planted bugs
are the mistakes that would make speculation wrong instead of merely useless.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from statistics import quantiles

import pytest

from drizzle_streams.core.actions import Fragment, RunTask
from drizzle_streams.core.arrivals import Arrivals
from drizzle_streams.core.boundary import boundary_for
from drizzle_streams.core.coordinator import Coordinator
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.copies import CopyTasks
from drizzle_streams.core.events import NodeExited
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.stragglers import PENANCE_S, Stragglers
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.model.ids import BatchId, JobId, WorkerId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.protocol.messages import BlocksReady
from drizzle_streams.protocol.parts import NO_COPIES, Copies
from tests.simulation import checkers
from tests.simulation.checkers import demand_everything, demand_flatness, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.test_stories import kinds, settled
from tests.simulation.values import spec
from tests.simulation.world import Life, Weather, World

LONG_GROUP = 60
"""Batches: three seconds, which no relief may wait for."""


def job(*, speculation: bool = True) -> JobSpec:
    return replace(spec(group_size=LONG_GROUP), speculation=speculation)


def pulse(world: World, life: Life, times: int, stop_s: float = 0.2, every_s: float = 1.0) -> None:
    """SIGSTOP for `stop_s` of every `every_s`, so many times."""
    for number in range(times):
        world.at(world.now + number * every_s, lambda: world.stop(life, stop_s))


def p99_ms(world: World, first: int) -> float:
    """Of the latencies of batches from `first` on, sealed to written."""
    late = [ms for batch, ms in world.job_state.progress.latencies.items() if batch >= first]
    return quantiles(late, n=100)[98]


def pulsed(seed: int, *, speculation: bool = True, seconds: int = 45) -> tuple[World, float]:
    """One of two workers is stopped 200 ms of every second; the world and the p99 of all that time."""
    world = settled(seed, workers=2, job=job(speculation=speculation))
    first = world.written
    pulse(world, world.of_kind("worker")[0], seconds)
    world.run(seconds)
    late = p99_ms(world, first)
    demand_progress(world)
    demand_everything(world)
    demand_flatness(world)
    return world, late


def slowed(seed: int, times: float, *, speculation: bool = True) -> tuple[World, Life]:
    world = settled(seed, job=job(speculation=speculation))
    victim = world.of_kind("worker")[0]
    world.slow[victim.id] = times
    return world, victim


def owners(world: World) -> frozenset[str]:
    return world.job_state.placement.workers()


def test_a_worker_that_is_stopped_again_and_again_loses_its_partitions_and_latency_halves() -> None:
    without, late_without = pulsed(1, speculation=False)
    world, late = pulsed(1)
    assert late <= late_without / 2
    assert "WorkerRelieved" in kinds(world)
    assert "WorkerReinstated" not in kinds(world), "who still stalls is not reinstated"
    assert "WorkerRelieved" not in kinds(without)
    assert [ended for ended in world.job_state.recoveries if ended.replayed_batches] == []


def test_it_earns_its_partitions_back_when_it_no_longer_stalls() -> None:
    world = settled(workers=2, job=job())
    victim = world.of_kind("worker")[0]
    pulse(world, victim, 4)
    assert world.run(5.0, until=lambda: victim.id not in owners(world))
    world.run(4.0)
    assert "WorkerReinstated" not in kinds(world)
    assert world.run(PENANCE_S + 1.0, until=lambda: victim.id in owners(world))
    assert "WorkerReinstated" in kinds(world)
    demand_progress(world)
    demand_everything(world)


def test_a_worker_that_is_too_slow_for_its_share_loses_it_and_relapses_ever_more_seldom() -> None:
    world, victim = slowed(1, 30)
    world.run(25.0)
    told = [line for line in world.coordinator.machine.role.story.lines if line.kind == "WorkerReinstated"]
    assert 1 <= len(told) <= 2, "after 5 and 10 seconds"
    world.slow.clear()
    assert world.run(50.0, until=lambda: victim.id in owners(world))
    demand_progress(world)
    demand_everything(world)


def test_a_worker_at_a_fifth_of_its_speed_that_keeps_up_keeps_its_partitions() -> None:
    """Tasks of milliseconds that take five times as long cost less than a move would."""
    world, _ = slowed(1, 5)
    world.run(10.0)
    assert "WorkerRelieved" not in kinds(world)
    demand_everything(world)


def test_one_stop_is_forgiven() -> None:
    world = settled(workers=2, job=job())
    pulse(world, world.of_kind("worker")[0], 1, stop_s=0.5)
    world.run(10.0)
    assert "WorkerRelieved" not in kinds(world)
    demand_everything(world)


def test_a_healthy_cluster_never_speculates() -> None:
    for seed in range(2):
        world = settled(seed, job=job())
        world.run(10.0)
        assert "WorkerRelieved" not in kinds(world)
        assert "GroupCut" not in kinds(world)
        assert copies(world) == NO_COPIES


def test_who_is_relieved_takes_over_when_the_others_die() -> None:
    world = settled(workers=2, job=job())
    victim, other = world.of_kind("worker")
    pulse(world, victim, 3)
    assert world.run(5.0, until=lambda: victim.id not in owners(world))
    world.run(1.0)
    world.crash(other)
    world.coordinator.post(NodeExited(other.id))
    assert world.run(3.0, until=lambda: owners(world) == {victim.id})
    demand_progress(world)
    demand_everything(world)


def test_a_relieved_worker_that_dies_costs_nothing() -> None:
    world = settled(workers=2, job=job())
    victim = world.of_kind("worker")[0]
    pulse(world, victim, 3)
    assert world.run(5.0, until=lambda: victim.id not in owners(world))
    world.run(1.0)
    world.crash(victim)
    world.coordinator.post(NodeExited(victim.id))
    world.run(3.0)
    assert "RecoveryPlanned" not in kinds(world)
    demand_progress(world)
    demand_everything(world)


def test_the_owner_keeps_its_share_through_a_recovery_and_loses_it_at_the_next_boundary() -> None:
    """Relieved and then somebody else is lost: what is slow and good is not rebuilt from a checkpoint."""
    for seed in range(3):
        world = settled(seed, workers=4, job=job())
        victim, other = world.of_kind("worker")[:2]
        pulse(world, victim, 4)
        assert world.run(5.0, until=lambda w=world: "WorkerRelieved" in kinds(w))
        world.crash(other)
        world.coordinator.post(NodeExited(other.id))
        demand_progress(world)
        assert world.run(10.0, until=lambda w=world, v=victim: v.id not in owners(w))
        demand_everything(world)


def relieved_and_failed_over(seed: int, *, first_back: bool = False) -> World:
    """A worker that goes on stalling gets nothing back from the next coordinator, and earns it from there."""
    world = settled(seed, workers=2, job=job())
    victim, other = world.of_kind("worker")
    pulse(world, victim, 12)
    assert world.run(5.0, until=lambda: victim.id not in owners(world))
    world.crash(world.coordinator)
    world.run(0.3)
    if first_back:
        away = frozenset((other.id, world.coordinator.id))
        world.cut.add(away)
        world.at(world.now + 0.6, lambda: world.cut.discard(away))
    world.start_coordinator()
    if world.run(6.0, until=lambda: victim.id in owners(world)):
        raise BrokenPromiseError(f"{victim.id} stalls, and has partitions of the new coordinator")
    if not world.run(12.0, until=lambda: victim.id in owners(world)):
        raise BrokenPromiseError(f"{victim.id} no longer stalls, and gets nothing back: {kinds(world)}")
    demand_progress(world)
    demand_everything(world)
    return world


def test_a_new_coordinator_knows_who_was_relieved() -> None:
    for seed in range(2):
        world = relieved_and_failed_over(seed)
        told = [kind for kind in kinds(world) if kind in ("WorkerRelieved", "WorkerReinstated")]
        assert told == ["WorkerRelieved", "WorkerReinstated"]


def relieved_first_back(seed: int) -> World:
    return relieved_and_failed_over(seed, first_back=True)


def test_who_is_relieved_and_back_before_the_others_waits_for_them() -> None:
    relieved_first_back(0)


def test_a_new_coordinator_judges_who_was_not_relieved_yet() -> None:
    world = settled(workers=2, job=job())
    victim = world.of_kind("worker")[0]
    world.crash(world.coordinator)
    world.run(0.3)
    world.start_coordinator()
    demand_progress(world)
    pulse(world, victim, 12)
    assert world.run(10.0, until=lambda: "WorkerRelieved" in kinds(world))
    demand_everything(world)


def copies(world: World) -> Copies:
    """Of all sources."""
    made = [job.copied() for life in world.of_kind("source") for job in life.machine.role.jobs.values()]
    return Copies(sum(c.started for c in made), sum(c.won for c in made), sum(c.wasted for c in made))


def copied(seed: int) -> World:
    """Two stops of one of three workers: too few to be relieved, long enough for copies."""
    world = settled(seed, job=job())
    pulse(world, world.of_kind("worker")[seed % 3], 2, stop_s=0.3, every_s=0.6)
    world.run(1.5)
    demand_progress(world)
    assert world.copies_lost == 0, "what a copy reads stays while it waits"
    demand_everything(world)
    demand_flatness(world)
    return world


def test_what_a_stopped_worker_was_to_read_is_read_by_another() -> None:
    for seed in range(3):
        world = copied(seed)
        made = copies(world)
        assert made.won > made.wasted
        assert made.started == made.won + made.wasted


def test_without_speculation_there_are_no_copies() -> None:
    world = settled(job=job(speculation=False))
    pulse(world, world.of_kind("worker")[0], 3)
    world.run(4.0)
    assert copies(world) == NO_COPIES
    demand_everything(world)


def test_the_original_is_lost_after_its_copy_won() -> None:
    """Its owner never computes it: who takes over does, and what the copy made is not made twice."""
    for seed in range(3):
        world = settled(seed, job=job())
        victim = world.of_kind("worker")[seed]
        world.stop(victim, 5.0)
        assert world.run(0.5, until=lambda w=world: copies(w).won > 0)
        world.run(0.1)
        world.crash(victim)
        world.coordinator.post(NodeExited(victim.id))
        demand_progress(world)
        demand_everything(world)


def test_who_makes_copies_is_lost() -> None:
    for seed in range(3):
        world = settled(seed, job=job())
        victim, other = world.of_kind("worker")[:2]
        world.stop(victim, 0.4)
        assert world.run(0.4, until=lambda w=world: copies(w).started > 0)
        world.run(0.002 * seed)
        world.crash(other)
        world.coordinator.post(NodeExited(other.id))
        demand_progress(world)
        demand_everything(world)


@pytest.mark.parametrize("seed", range(3))
def test_pulses_in_bad_weather_stay_exact(seed: int) -> None:
    world = settled(seed, job=job())
    world.weather = Weather(loss=0.03, duplicate=0.05, delay_s=(0.0003, 0.01), straggle=0.02, straggle_s=0.3)
    for number, life in enumerate(world.of_kind("worker")[:2]):
        world.run(0.3 * number)
        pulse(world, life, 8, stop_s=world.uniform(0.1, 0.6))
    world.run(10.0)
    world.weather = Weather()
    demand_progress(world)
    demand_everything(world)
    demand_flatness(world)


# --- planted bugs -------------------------------------------------------------------------


def relieved(seed: int) -> World:
    """Pulses until the worker is relieved, and on: nothing may be replayed for it."""
    world = settled(seed, workers=2, job=job())
    victim = world.of_kind("worker")[0]
    pulse(world, victim, 6)
    assert world.run(5.0, until=lambda: victim.id not in owners(world))
    demand_progress(world)
    assert [ended for ended in world.job_state.recoveries if ended.replayed_batches] == []
    assert world.job_state.groups_cut <= 1, "one move, and no more of them while nothing changes"
    demand_everything(world)
    return world


demand_caught = partial(
    checkers.demand_caught, seeds=range(3), by=(BrokenPromiseError, AssertionError, KeyError)
)


def test_without_a_bug_nothing_is_caught() -> None:
    relieved(0)


def test_planted_a_second_result_is_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a copy brought is forgotten when its original comes."""
    add = Arrivals.add

    def careless(self: Arrivals, fragment: Fragment, sealed_at_ms: float) -> bool:
        table = self._batches.get(fragment.batch)
        if table is not None:
            table.have.clear()
        return add(self, fragment, sealed_at_ms)

    monkeypatch.setattr(Arrivals, "add", careless)
    demand_caught(copied)


def test_planted_a_late_original_overwrites_what_was_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = WorkerJob.blocks_ready

    def again(self: WorkerJob, late: BlocksReady, *, carried: bool, out: Effects) -> None:
        for cohort in self._of_stage(late.downstream):
            if late.first <= cohort.computed <= late.last and not cohort.running:
                cohort.computed = BatchId(late.first - 1)
        ready(self, late, carried=carried, out=out)

    monkeypatch.setattr(WorkerJob, "blocks_ready", again)
    demand_caught(copied)


def test_planted_a_copy_reads_another_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """It announces the blocks of a batch under the name of the one before."""
    start = CopyTasks.start

    def wrong(self: CopyTasks, name: JobId) -> RunTask | None:
        task = start(self, name)
        if task is None:
            return None
        copy = self.running[task.key.stage]
        earlier = copy.fragment._replace(batch=BatchId(copy.fragment.batch - 1))
        self.running[task.key.stage] = replace(copy, fragment=earlier)
        return replace(task, key=replace(task.key, batch=earlier.batch))

    monkeypatch.setattr(CopyTasks, "start", wrong)
    demand_caught(copied)


def test_planted_the_input_of_a_waiting_copy_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "task_seconds", lambda self, life, key: self.uniform(0.004, 0.012))
    copied(0)
    monkeypatch.setattr(CopyTasks, "keeps_from", lambda self, stage: None)
    demand_caught(copied)


def test_planted_a_slow_worker_loses_its_partitions_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at a boundary: what is moved has to be replayed."""

    def hasty(self: CoordinatorJob, slow: frozenset[WorkerId], workers, now: float, out) -> None:
        if slow & self.placement.workers():
            self.boundary = boundary_for("hasty", self.progress.frontier, self.progress, now)
            self.want_plan("hasty", now)

    monkeypatch.setattr(CoordinatorJob, "follow", hasty)
    demand_caught(relieved)


def test_planted_a_relieved_worker_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out of the plan instead of having a share of nothing: it never gives up what it held."""

    def left_out(self: CoordinatorJob, workers, slow: frozenset[WorkerId]) -> list[tuple[WorkerId, int]]:
        return [(worker, size) for worker, size in workers if worker not in slow]

    monkeypatch.setattr(CoordinatorJob, "without_relieved", left_out)
    demand_caught(relieved)


def test_planted_relief_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stragglers, "remember", lambda self, relief: None)
    demand_caught(relieved_and_failed_over)


def test_planted_the_first_who_is_back_is_judged_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody else is there yet, a relieved worker looks as if it could not be spared."""
    monkeypatch.setattr(Coordinator, "_gathering", False)
    demand_caught(relieved_first_back)

"""The checkers catch what they are for: each bug planted here must be found.

A checker that never fails proves nothing. Every planted bug is one line somewhere in the
machines or their surroundings; the test demands that some seed of a few breaks a promise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from drizzle_streams.core import outbox, worker_job
from drizzle_streams.core.arrivals import Arrivals
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.model.ids import BatchId, Offset
from drizzle_streams.model.replanning import choice_at
from drizzle_streams.protocol import messages as msg
from tests.simulation import checkers
from tests.simulation.checkers import demand_everything, demand_progress
from tests.simulation.disks import BrokenPromiseError, SimLedger
from tests.simulation.performers import SimWorker
from tests.simulation.world import Weather, World

SEEDS = range(8)

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


demand_caught = partial(checkers.demand_caught, seeds=SEEDS)


def calm_run(seed: int) -> World:
    """No fault at all: everything arrives, so nobody may ever have to ask."""
    world = World(seed)
    world.run(6.0)
    demand_progress(world, 10)
    demand_everything(world)
    if world.asked:
        raise BrokenPromiseError(f"{world.asked} tasks had to ask who owes them what, in a calm world")
    return world


def rainy_run(seed: int) -> World:
    """Only loss: whoever repeats gets through."""
    world = World(seed)
    world.weather = Weather(loss=0.2)
    world.run(4.0)
    demand_progress(world, 20, within_s=30.0)  # one or two batches a second get through
    return world


def kill_and_check(seed: int) -> World:
    """A worker, a source and the coordinator die, one after another."""
    world = World(seed)
    world.run(2.0)
    world.crash(world.of_kind("worker")[seed % 3])
    world.run(1.5)
    source = world.of_kind("source")[0]
    world.crash(source)
    world.run(0.3)
    world.start_source(source.id)
    world.run(0.5)
    world.crash(world.coordinator)
    world.run(0.3)
    world.start_coordinator()
    demand_progress(world)
    demand_everything(world)
    return world


@pytest.mark.parametrize("run", [calm_run, rainy_run, kill_and_check])
def test_without_a_bug_nothing_is_caught(run: Callable[[int], object]) -> None:
    for seed in SEEDS:
        run(seed)


def test_generation_never_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimLedger, "raise_generation", lambda self: max(1, self.fence))
    demand_caught(kill_and_check)


def test_ledger_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimLedger, "read", lambda self: {})
    demand_caught(kill_and_check)


def test_no_resend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox.Link, "renumber", _renumber_without_resend)
    monkeypatch.setattr(outbox.Outbox, "_repeats", _never_again)
    demand_caught(rainy_run)


def _renumber_without_resend(link: outbox.Link) -> None:
    link.stream += 1
    link.next_seq = 1
    link.unacked.clear()
    link.fresh.clear()


def _never_again(self: outbox.Outbox, link: outbox.Link, now: float) -> list[msg.Item]:
    if link.resend_at is not None and link.resend_at <= now:
        link.resend_at = None
    return []


def test_early_notification_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes before its stage may run it is dropped; the repair path hides it, so it is counted."""
    arrived = WorkerJob._arrived

    def only_next(self: WorkerJob, fragment, sealed_at_ms: float) -> None:
        if fragment.batch <= self._oldest(fragment.downstream):
            arrived(self, fragment, sealed_at_ms)

    monkeypatch.setattr(WorkerJob, "_arrived", only_next)
    demand_caught(calm_run)


def test_stale_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source forgets the bounds it persisted and seals the same batches again."""
    start = World.start_source

    def forgetful(self: World, name: str):
        self.disks[name].bounds.clear()
        return start(self, name)

    monkeypatch.setattr(World, "start_source", forgetful)
    demand_caught(kill_and_check)


def test_duplicate_data_enters_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Announced again means counted again."""
    add = Arrivals.add

    def careless(self: Arrivals, fragment, sealed_at_ms: float) -> bool:
        table = self._batches.get(fragment.batch)
        if table is not None:
            table.have.clear()
        return add(self, fragment, sealed_at_ms)

    monkeypatch.setattr(Arrivals, "add", careless)
    demand_caught(kill_and_check)


def test_snapshot_of_another_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """State restored one batch too old."""
    open_ = SimWorker._OpenCohort

    def forgetful(self: SimWorker, action) -> None:
        from dataclasses import replace

        open_(self, replace(action, snapshots=()))

    monkeypatch.setattr(SimWorker, "_OpenCohort", forgetful)
    demand_caught(kill_and_check)


def lose_an_owner_before_a_commit(seed: int) -> World:
    """Snapshots of a batch are stored before its output is; an owner is lost then, and the next is slow."""
    world = World(seed)
    world.run(2.0)
    world.sink_seconds_max = 3.0

    def stored_before_done() -> bool:
        job = world.job_state
        whole = job.checkpoints.complete(BatchId(1 << 40), job.snapshot_every)
        return whole is not None and whole.batch > job.progress.frontier

    if not world.run(20.0, until=stored_before_done):
        raise AssertionError("output was always done first")
    owners = world.job_state.placement.owners
    world.crash(world.lives[next(owner for owner in owners[1] if owner not in owners[2])])
    world.slow = {life.id: 300.0 for life in world.of_kind("worker")}
    world.run(5.0)
    world.sink_seconds_max = 0.01
    world.slow = {}
    demand_progress(world)
    demand_everything(world)
    return world


def test_commit_before_all_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is committed while an owner still replays towards it; and the one before is no net."""
    from drizzle_streams.core.checkpoints import Checkpoints
    from drizzle_streams.core.progress import Progress

    monkeypatch.setattr(Checkpoints, "floor", property(lambda self: self.committed.batch))
    for seed in SEEDS:
        lose_an_owner_before_a_commit(seed)
    monkeypatch.setattr(Progress, "held_by_all", property(lambda self: BatchId(1 << 40)))
    demand_caught(lose_an_owner_before_a_commit)


def test_records_skipped_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that restarts begins after what it had, not at the end of the last bounds."""
    from drizzle_streams.core.source_job import SourceJob

    seal = SourceJob.seal

    def skipping(self: SourceJob, reading, now, out) -> None:
        reading.ends = {p: Offset(end + 1) for p, end in reading.ends.items()}
        seal(self, reading, now, out)

    monkeypatch.setattr(SourceJob, "seal", skipping)
    demand_caught(calm_run)


def test_reports_lost_at_the_coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coordinator drops every report: no group may follow the first ones."""
    monkeypatch.setattr(CoordinatorJob, "reported", lambda self, report: None)
    demand_caught(calm_run)


def test_workers_disagree_on_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker takes a new plan when it hears of it, and not from the batch on for which it is meant."""

    def at_once(chosen, batch, stage):
        return choice_at(chosen, BatchId(1 << 40), stage)

    monkeypatch.setattr(worker_job, "choice_at", at_once)
    demand_caught(calm_run)

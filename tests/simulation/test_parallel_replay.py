"""What survives a loss is used again, and what is lost is replayed by many at once: counted, not believed.

After the paper's section 3.3 (lineage reuse; replay over batches) and section 5 of D-Streams
(parallel recovery). Values would be right without either, so the checkers here are counters; at the
end each has its planted bug.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from drizzle_streams.core import recovery
from drizzle_streams.core.ahead import Ahead
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.model.ids import BatchId
from drizzle_streams.protocol import messages as msg
from tests.simulation.checkers import demand_everything
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.performers import TaskRun
from tests.simulation.test_losses import (
    RARELY_MS,
    SEEDS,
    all_to_one,
    demand_caught,
    lose,
    owned,
    until_planned,
)
from tests.simulation.test_stories import settled
from tests.simulation.values import spec
from tests.simulation.world import Life, World

pytestmark = pytest.mark.timeout(600)  # seconds of CPU on a busy machine, none of waiting


def lost_with_much_to_replay(seed: int) -> tuple[World, Life, dict[tuple[int, int], str], float]:
    """A world just before its next checkpoint, in which a worker has died: who owned what, and when."""
    world = settled(seed, job=spec(every_ms=RARELY_MS))
    job = world.job_state
    world.run(5.0, until=lambda: job.progress.frontier - job.checkpoints.committed.batch >= 25)
    before = owned(world)
    victim = world.of_kind("worker")[seed % 3]
    died_at = world.now
    lose(world, victim)
    until_planned(world, victim.id)
    assert job.recovery is not None
    assert job.recovery.replayed_batches >= 20
    return world, victim, before, died_at


def runs_of(tasks: list[TaskRun]) -> Counter[tuple[int, int, int]]:
    """How often each batch of a partition was computed, copies aside."""
    return Counter(
        (int(task.key.stage), int(p), int(task.key.batch))
        for task in tasks
        if task.key.cohort > 0
        for p in task.partitions
    )


def blocks_reused(seed: int) -> int:
    """How many blocks of survivors were read by heirs; survivors compute nothing a second time."""
    world, victim, before, died_at = lost_with_much_to_replay(seed)
    target = world.written + 10
    world.run(5.0, until=lambda: world.written >= target)
    done = runs_of([task for task in world.tasks if task.began < died_at])
    again = runs_of([task for task in world.tasks if task.began >= died_at])
    repeated = [key for key in again if key in done and before[key[:2]] != victim.id]
    if repeated:
        raise BrokenPromiseError(f"survivors compute again what they hold: {sorted(repeated)[:5]}")
    reused = {
        (int(fetch.stage), int(p), int(batch), heir)
        for at, fetch, batch in world.pulled
        if at >= died_at
        for p in fetch.partitions
        for heir in fetch.wanted
        if (int(fetch.stage), int(p), int(batch)) in done and before[(fetch.downstream, heir)] == victim.id
    }
    demand_everything(world)
    return len(reused)


def test_blocks_of_survivors_are_read_again_and_not_computed_again() -> None:
    counts = [blocks_reused(seed) for seed in SEEDS]
    assert min(counts) >= 20, "each replayed batch reads what survivors hold of it"


def listed_blocks_suffice(seed: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Without any announcement, heirs pull what their lists name; asks for something listed are counted."""
    world = settled(seed, job=spec(every_ms=RARELY_MS))
    job = world.job_state
    world.run(5.0, until=lambda: job.progress.frontier - job.checkpoints.committed.batch >= 25)
    victim = world.of_kind("worker")[seed % 3]
    kept = {key for key, owner in owned(world).items() if owner != victim.id}
    known = min(held for row in job.progress.held for held in row)
    announce = WorkerJob._tell

    def only_new(self: WorkerJob, stage, wanted, run, out) -> None:
        """Of what the lists name nothing is announced to others."""
        if wanted.owner != self.worker:
            run = replace(run, first=BatchId(max(run.first, known + 1)))
        if run.first <= run.last:
            announce(self, stage, wanted, run, out)

    asked: list[int] = []
    send = world.network_send

    def listening(life: Life, to: str, envelope) -> None:
        for item in envelope.items:
            if isinstance(item.message, msg.Overdue) and item.message.batch <= known:
                missing = item.message.missing
                asked.extend(1 for line in missing for p in line.partitions if (line.stage, p) in kept)
        send(life, to, envelope)

    monkeypatch.setattr(world, "network_send", listening)
    with monkeypatch.context() as silent:
        silent.setattr(WorkerJob, "_tell", only_new)
        lose(world, victim)
        until_planned(world, victim.id)
        world.run(3.0)
    return len(asked)


def test_dependency_lists_come_filled_with_what_survivors_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Part (a) of section 3.3 alone: what the list names is pulled, unasked and unannounced.

    Blocks that heirs compute again are announced as they come, so they may be asked for; of what
    survivors hold nothing may.
    """
    listed = [listed_blocks_suffice(seed, monkeypatch) for seed in SEEDS]
    monkeypatch.setattr(recovery, "_available", lambda facts, placement, stage, first: [])
    unlisted = [listed_blocks_suffice(seed, monkeypatch) for seed in SEEDS]
    assert sum(listed) == 0, listed
    assert sum(unlisted) > 0, "the planted bug, empty lists, has heirs ask"


# --- many replay at once ------------------------------------------------------------------


def replayed_at_once(seed: int) -> tuple[int, int]:
    """The most workers, and the most different batches, that were replayed in one instant."""
    world, victim, before, died_at = lost_with_much_to_replay(seed)
    job = world.job_state
    assert job.recovery is not None
    target = job.recovery.target
    world.run(3.0, until=lambda: job.recovery is None)
    lost = {key for key, owner in before.items() if owner == victim.id}
    replay = [
        task
        for task in world.tasks
        if task.began >= died_at
        and task.key.cohort > 0
        and task.key.batch <= target
        and any((int(task.key.stage), int(p)) in lost for p in task.partitions)
    ]
    workers, batches = 0, 0
    for task in replay:
        running = [other for other in replay if other.began <= task.began < other.ends]
        workers = max(workers, len({other.worker for other in running}))
        batches = max(batches, len({other.key.batch for other in running}))
    return workers, batches


def demand_parallel(seed: int) -> None:
    workers, batches = replayed_at_once(seed)
    if workers < 2 or batches < 2:
        raise BrokenPromiseError(f"at most {workers} workers replayed {batches} batches at once")


def test_what_is_lost_is_replayed_by_many_workers_and_over_many_batches_at_once() -> None:
    for seed in SEEDS:
        demand_parallel(seed)


# --- who hears of a new generation late ---------------------------------------------------


OVERTAKEN = range(60)


def assigned_late(seed: int) -> World:
    """Heirs hear of the new generation when offers and announcements in its name are here already.

    With what they say kept, replay takes about 0.2 s; without, a second more, the wait of who asks for it.
    In some of `OVERTAKEN` an offer is for an heir whose batch is computed, for what is its own, before that.
    """
    world = settled(seed, job=spec(every_ms=RARELY_MS))
    job = world.job_state
    world.run(5.0, until=lambda: job.progress.frontier - job.checkpoints.committed.batch >= 25)
    send = world.network_send

    def late(life: Life, to: str, envelope) -> None:
        is_late = life.kind == "coordinator" and world.lives[to].kind == "worker"
        if is_late and any(isinstance(item.message, msg.Assign) for item in envelope.items):
            world.at(world.now + 0.02, lambda: send(life, to, envelope))
        else:
            send(life, to, envelope)

    world.network_send = late
    victim = world.of_kind("worker")[seed % 3]
    lose(world, victim)
    until_planned(world, victim.id)
    if not world.run(0.6, until=lambda: job.recovery is None) or world.asked:
        raise BrokenPromiseError(f"replay waits for what was said before the assignment: {world.asked} asked")
    demand_everything(world)
    if any(len(life.machine.role.ahead) for life in world.of_kind("worker")):
        raise BrokenPromiseError("what was said before an assignment is kept after it")
    return world


def test_what_is_said_before_the_assignment_is_kept_for_it() -> None:
    for seed in (*SEEDS, 7, 12):
        assigned_late(seed)


# --- planted bugs -------------------------------------------------------------------------


def test_planted_one_survivor_replays_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "place", all_to_one(recovery.place))
    demand_caught(demand_parallel)


def test_planted_survivors_start_over_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """All values are right, all batches go through: only the count tells."""
    plan = CoordinatorJob._facts

    def forgetful(self: CoordinatorJob, workers, before):
        return replace(plan(self, workers, before), holders={})

    monkeypatch.setattr(CoordinatorJob, "_facts", forgetful)
    monkeypatch.setattr(WorkerJob, "_is_short", lambda self, cohort, adoption: True)
    demand_caught(blocks_reused)


def test_planted_replay_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody replays a batch before everybody has done the one before: nothing runs at once."""
    jobs: list[WorkerJob] = []
    assign, ready = WorkerJob.assign, WorkerJob.ready

    def joining(self: WorkerJob, message, now, out) -> None:
        if self not in jobs:
            jobs.append(self)
        assign(self, message, now, out)

    def in_step(self: WorkerJob, *, pressed: bool = False):
        lowest = min(
            (c.next for job in jobs if job.generation == self.generation for c in job.cohorts.values()),
            default=BatchId(0),
        )
        return [c for c in ready(self, pressed=pressed) if c.next == lowest]

    monkeypatch.setattr(WorkerJob, "assign", joining)

    def run(seed: int) -> None:
        jobs.clear()
        with monkeypatch.context() as planted:
            planted.setattr(WorkerJob, "ready", in_step)
            demand_parallel(seed)

    demand_caught(run)


def test_planted_what_comes_before_the_assignment_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ahead, "keep", lambda self, message: None)
    demand_caught(assigned_late)


def test_planted_what_comes_before_the_assignment_is_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Ahead, job, generation):
        return [m for m in self._kept if m.job == job and m.generation == generation]

    monkeypatch.setattr(Ahead, "take", forgetful)
    demand_caught(assigned_late)


def test_planted_only_what_lies_behind_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is computed here already for others of its partitions is let go of before the heir asks for it."""
    monkeypatch.setattr(
        WorkerJob,
        "is_ahead",
        lambda self, m: (
            m.generation > self.generation and isinstance(m, msg.Offer) and m.first < self._oldest(m.stage)
        ),
    )
    demand_caught(assigned_late, seeds=OVERTAKEN)

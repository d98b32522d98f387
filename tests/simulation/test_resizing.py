"""Partitions split and merge while the job runs, told in full; each promise has its planted bug.

The sink sees it from outside: no batch is written in two layouts, none is left out, and sums are those
of the oracle in every layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from drizzle_streams.core import resizing
from drizzle_streams.core.ahead import Ahead
from drizzle_streams.core.checkpoints import Checkpoints
from drizzle_streams.core.coordinator_standing import JobStanding
from drizzle_streams.core.events import LeaveRequested, NodeExited
from drizzle_streams.core.resizing import Before, Resizing
from drizzle_streams.core.source_job import SourceJob
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.model.ids import NO_BATCH, BatchId, Generation, WorkerId
from drizzle_streams.model.job import Scheduling
from drizzle_streams.model.snapshot import Checkpoint
from drizzle_streams.protocol import messages as msg
from drizzle_streams.protocol import parts
from drizzle_streams.protocol.records import JobPhase
from tests.simulation import checkers
from tests.simulation.checkers import demand_everything, demand_flatness, demand_progress
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.test_boundaries import LONG_GROUP, demand_nothing_replayed
from tests.simulation.test_stories import kinds
from tests.simulation.values import spec
from tests.simulation.world import LEASE_S, Life, World

FEW, MANY = (0, 3, 2), (0, 7, 8)
"""Partitions of the three stages; not all multiples of each other."""


def ask(world: World, counts: tuple[int, ...]) -> None:
    """From now on so many partitions are wanted."""
    world.job_state.resizing.policy = lambda stage, *_: counts[stage.stage]


def counts(world: World) -> tuple[int, ...]:
    return (0, *(stage.partitions for stage in world.job_state.spec.stages[1:]))


def running(seed: int, scheduling: Scheduling = Scheduling.GROUP, **settings) -> World:
    """A job with few partitions that could have others."""
    world = World(seed, job=spec(scheduling, LONG_GROUP, resizable=True), **settings)
    world.run(0.11)
    ask(world, FEW)
    world.run(2.5)
    assert counts(world) == FEW
    assert world.written > 20
    return world


def until_counts(world: World, wanted: tuple[int, ...], within_s: float = 5.0) -> None:
    if not world.run(within_s, until=lambda: counts(world) == wanted):
        raise BrokenPromiseError(f"partitions are {counts(world)} after {within_s} s, wanted {wanted}")


def demand_exact(world: World, batches: int = 20) -> World:
    demand_progress(world, batches)
    demand_everything(world)
    return world


def split_and_merged(seed: int, scheduling: Scheduling = Scheduling.GROUP) -> World:
    world = running(seed, scheduling)
    for wanted in (MANY, FEW, (0, 1, 1), MANY):
        ask(world, wanted)
        until_counts(world, wanted)
        demand_progress(world, 5)
    demand_nothing_replayed(world)
    return demand_exact(world)


def lost_during_a_split(seed: int) -> World:
    """A worker goes at some moment between the wish and the first batches of the new layout."""
    world = running(seed)
    ask(world, MANY)
    world.run(0.02 * seed)
    victim = world.of_kind("worker")[seed % 3]
    world.crash(victim)
    world.coordinator.post(NodeExited(victim.id))
    until_counts(world, MANY)
    return demand_exact(world)


def split_unheard_of(seed: int, reached: int) -> World:
    """The coordinator dies when the split is in the ledger, and so many nodes have heard of it."""
    world = running(seed)
    coordinator, send, said = world.coordinator, world.network_send, list[str]()

    def dying(life: Life, to: str, envelope: msg.Envelope) -> None:
        if any(isinstance(item.message, msg.Assign) for item in envelope.items):
            said.append(to)
            if len(said) > reached:
                coordinator.alive = False
        if life.alive:
            send(life, to, envelope)

    world.network_send = dying
    ask(world, MANY)
    assert world.run(3.0, until=lambda: not coordinator.alive)
    world.network_send = send
    world.run(0.2)
    world.start_coordinator()
    assert counts(world) == MANY, "what is in the ledger holds"
    ask(world, MANY)
    return demand_exact(world)


def hear_late(world: World, who: frozenset[str], kind: type[msg.Message], late_s: float) -> None:
    """From now on messages of a kind take so much longer to some."""
    send = world.network_send

    def slowly(life: Life, to: str, envelope: msg.Envelope) -> None:
        if to in who and any(isinstance(item.message, kind) for item in envelope.items):
            world.at(world.now + late_s, lambda: send(life, to, envelope))
        else:
            send(life, to, envelope)

    world.network_send = slowly


def sealed_beyond_the_cut(seed: int) -> World:
    """A source hears of the cut when it has sealed more: the boundary follows, and only then is split."""
    world = running(seed)
    hear_late(world, frozenset({next(iter(world.disks))}), msg.Cut, 0.13)
    ask(world, MANY)
    until_counts(world, MANY)
    return demand_exact(world)


def come_back_before_the_cut_moves(seed: int) -> World:
    """Between a cut and the later one that follows a source that was ahead, another source has a new life."""
    world = running(seed)
    late, other = world.disks
    hear_late(world, frozenset({late}), msg.Cut, 0.4)
    ask(world, MANY)
    assert world.run(2.0, until=lambda: world.job_state.boundary is not None)
    (lost,) = [source for source in world.of_kind("source") if source.id == other]
    world.crash(lost)
    world.run(0.03 + 0.01 * seed)
    world.start_source(other)
    until_counts(world, MANY)
    return demand_exact(world)


def woken_in_another_layout(seed: int) -> World:
    """A worker is cut off with input it has not computed, is judged lost, and wakes up after the split."""
    world = running(seed)
    sleeper = world.of_kind("worker")[seed % 3]
    world.run(0.01 * seed)
    world.pause(sleeper)
    world.run(2 * LEASE_S)
    ask(world, MANY)
    until_counts(world, MANY)
    demand_progress(world, 5)
    world.resume(sleeper)
    return demand_exact(world)


def nodes_hear_late(seed: int) -> World:
    """Some hear of the new layout when others work in it already."""
    world = running(seed)
    late = frozenset(life.id for life in world.of_kind("worker")[: 1 + seed % 2])
    hear_late(world, late, msg.Assign, 0.15)
    for wanted in (MANY, FEW):
        ask(world, wanted)
        until_counts(world, wanted)
        demand_progress(world, 5)
    return demand_exact(world)


@pytest.mark.parametrize("scheduling", list(Scheduling))
def test_partitions_split_and_merge_under_load(scheduling: Scheduling) -> None:
    for seed in range(2):
        world = split_and_merged(seed, scheduling)
        assert kinds(world).count("PartitionsResized") >= 4
        assert len(set(world.sink.layouts.values())) == 3, "batches were written in each of the layouts"
        demand_flatness(world)


def test_state_of_a_split_comes_from_those_who_had_it() -> None:
    handed_over = sum(split_and_merged(seed).handed_over for seed in range(2))
    assert handed_over > 0


def test_workers_that_join_are_given_partitions_to_share() -> None:
    """Two partitions for one worker become eight for four, without anybody asking for it."""
    world = World(3, workers=1, job=spec(group_size=LONG_GROUP, resizable=True))
    world.run(2.0)
    assert counts(world)[2] == 2
    for _ in range(3):
        world.start_worker()
    world.run(3.0)
    assert counts(world)[2] == 8
    placed = world.job_state.placement.by_owner(2)
    assert sorted(len(held) for held in placed.values()) == [2, 2, 2, 2]
    demand_nothing_replayed(world)
    demand_exact(world)


def test_what_was_split_is_merged_when_few_workers_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resizing, "PARTITIONS_PER_WORKER_MAX", 2)
    monkeypatch.setattr(resizing, "MERGE_AFTER_S", 2.0)
    world = World(3, workers=4, job=spec(group_size=LONG_GROUP, resizable=True))
    world.run(2.0)
    assert counts(world)[2] == 8
    for life in world.of_kind("worker")[:3]:
        life.post(LeaveRequested())
    world.run(1.5)
    assert counts(world)[2] == 8, "who left may come back: nothing is merged at once"
    world.run(3.0)
    assert counts(world)[2] == 2
    demand_exact(world)


def test_a_job_whose_partitions_are_fixed_keeps_them() -> None:
    world = World(3, workers=1, job=spec(group_size=LONG_GROUP))
    for _ in range(3):
        world.start_worker()
    world.run(3.0)
    assert counts(world) == (0, 3, 2)


@pytest.mark.parametrize(
    "story",
    [
        lost_during_a_split,
        sealed_beyond_the_cut,
        come_back_before_the_cut_moves,
        woken_in_another_layout,
        nodes_hear_late,
    ],
)
def test_a_split_is_exact_whatever_happens(story: Callable[[int], World]) -> None:
    for seed in range(8):
        story(seed)


@pytest.mark.parametrize("reached", [0, 1, 3, 4])
def test_a_coordinator_dies_between_the_ledger_and_the_split(reached: int) -> None:
    for seed in range(2):
        world = split_unheard_of(seed, reached)
        assert "JobRestored" in kinds(world)


def test_a_coordinator_dies_on_the_way_to_a_split() -> None:
    """Nothing of it is in the ledger: the old layout goes on, and the wish comes again."""
    for seed in range(3):
        world = running(seed)
        ask(world, MANY)
        world.run(0.01 + 0.02 * seed)
        world.crash(world.coordinator)
        world.run(0.3)
        world.start_coordinator()
        ask(world, MANY)
        until_counts(world, MANY)
        demand_exact(world)


def damaged_after_a_split(seed: int) -> World:
    """The checkpoint of the split is damaged, and a worker is lost before there is another one."""
    world = running(seed)
    ask(world, MANY)
    until_counts(world, MANY)
    checkpoint = world.job_state.checkpoints.committed
    world.snapshots.damaged |= {part.key for ref in checkpoint.snapshots for part in ref.parts}
    victim = world.of_kind("worker")[seed % 3]
    world.crash(victim)
    world.coordinator.post(NodeExited(victim.id))
    world.run(4.0)
    if world.job_state.phase is not JobPhase.FAILED:
        return demand_exact(world)
    return world


def test_a_checkpoint_that_is_damaged_right_after_a_split_fails_the_job_and_never_its_results() -> None:
    """There is none behind it that could be read in the new layout: the job says so."""
    worlds = [damaged_after_a_split(seed) for seed in range(4)]
    failed = [world for world in worlds if world.job_state.phase is JobPhase.FAILED]
    assert failed
    assert all("damaged" in world.job_state.detail for world in failed)


# --- planted bugs -------------------------------------------------------------------------


def demand_caught(*runs: Callable[[int], object]) -> None:
    by = (BrokenPromiseError, AssertionError, LookupError)
    checkers.demand_caught(*runs, seeds=range(8), by=by)


def test_planted_a_range_is_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cohorts of the old layout live on beside those of the new one, under the same numbers."""
    lay_out = WorkerJob.lay_out

    def kept(self: WorkerJob, job):
        lay_out(self, job)
        return frozenset()

    monkeypatch.setattr(WorkerJob, "lay_out", kept)
    demand_caught(split_and_merged)


def test_planted_the_state_of_a_neighbour_range_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what overlaps, only the first is taken: by those who ask its former owners, and of snapshots."""
    formers, refs = Before.formers, Checkpoint.refs
    monkeypatch.setattr(Before, "formers", lambda self, *place: dict(list(formers(self, *place).items())[:1]))
    monkeypatch.setattr(Checkpoint, "refs", lambda self, *place: refs(self, *place)[:1])
    demand_caught(split_and_merged)


def test_planted_nobody_waits_for_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that are sealed beyond the boundary may be computed in both layouts."""
    monkeypatch.setattr(Resizing, "stands", lambda self, *_: True)
    monkeypatch.setattr(Resizing, "sealed", lambda self, *_: NO_BATCH)
    demand_caught(blocks_of_both_layouts)


def blocks_of_both_layouts(seed: int) -> World:
    """A worker that was judged lost has what it needs for batches beyond the cut, and wakes up."""
    world = running(seed)
    held = world.of_kind("worker")[seed % 3]
    send = world.network_send

    def deaf(life: Life, to: str, envelope: msg.Envelope) -> None:
        """Sources hear of cuts late, the sleeper not at all."""
        cut = any(isinstance(item.message, msg.Cut) for item in envelope.items)
        if cut and to in world.disks:
            world.at(world.now + 0.13, lambda: send(life, to, envelope))
        elif not (to == held.id and any(isinstance(i.message, msg.Cut | msg.Assign) for i in envelope.items)):
            send(life, to, envelope)

    world.network_send = deaf
    ask(world, MANY)
    until_counts(world, MANY)
    world.run(0.3)
    world.network_send = send
    return demand_exact(world)


def test_planted_a_source_says_that_it_halted_while_it_seals_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def rash(self: SourceJob) -> msg.Halted | None:
        cut, self._halting = self._halting, None
        if cut is None:
            return None
        return msg.Halted(self.job, self.generation, self.source, cut.group, cut.last, cut.last)

    monkeypatch.setattr(SourceJob, "halted", rash)
    demand_caught(blocks_of_both_layouts)


def asked_nobody(seed: int) -> World:
    world = nodes_hear_late(seed)
    if world.asked:
        raise BrokenPromiseError("somebody had to ask for what was said early")
    return world


def test_what_is_said_in_a_layout_that_is_not_known_yet_waits_for_it() -> None:
    for seed in range(2):
        asked_nobody(seed)


def test_planted_early_words_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ahead, "keep", lambda self, message: None)
    demand_caught(asked_nobody)


def test_planted_early_words_are_taken_in_the_old_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a peer says of the new partitions is filed under the old ones of the same number."""
    monkeypatch.setattr(WorkerJob, "is_ahead", lambda self, message: False)
    demand_caught(nodes_hear_late, asked_nobody, blocks_of_both_layouts)


def test_planted_what_is_held_in_the_old_layout_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    hear = JobStanding.hear_holding

    def gullible(self: JobStanding, worker, holding) -> None:
        hear(self, worker, replace(holding, generation=self.generation))

    monkeypatch.setattr(JobStanding, "hear_holding", gullible)
    demand_caught(lambda seed: split_unheard_of(seed, 0))


def test_planted_reports_of_the_old_layout_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that comes late speaks of partitions that there are no more."""
    reported = JobStanding.reported

    def gullible(self: JobStanding, report) -> None:
        self.spec = replace(self.spec, stages=tuple(replace(s, laid=0) for s in self.spec.stages))
        reported(self, report)

    monkeypatch.setattr(JobStanding, "reported", gullible)
    demand_caught(late_report)


def late_report(seed: int) -> World:
    """What a worker reports at the boundary arrives when the layout is another one."""
    world = running(seed)
    ask(world, MANY)
    until_counts(world, MANY)
    demand_progress(world, 5)
    job = world.job_state
    reporter = world.of_kind("worker")[0]
    held = job.progress.done[2][0]
    line = parts.Done(job.spec.stages[2].stage, (job.spec.stages[2].stage,), NO_BATCH, BatchId(held + 50))
    stale = msg.DoneReport(
        job.spec.job, Generation(job.generation - 1), WorkerId(reporter.id), (line,), (), whole=False
    )
    job.reported(stale)
    if max(job.progress.done[2]) > held + 40:
        raise BrokenPromiseError("a report of another layout moved the frontier of this one")
    return world


def test_planted_recovery_goes_behind_the_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint before it is fallen back to, and its batches are computed in the new layout."""
    lay_out = Checkpoints.lay_out

    def keeping(self: Checkpoints, job) -> None:
        previous = self.previous
        lay_out(self, job)
        self.previous = previous

    monkeypatch.setattr(Checkpoints, "lay_out", keeping)
    demand_caught(damaged_after_a_split)


def test_planted_the_new_layout_is_not_persisted(monkeypatch: pytest.MonkeyPatch) -> None:
    from drizzle_streams.core.coordinator_job import CoordinatorJob

    persist = CoordinatorJob._persist_plan

    def old(self: CoordinatorJob, relief, out) -> None:
        now = self.spec
        stages = tuple(
            replace(stage, partitions=FEW[stage.stage]) if stage.partitions_least else stage
            for stage in now.stages
        )
        self.spec = replace(now, stages=stages)
        persist(self, relief, out)
        self.spec = now

    monkeypatch.setattr(CoordinatorJob, "_persist_plan", old)
    demand_caught(lambda seed: split_unheard_of(seed, 4))


def test_the_boundary_follows_what_is_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that, sources that are ahead keep everybody from standing there for ever."""
    monkeypatch.setattr(Resizing, "sealed", lambda self, *_: NO_BATCH)
    demand_caught(sealed_beyond_the_cut)


def test_a_cut_that_moves_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that, a source that came back waits for ever for the schedule of batches in between."""
    from drizzle_streams.core.coordinator_job import CoordinatorJob

    monkeypatch.setattr(CoordinatorJob, "_launch_to_sources", lambda *_: None)
    demand_caught(come_back_before_the_cut_moves)

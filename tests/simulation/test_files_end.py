"""The end of input of `dz.files`: everything is computed once, then the job stops; whoever is killed.

A chunk is a record here, and a partition's log its chunks, which lie there from the start. Sources offer
one of each partition to a batch and say when there are no more; workers read them; the coordinator
stops the job when everything up to there is written.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from drizzle_streams.core.coordinator_commits import JobCommits
from drizzle_streams.core.events import NodeExited
from drizzle_streams.core.source_job import SourceJob
from drizzle_streams.protocol.records import JobPhase
from tests.simulation import checkers
from tests.simulation.checkers import demand_everything, describe
from tests.simulation.disks import BrokenPromiseError
from tests.simulation.faults import Nemesis, heal
from tests.simulation.values import JOB, spec
from tests.simulation.world import World

CHUNKS = 60
"""Of the partition with the fewest: three seconds of batches."""
ENDS_WITHIN_S = 40.0
SEEDS = range(2)

pytestmark = pytest.mark.timeout(600)  # many seconds of CPU on a busy machine, none of waiting


def reading_files(seed: int, **settings) -> World:
    """A job that reads files: partitions of unlike length, and nothing else ever comes."""
    plain = spec()
    reads = replace(plain.stages[0], chunks=CHUNKS * 4)
    world = World(seed, job=replace(plain, stages=(reads, *plain.stages[1:])), **settings)
    world.producing = False
    for disk in world.disks.values():
        for local, log in enumerate(disk.logs):
            dice = world.random
            log += [(dice.randrange(12), dice.randrange(100)) for _ in range(CHUNKS + 7 * local)]
    return world


def phase(world: World) -> JobPhase | None:
    job = world.coordinator.machine.role.jobs.get(JOB)
    return None if job is None else job.phase


def demand_end(world: World) -> None:
    """The job stops by itself, and at that moment all of its input is in the sink, once."""
    if not world.run(ENDS_WITHIN_S, until=lambda: phase(world) is JobPhase.STOPPED):
        raise BrokenPromiseError(f"the job does not end; {describe(world)}")
    demand_everything(world, within_s=0.0)
    assert world.job_state.detail == "all of its input is computed"
    world.run(3.0)
    assert set(world.ledger.records) == {f"job:{JOB}:spec"}
    assert world.snapshots.parts == {}
    assert all(not disk.bounds for name, disk in world.disks.items() if world.lives[name].alive)
    assert all(not life.machine.role.jobs for life in world.of_kind("worker"))


@pytest.mark.parametrize("sources", [1, 2])
def test_a_job_that_reads_files_ends_when_all_is_written(sources: int) -> None:
    world = reading_files(1, sources=sources)
    demand_end(world)
    last = max(bound.batch for bound in world.history.fixed.values() if bound.records)
    longest = max(len(log) for disk in world.disks.values() for log in disk.logs)
    assert last == longest, "one chunk of each partition to a batch, from batch 0 on, and then the end"


@pytest.mark.parametrize("seed", range(8))
def test_it_ends_exactly_through_every_fault(seed: int) -> None:
    world = reading_files(seed, workers=2 + seed % 3, sources=1 + seed % 2)
    nemesis = Nemesis(world, until=world.now + 4.0)
    try:
        world.run(4.0)
        heal(world)
        demand_end(world)
    except Exception as error:
        raise BrokenPromiseError(f"seed {seed}: {error}\n" + "\n".join(nemesis.told)) from error


def at_the_end(world: World) -> bool:
    """A source has sealed all there is, and it is not all written."""
    return phase(world) is JobPhase.RUNNING and bool(world.job_state.ended_at)


def kill_at_the_end(seed: int, kind: str) -> World:
    world = reading_files(seed)
    assert world.run(ENDS_WITHIN_S, until=lambda: at_the_end(world))
    victim = world.of_kind(kind)[0]
    world.crash(victim)
    if kind == "worker":
        world.coordinator.post(NodeExited(victim.id))
    world.run(0.2)
    if kind == "source":
        world.start_source(victim.id)
    elif kind == "coordinator":
        world.start_coordinator()
    demand_end(world)
    return world


@pytest.mark.parametrize("kind", ["worker", "source", "coordinator"])
def test_whoever_is_killed_at_the_end_it_ends(kind: str) -> None:
    for seed in SEEDS:
        kill_at_the_end(seed, kind)


demand_caught = partial(checkers.demand_caught, seeds=SEEDS)


def slow_sink(seed: int) -> None:
    world = reading_files(seed)
    world.sink_seconds_max = 0.4
    demand_end(world)


def test_planted_a_job_that_stops_when_all_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read is not written."""
    for seed in SEEDS:
        slow_sink(seed)
    ended = lambda self: len(self.ended_at) == len(self.sources()) > 0  # noqa: E731 - it replaces a method
    monkeypatch.setattr(JobCommits, "_input_is_done", ended)
    demand_caught(slow_sink)


def test_planted_the_first_source_that_ends_ends_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def done(self: JobCommits) -> bool:
        return bool(self.ended_at) and self.progress.frontier >= min(self.ended_at.values())

    def uneven(seed: int) -> None:
        world = reading_files(seed)
        for log in world.disks["source-2"].logs:
            log.extend(log[:])
        demand_end(world)

    for seed in SEEDS:
        uneven(seed)
    monkeypatch.setattr(JobCommits, "_input_is_done", done)
    demand_caught(uneven)


def test_planted_a_source_that_restarts_forgets_that_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job would wait for ever."""
    ended, recover = SourceJob.ended, SourceJob.recover
    recovered: list[SourceJob] = []

    def not_after_a_restart(self: SourceJob) -> bool:
        return self not in recovered and ended.__get__(self)

    def forgetful(self: SourceJob, *found) -> None:
        recover(self, *found)
        recovered.append(self)

    monkeypatch.setattr(SourceJob, "ended", property(not_after_a_restart))

    monkeypatch.setattr(SourceJob, "recover", forgetful)
    demand_caught(lambda seed: kill_at_the_end(seed, "source"), seeds=range(8))

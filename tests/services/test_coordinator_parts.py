"""The coordinator's parts alone: the ledger within a life, job files, chores, the stopwatch, status."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from drizzle_streams.coordinator import chores as chore
from drizzle_streams.coordinator import programs as job_files
from drizzle_streams.coordinator import status
from drizzle_streams.coordinator.chores import Chores
from drizzle_streams.coordinator.memory import Memory
from drizzle_streams.coordinator.programs import PROGRAMS_BYTES_MAX, Programs
from drizzle_streams.coordinator.stopwatch import TURNS_KEPT, JobCost, Stopwatch
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.events import LaunchMeasured, NodeExited
from drizzle_streams.core.latencies import Latencies
from drizzle_streams.core.machine import Actions, Delete, Put, Send
from drizzle_streams.core.story import Story
from drizzle_streams.errors import BackPressureError, CorruptError, FencedError, ProtocolError, StoreError
from drizzle_streams.model.ids import BatchId, Generation, GroupId, JobId, NodeId
from drizzle_streams.protocol.codec import encode_record
from drizzle_streams.protocol.messages import Envelope, Heartbeat, Item, Launch
from drizzle_streams.protocol.parts import BatchLatencies
from drizzle_streams.protocol.records import GroupRecord, JobPhase, JobRecord, job_key
from drizzle_streams.protocol.tokens import SEAL_BYTES, Keyring
from drizzle_streams.stores.memory import MemoryLedger, MemorySnapshotStore
from drizzle_streams.transport.http_errors import RefusedError
from tests.services.service_worlds import coordinator_on, running, two_stages, until

JOB = JobId("sums")
RING = Keyring(("secret-of-the-tests",))
SPEC = two_stages()
RECORD = JobRecord(SPEC, JobPhase.WAITING, ())


# --- the ledger within a life ------------------------------------------------------------------


async def test_what_was_persisted_is_read_again_by_the_next_life(ledger):
    memory = Memory(ledger)
    assert (await memory.begin()).records == {}
    group = GroupRecord(GroupId(1), BatchId(0), BatchId(4), 1.0)
    await memory.persist([Put(job_key(JOB, "spec"), RECORD), Put(job_key(JOB, "group"), group)])
    await memory.persist([Delete(job_key(JOB, "group"))])
    await memory.keep_program(JOB, b"file")
    left = await Memory(ledger).begin()
    assert left.records == {"job:sums:spec": RECORD}
    assert left.programs == {JOB: b"file"}


async def test_a_life_is_fenced_out_by_the_next_one(ledger):
    first, second = Memory(ledger), Memory(ledger)
    await first.begin()
    await second.begin()
    with pytest.raises(FencedError):
        await first.persist([Put(job_key(JOB, "spec"), RECORD)])


async def test_raising_the_fence_never_fences_our_own_writes(ledger, monkeypatch):
    """A slow server: without turns, the raise would overtake the writes that were begun before it."""
    memory = Memory(ledger)
    await memory.begin()
    write = ledger.write

    async def slow(*arguments) -> None:
        await asyncio.sleep(0.01)
        await write(*arguments)

    monkeypatch.setattr(ledger, "write", slow)
    writes = [memory.keep_program(JobId(f"job-{n}"), b"x") for n in range(5)]
    await asyncio.gather(*writes, memory.raise_generation(), memory.keep_program(JOB, b"y"))
    assert memory.generation == await ledger.generation()


async def test_changes_are_told_only_after_they_are_durable(ledger, monkeypatch):
    memory = Memory(ledger)
    await memory.begin()
    told: list = []
    memory.watch(told.append)
    await memory.persist([Put(job_key(JOB, "spec"), RECORD)])
    assert [change.key for change in told] == ["job:sums:spec"]

    async def refuse(*_) -> None:
        raise StoreError("no")

    monkeypatch.setattr(ledger, "write", refuse)
    with pytest.raises(StoreError):
        await memory.persist([Delete(job_key(JOB, "spec"))])
    assert len(told) == 1


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [("job:sums:what", b"", CorruptError), ("job:sums:spec", b"\xc1", ProtocolError)],
)
async def test_a_damaged_ledger_is_an_error_at_the_start(ledger, key, value, error):
    await ledger.write(await ledger.raise_generation(), {key: value}, [])
    with pytest.raises(error):
        await Memory(ledger).begin()


async def test_keys_of_other_releases_are_left_alone(ledger, caplog):
    await ledger.write(await ledger.raise_generation(), {"future": b"?"}, [])
    assert (await Memory(ledger).begin()).records == {}
    assert "another release" in caplog.text


# --- job files ---------------------------------------------------------------------------------


async def programs_of(ledger: MemoryLedger, active: set[JobId]) -> Programs:
    memory = Memory(ledger)
    left = await memory.begin()
    return Programs(memory, left.programs, active.__contains__, RING)


async def test_a_submission_that_comes_to_nothing_leaves_no_file(ledger):
    programs = await programs_of(ledger, set())

    async def fail() -> None:
        async with programs.submission(JOB, b"file"):
            assert "program:sums" in ledger.sealed
            raise RuntimeError("the machine did not take it")

    with pytest.raises(RuntimeError):
        await fail()
    assert (programs.get(JOB), "program:sums" in ledger.sealed) == (None, False)


async def test_forgetting_a_job_never_takes_the_file_of_its_successor(ledger):
    active: set[JobId] = set()
    programs = await programs_of(ledger, active)
    async with programs.submission(JOB, b"one"):
        active.add(JOB)
    active.discard(JOB)
    async with programs.submission(JOB, b"two"):
        await programs.forget(JOB)  # the first one's end comes late
        with pytest.raises(RefusedError):
            async with programs.submission(JOB, b"three"):
                pass
        active.add(JOB)
    await programs.forget(JOB)
    assert programs.get(JOB) == RING.seal(JOB, b"two")
    active.discard(JOB)
    await programs.forget(JOB)
    assert ledger.sealed == {}


async def test_job_files_are_bounded_together(ledger):
    active = {JobId("a"), JobId("b"), JobId("c"), JobId("d")}
    programs = await programs_of(ledger, set())
    programs._active = active.__contains__
    active.clear()
    for name in ("a", "b", "c", "d"):
        async with programs.submission(JobId(name), bytes(PROGRAMS_BYTES_MAX // 4 - SEAL_BYTES)):
            active.add(JobId(name))
    with pytest.raises(BackPressureError, match="job files"):
        async with programs.submission(JOB, b"x"):
            pass
    assert (len(programs), programs.bytes) == (4, PROGRAMS_BYTES_MAX)


async def test_job_files_on_their_way_in_count_against_the_bound(ledger, monkeypatch):
    """Two at once: the first is not in the table yet, for the ledger is slow."""
    active: set[JobId] = set()
    programs = await programs_of(ledger, active)
    write, outcomes = ledger.write, list[str]()

    async def slow(*arguments) -> None:
        await asyncio.sleep(0)
        await write(*arguments)

    async def post(name: str) -> None:
        try:
            async with programs.submission(JobId(name), bytes(600)):
                active.add(JobId(name))
                outcomes.append("taken")
        except BackPressureError:
            outcomes.append("refused")

    monkeypatch.setattr(ledger, "write", slow)
    monkeypatch.setattr(job_files, "PROGRAMS_BYTES_MAX", 1_000)
    await asyncio.gather(post("a"), post("b"))
    assert sorted(outcomes) == ["refused", "taken"]
    assert len(programs) == 1


# --- chores ------------------------------------------------------------------------------------


async def test_chores_are_done_in_order_and_a_failure_does_not_stop_them(snapshots, monkeypatch):
    run = JobId("sums@3")
    (part,) = await snapshots.put(run, Generation(3), [("a", b"1")])
    chores, calls = Chores(snapshots), []
    delete = snapshots.delete

    async def refuse_once(keys) -> None:
        calls.append(keys)
        if len(calls) == 1:
            raise StoreError("away")
        await delete(keys)

    monkeypatch.setattr(snapshots, "delete", refuse_once)
    work = asyncio.create_task(chores.run())
    chores.add(chore.Fence(run, Generation(4)), chore.Delete((part.key,)), chore.Delete((part.key,)))
    await until(lambda: chores.counters.total() == 3, "all are done")
    assert chores.counters == {"done": 2, "failed": 1}
    with pytest.raises(FencedError):
        await snapshots.put(run, Generation(3), [("b", b"2")])
    work.cancel()


async def test_chores_that_wait_are_bounded(snapshots, monkeypatch):
    monkeypatch.setattr(chore, "CHORES_WAITING_MAX", 3)
    chores = Chores(snapshots)
    chores.add(*(chore.Delete((str(n),)) for n in range(5)))
    assert (len(chores), chores.counters["given_up"]) == (3, 2)


async def test_a_start_clears_what_a_job_left_whose_end_was_cut_short(ledger: MemoryLedger):
    snapshots = MemorySnapshotStore()
    generation = await ledger.raise_generation()
    ended = JobRecord(replace(SPEC, born=generation), JobPhase.STOPPED, (), "stopped by request")
    await ledger.write(generation, {job_key(JOB, "spec"): encode_record(ended)}, [])
    run = JobId(ended.spec.run)
    await snapshots.put(run, generation, [("left", b"over")])
    async with running(coordinator_on(ledger, snapshots)):

        async def cleared() -> bool:
            return not await snapshots.written_before(run, Generation(1_000))

        await until(cleared, "nothing is left")


# --- what coordination costs -------------------------------------------------------------------


class Scripted:
    """A machine that answers as told."""

    def __init__(self, *answers: Actions) -> None:
        self.answers = list(answers)

    def handle(self, event, now) -> Actions:
        return self.answers.pop(0)

    def on_deadline(self, now) -> Actions:
        return self.answers.pop(0)

    def next_deadline(self) -> float | None:
        return None


def said(*messages) -> Actions:
    items = tuple(Item(1, message) for message in messages)
    return Actions(send=(Send(NodeId("worker"), Envelope(NodeId("c"), 1, 1, 1, 1, 0, items)),))


def launch(job: str, first: int) -> Launch:
    group, last = GroupId(first), BatchId(first + 4)
    return Launch(JobId(job), Generation(1), group, BatchId(first), last, 0.0, 50.0, 5)


async def test_launching_turns_are_measured_from_call_to_call():
    # Each turn: the call begins at one reading of the clock, has decided at the next, and ends at the third.
    times = iter([0.0, 0.02, 0.1, 1.0, 1.1, 1.3, 2.0, 2.1, 2.2, 2.5, 2.55, 2.6])
    beat = said(Heartbeat(NodeId("w"), 0.0))
    used = iter([10.0, 10.05, 20.0, 20.1, 30.0, 40.0, 40.1])
    turns = Scripted(said(launch("a", 0)), said(launch("a", 5)), beat, said(launch("b", 0)))
    watch = Stopwatch(turns, lambda: next(times), lambda: next(used))
    event, heard = NodeExited(NodeId("nobody")), list[LaunchMeasured]()
    watch.on_launch = heard.append
    for _ in range(4):
        watch.handle(event, 0.0)
        watch.next_deadline()
    assert [(m.job, m.group, round(m.plan_s, 6), round(m.carry_out_s, 6)) for m in heard] == [
        ("a", 0, 0.02, 0.08),
        ("a", 5, 0.1, 0.2),
        ("b", 0, 0.05, 0.05),
    ]
    cost = watch.cost(JobId("a"))
    assert (cost.messages, cost.launching_turns) == (2, 2)
    assert (round(cost.seconds, 6), round(cost.cpu_seconds, 6)) == (0.4, 0.15)
    assert cost.bytes == 2 * len(encode_record(launch("a", 0)))
    assert round(watch.busy_seconds, 6) == 0.7
    assert cost.overhead == pytest.approx(0.1 / 1.0), "0.1 s of coordination in the second between launches"
    assert watch.cost(JobId("b")).overhead == 0.0
    watch.forget(JobId("a"))
    assert watch.cost(JobId("a")).messages == 0


def test_overhead_looks_back_on_a_bounded_number_of_turns():
    cost = JobCost()
    for turn in range(10 * TURNS_KEPT):
        cost.turns.append((float(turn), 0.25))
    assert (len(cost.turns), cost.overhead) == (TURNS_KEPT, 0.25)


# --- status ------------------------------------------------------------------------------------


def running_job(frontier: int = 9) -> CoordinatorJob:
    """Batches 10..14 are launched and due every 20 ms from cluster time 100 s on."""
    job = CoordinatorJob(replace(SPEC, stages=tuple(replace(s, partitions=4) for s in SPEC.stages)), Story())
    job.phase, job.generation = JobPhase.RUNNING, Generation(3)
    job.group = GroupRecord(GroupId(2), BatchId(10), BatchId(14), 100_000.0)
    for stage in job.spec.stages:
        job.progress.finish(stage.stage, tuple(range(4)), BatchId(frontier))  # type: ignore[arg-type]
    return job


@pytest.mark.parametrize(
    ("frontier", "now_s", "batches", "ms"),
    [
        (9, 100.000, 0, 0.0),  # the first of the group is not due yet
        (9, 100.015, 0, 0.0),
        (9, 100.025, 1, 5.0),
        (9, 100.065, 3, 45.0),
        (9, 109.0, 5, 8_980.0),  # no more than what is launched
        (12, 100.065, 0, 0.0),
        (14, 109.0, 0, 8_880.0),
        (4, 100.000, 5, 80.0),  # the schedule of the newest group reaches back
    ],
)
def test_lag_counts_what_is_due_and_not_done(frontier, now_s, batches, ms):
    assert status.lag(running_job(frontier), now_s) == {"batches": batches, "ms": pytest.approx(ms, abs=0.01)}


def test_a_job_that_ended_lags_behind_nothing():
    job = running_job()
    job.phase = JobPhase.STOPPED
    assert status.lag(job, 1e6) == {"batches": 0, "ms": 0.0}


def test_percentiles_are_values_that_occurred():
    kept = Latencies()
    kept.observe(BatchLatencies(BatchId(1), tuple(float(batch) for batch in range(1, 1_001)), (0.0,) * 1_000))
    values = status.latencies(kept)
    assert values["all"] == {"p50": 500.0, "p95": 950.0, "p99": 990.0, "max": 1_000.0, "count": 1_000}
    assert values["recent"] == {"p50": 900.0, "p95": 990.0, "p99": 998.0, "max": 1_000.0, "count": 200}
    assert status.percentiles([7.0])["recent"] == {"p50": 7.0, "p95": 7.0, "p99": 7.0, "max": 7.0, "count": 1}
    assert status.percentiles([]) == {"all": None, "recent": None}

"""The performer alone: the test is the machine, a list is the driver, the engine and the job are real."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

import drizzle_streams as dz
from drizzle_streams.connectors.base import Sink, SinkSettings
from drizzle_streams.connectors.memory import MemorySink, memory
from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.model.ids import COORDINATOR, BatchId, CohortId, Generation, JobId, NodeId, StageId
from drizzle_streams.model.replanning import StageChoice, StageSeen
from drizzle_streams.model.task import TaskKey
from drizzle_streams.worker import storing as storing_module
from drizzle_streams.worker.execution import LATE_REASON
from drizzle_streams.worker.jobs import JobRun
from tests.worker.conftest import World
from tests.worker.worker_worlds import (
    COHORT,
    GENERATION,
    JOB,
    MAP,
    REDUCE,
    SOURCE,
    Hand,
    all_rows,
    laid_out,
    latest,
    letters_in,
    metric,
    offer_of,
    partitions,
    payload_of,
    piece,
    ready,
    some_rows,
    sums_of,
    until,
)

A, B = partitions(0, 1), partitions(2, 3)
ALL = partitions(0, 1, 2, 3)


async def exchanged(a: Hand, b: Hand, batch: int) -> None:
    """Both map; each takes in what the other attaches to its notification."""
    await a.map(batch, A)
    await b.map(batch, B)
    for of, held, to, wanted in ((a, A, b, B), (b, B, a, A)):
        said = ready(of, batch, held, wanted)
        payload = of.performer.attach(to.node, said)
        assert payload is not None
        assert to.performer.absorb(of.node, said, payload)


async def one_batch(a: Hand, b: Hand, batch: int) -> None:
    """A batch through both stages of both workers, to the sink."""
    await exchanged(a, b, batch)
    for hand, own in ((a, A), (b, B)):
        await hand.reduce(batch, own, [piece(a, batch, A, own), piece(b, batch, B, own)])
        await hand.write(batch, batch)


async def test_batches_flow_through_two_workers_to_the_sink(world: World) -> None:
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    for batch in range(5):
        await one_batch(a, b, batch)
    assert latest(world.results) == sums_of(all_rows(5))
    tokens = [token for token, _ in world.results.writes]
    assert {token.job for token in tokens} == {"counts@2"}
    assert {token.partition for token in tokens} == {0, 1, 2, 3}


async def test_the_latency_of_a_replay_is_nobody_s(world: World) -> None:
    hand = await world.hand("a")
    await hand.open(ALL)
    for batch, replayed in ((0, True), (1, False)):
        await hand.map(batch, ALL, replayed=replayed)
        await hand.reduce(batch, ALL, [piece(hand, batch, ALL, ALL)], replayed=replayed)
        await hand.write(batch, batch)
    for stage in (MAP, REDUCE):
        labels = {"job": JOB, "stage": str(stage)}
        assert metric(hand.registry, "drizzle_task_seconds_count", **labels) == 2
        assert metric(hand.registry, "drizzle_batch_latency_seconds_count", **labels) == 1
    assert latest(world.results) == sums_of(all_rows(2)), "its rows are written all the same"


async def test_nothing_is_held_once_it_is_released_dropped_and_written(world: World) -> None:
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    for batch in range(3):
        await one_batch(a, b, batch)
    for hand in (a, b):
        assert hand.bench.fragments.bytes > 0
        assert hand.bench.blocks.bytes > 0
        for stage in (MAP, REDUCE):
            hand.performer.perform(act.ReleaseFragments(JOB, stage, BatchId(2)))
        hand.performer.perform(act.DropBlocks(JOB, BatchId(2)))
        assert (hand.bench.fragments.bytes, hand.bench.fragments.fragments) == (0, 0)
        assert (hand.bench.blocks.bytes, hand.bench.blocks.blocks) == (0, 0)
        assert not any(cohort.outputs for cohort in hand.performer.jobs[JOB].cohorts.values())


async def test_release_and_drop_spare_what_lies_behind(world: World) -> None:
    a, b = await world.pair()
    for batch in range(3):
        await exchanged(a, b, batch)
    a.performer.perform(act.ReleaseFragments(JOB, REDUCE, BatchId(1)))
    a.performer.perform(act.DropBlocks(JOB, BatchId(1)))
    await a.open(A, batch=1)
    await a.reduce(2, A, [piece(a, 2, A, A), piece(b, 2, B, A)])


async def test_a_snapshot_opens_on_another_worker_as_the_same_state(world: World) -> None:
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    for batch in range(8):
        await one_batch(a, b, batch)
    first = await a.snapshot(7)
    await one_batch(a, b, 8)
    second = await a.snapshot(8)
    await one_batch(a, b, 9)
    third = await a.snapshot(9)
    assert third.batch == 9
    assert third.partitions == A
    assert third.parts[: len(first.parts)] == first.parts, "the third snapshot is not incremental"
    assert not set(third.parts).intersection(second.parts), "damage of one part would spoil both"

    c = await world.hand("c")
    await c.open(A, batch=9, snapshots=(third,))
    kept = a.performer.jobs[JOB].cohorts[COHORT].state
    found = c.performer.jobs[JOB].cohorts[COHORT].state
    assert kept is not None
    assert found is not None
    assert found.version == 9
    assert kept.changes.known_since == 8, "what only older snapshots would be built on is let go"
    assert found.clock == kept.clock
    assert found.groups().equals(kept.groups())


async def test_a_moved_cohort_goes_on_where_the_snapshot_was(world: World) -> None:
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    for batch in range(3):
        await one_batch(a, b, batch)
    refs = (await a.snapshot(2), await b.snapshot(2))
    c = await world.hand("c")
    await c.open(ALL, batch=2, snapshots=refs)
    await c.map(3, ALL)
    await c.reduce(3, ALL, [piece(c, 3, ALL, ALL)])
    await c.write(3, 3)
    assert latest(world.results) == sums_of(all_rows(4))


async def test_the_same_batch_written_twice_is_written_once(world: World) -> None:
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    await one_batch(a, b, 0)
    written = len(world.results.writes)
    c = await world.hand("c")
    await c.open(ALL)
    await c.map(0, ALL)
    await c.reduce(0, ALL, [piece(c, 0, ALL, ALL)])
    await c.write(0, 0)
    assert len(world.results.writes) == written
    assert latest(world.results) == sums_of(all_rows(1))


async def test_partitions_given_up_leave_the_state_and_merged_cohorts_become_one(world: World) -> None:
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    await one_batch(a, b, 0)
    whole = (await a.snapshot(0), await b.snapshot(0))
    a.performer.perform(act.KeepPartitions(JOB, REDUCE, COHORT, partitions(1)))
    await a.open(partitions(2), batch=0, snapshots=whole, cohort=CohortId(2))
    a.performer.perform(act.MergeCohorts(JOB, REDUCE, COHORT, CohortId(2)))
    merged = partitions(1, 2)
    await a.map(1, ALL)
    await a.reduce(1, merged, [piece(a, 1, ALL, merged)])
    await a.write(1, 1)
    ref = await a.snapshot(1)
    assert ref.partitions == merged
    assert not set(ref.parts) & {part for one in whole for part in one.parts}, "a merged state starts anew"
    written = {token.partition for token, _ in world.results.writes if token.batch == 1}
    assert written == {1, 2}
    others = await world.hand("c")
    await others.open(partitions(0, 3), batch=0, snapshots=whole)
    await others.map(1, ALL)
    await others.reduce(1, partitions(0, 3), [piece(others, 1, ALL, partitions(0, 3))])
    await others.write(1, 1)
    assert latest(world.results) == sums_of(all_rows(2))


async def test_a_task_takes_only_the_part_of_a_fragment_that_its_piece_names(world: World) -> None:
    a, b = await world.pair()
    await a.map(0, ALL)
    said = ready(a, 0, ALL, B)
    payload = a.performer.attach(b.node, said)
    assert payload is not None
    assert b.performer.absorb(a.node, said, payload)
    for cohort, held in ((CohortId(1), partitions(2)), (CohortId(2), partitions(3))):
        await b.open(held, cohort=cohort)
        half, other = partitions(0, 2), partitions(1, 3)
        fragment = act.Fragment(JOB, REDUCE, MAP, BatchId(0), a.node, ALL, B)
        pieces = [act.Piece(fragment, half, held), act.Piece(fragment, other, held)]
        await b.reduce(0, held, pieces, cohort=cohort)
        await b.write(0, 0, cohort=cohort)
    c = await world.hand("c")
    await c.open(A)
    await c.map(0, ALL)
    await c.reduce(0, A, [piece(c, 0, ALL, ALL, A)])
    await c.write(0, 0)
    assert latest(world.results) == sums_of(all_rows(1))


async def test_a_share_rides_once_and_is_pulled_after_that(world: World) -> None:
    a, b = await world.pair()
    await a.map(0, A)
    said = ready(a, 0, A, B)
    assert a.performer.attach(b.node, said) is not None
    assert a.performer.attach(b.node, said) is None
    assert a.performer.attach(b.node, replace(said, last=BatchId(1))) is None


async def test_a_program_that_does_not_load_fails_the_job_with_its_reason(world: World) -> None:
    hand = await world.hand("a", load=False)
    other = replace(world.job.spec, job=JOB, stages=world.job.spec.stages[:1])
    hand.know(world.job, world.placement)
    hand.performer.perform(act.LoadProgram(other))
    failed = await hand.events.next(ev.ProgramFailed)
    assert "2 stages" in failed.error.message
    assert "Traceback" in failed.error.traceback
    hand.performer.perform(act.OpenCohort(JOB, REDUCE, COHORT, A, BatchId(-1), ()))
    assert (await hand.events.next(ev.CohortFailed)).error == failed.error


async def test_a_job_that_the_coordinator_does_not_have_fails(world: World) -> None:
    hand = await world.hand("a", load=False)
    hand.performer.perform(act.LoadProgram(replace(world.job.spec, job=JobId("nobody"))))
    assert (await hand.events.next(ev.ProgramFailed)).error.kind == "NotFoundError"


async def test_what_the_users_code_raises_is_a_value_with_its_traceback(world: World) -> None:
    def explode(rows: pl.Series) -> pl.Series:
        if len(rows):
            raise ZeroDivisionError(f"cannot divide {len(rows)} rows by nothing")
        return rows > 0

    clicks = dz.stream("clicks", schema={"key": pl.String, "value": pl.Int64})
    bad = clicks.filter(pl.col("value").map_batches(explode, return_dtype=pl.Boolean, is_elementwise=True))
    job = laid_out(bad.to(memory(world.results)).job(str(JOB)).compile())
    hand = await world.hand("a", load=False)
    hand.bench.addresses = {COORDINATOR: await world.program_door(job)}
    await hand.load(job, world.placement)
    given = {0: some_rows(0, 0)}
    hand.performer.absorb(NodeId(SOURCE), offer_of(0, given), payload_of(given, 0))
    fragment = act.Fragment(JOB, MAP, act.INPUT, BatchId(0), NodeId(SOURCE), A[:1], A[:1])
    key = TaskKey(JOB, MAP, COHORT, BatchId(0))
    hand.performer.perform(act.RunTask(key, A[:1], (act.Piece(fragment, A[:1], A[:1]),), 0.0))
    crashed = await hand.events.next(ev.TaskCrashed)
    assert crashed.key == key
    assert "cannot divide 30 rows by nothing" in crashed.error.message
    assert "explode" in crashed.error.traceback
    assert (crashed.error.stage, crashed.error.batch, crashed.error.partitions) == (MAP, 0, A[:1])
    assert hand.bench.counters.tasks_failed == 1


class Exits:
    """A sink that ends the process where it is unpickled, if it is let, as a module may that is imported."""

    kind = "exits"

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, ("the script ended",)

    def validate(self, schema: dict[str, pl.DataType], keys: tuple[str, ...]) -> None: ...

    def create(self, settings: SinkSettings) -> Sink:
        raise AssertionError("it never comes to that")


async def test_a_program_that_exits_fails_the_job_and_not_the_worker(world: World) -> None:
    """`sys.exit()` at the top of a module is a user's error; workers would die of it one after the other."""
    clicks = dz.stream("clicks", schema={"key": pl.String, "value": pl.Int64})
    job = laid_out(clicks.to(Exits()).job(str(JOB)).compile())
    hand = await world.hand("a", load=False)
    hand.bench.addresses = {COORDINATOR: await world.program_door(job)}
    hand.know(job, world.placement)
    hand.performer.perform(act.LoadProgram(job.spec))
    failed = await hand.events.next(ev.ProgramFailed)
    assert "SystemExit" in failed.error.message
    assert "the script ended" in failed.error.message


async def test_a_function_that_exits_fails_the_job_and_not_the_worker(world: World) -> None:
    def leave(rows: pl.Series) -> pl.Series:
        return rows > 0 if not len(rows) else sys.exit("no more rows, please")

    clicks = dz.stream("clicks", schema={"key": pl.String, "value": pl.Int64})
    bad = clicks.filter(pl.col("value").map_batches(leave, return_dtype=pl.Boolean, is_elementwise=True))
    job = laid_out(bad.to(memory(world.results)).job(str(JOB)).compile())
    hand = await world.hand("a", load=False)
    hand.bench.addresses = {COORDINATOR: await world.program_door(job)}
    await hand.load(job, world.placement)
    given = {0: some_rows(0, 0)}
    hand.performer.absorb(NodeId(SOURCE), offer_of(0, given), payload_of(given, 0))
    fragment = act.Fragment(JOB, MAP, act.INPUT, BatchId(0), NodeId(SOURCE), A[:1], A[:1])
    key = TaskKey(JOB, MAP, COHORT, BatchId(0))
    hand.performer.perform(act.RunTask(key, A[:1], (act.Piece(fragment, A[:1], A[:1]),), 0.0))
    assert "no more rows" in (await hand.events.next(ev.TaskCrashed)).error.message


async def test_a_job_without_a_shuffle_writes_by_stream_partition(world: World) -> None:
    clicks = dz.stream("clicks", schema={"key": pl.String, "value": pl.Int64})
    job = laid_out(
        clicks.filter(pl.col("value") > 6)
        .select("key", "value")
        .to(memory(world.results))
        .job(str(JOB))
        .compile()
    )
    hand = await world.hand("a", load=False)
    hand.bench.addresses = {COORDINATOR: await world.program_door(job)}
    await hand.load(job, world.placement)
    await hand.map(0, ALL)
    hand.performer.perform(act.WriteOutput(JOB, MAP, CohortId(9), BatchId(0), BatchId(0)))
    await hand.events.next(ev.OutputWritten)
    assert [token.partition for token, _ in world.results.writes] == [0, 1, 2, 3]
    for token, rows in world.results.writes:
        wanted = [(key, value) for key, value, _ in some_rows(0, token.partition) if value > 6]
        assert rows.rows() == wanted


async def test_dead_letters_and_late_records_are_counted_and_kept(world: World) -> None:
    hand = await world.hand("a")
    await hand.open(ALL)
    hand.bench.tasks.start(hand.bench.letters.run(), "letters")
    for batch, at in ((0, 1_000_000), (1, 9_000_000), (2, 1_000_000)):
        given = {p: [("k", 1, at)] for p in range(4)}
        if batch == 0:
            given[0] = [("k", "x", at)]  # type: ignore[list-item]
        await hand.map(batch, ALL, given)
        await hand.reduce(batch, ALL, [piece(hand, batch, ALL, ALL)])
    await hand.bench.letters.flush()
    assert metric(hand.registry, "drizzle_dead_letters_total", job=JOB) == 1
    assert metric(hand.registry, "drizzle_late_records_total", job=JOB) == 4
    reasons = [letter[5] for command in hand.letters.commands for letter in letters_in(command)]
    assert "value" in str(reasons[0])
    assert reasons[1:] == [LATE_REASON] * 4, "one per group and stream partition"
    keys = (f"drizzle:{JOB}:dead", f"drizzle:{world.job.spec.run}:dead:marks")
    assert {command[3:5] for command in hand.letters.commands} == {keys}


async def test_a_forgotten_run_frees_its_slots_and_says_nothing_else(world: World) -> None:
    a, b = await world.pair()
    await a.open(A)
    await exchanged(a, b, 0)
    key = TaskKey(JOB, REDUCE, COHORT, BatchId(0))
    pieces = (piece(a, 0, A, A), piece(b, 0, B, A))
    a.performer.perform(act.RunTask(key, A, pieces, 0.0))
    a.performer.perform(act.TakeSnapshot(JOB, REDUCE, COHORT, BatchId(0)))
    a.performer.perform(act.ForgetJob(JOB, "stopped"))
    freed = await a.events.next(ev.TaskFinished)
    assert freed.key.cohort not in (COHORT, CohortId(9)), "a new run may have cohorts of these numbers"
    await a.load(world.job, world.placement)
    await a.open(A)
    assert (a.bench.blocks.bytes, a.bench.fragments.bytes) == (0, 0)


async def test_the_bound_of_blocks_is_told_and_that_there_is_room_again(world: World) -> None:
    hand = await world.hand("a", held_bytes_max=20_000)
    given = {p: [(f"{p}-{i}", 1, 1_000_000) for i in range(500)] for p in A}
    assert hand.performer.absorb(NodeId(SOURCE), offer_of(0, given), payload_of(given, 0))
    fragment = act.Fragment(JOB, MAP, act.INPUT, BatchId(0), NodeId(SOURCE), A, A)
    key = TaskKey(JOB, MAP, COHORT, BatchId(0))
    hand.performer.perform(act.RunTask(key, A, (act.Piece(fragment, A, A),), 0.0))
    assert (await hand.events.next(ev.MemoryPressed)).pressed
    assert (await hand.events.next(ev.TaskFinished)).key == key, "what is computed is kept"
    assert not hand.performer.absorb(NodeId(SOURCE), offer_of(1, given), payload_of(given, 1)), "it is full"
    hand.performer.perform(act.ReleaseFragments(JOB, MAP, BatchId(0)))
    hand.performer.perform(act.DropBlocks(JOB, BatchId(0)))
    assert not (await hand.events.next(ev.MemoryPressed)).pressed


async def test_payloads_that_the_machine_would_refuse_are_not_kept(world: World) -> None:
    a, b = await world.pair()
    await a.map(0, A)
    said = ready(a, 0, A, B)
    payload = a.performer.attach(b.node, said)
    assert payload is not None
    for bad in (
        replace(said, generation=Generation(GENERATION - 1)),
        replace(said, job=JobId("nobody")),
        replace(said, stage=StageId(7)),
        replace(said, downstream=StageId(-1)),
    ):
        assert not b.performer.absorb(a.node, bad, payload)
    assert not b.performer.absorb(NodeId("c"), said, payload), "c cannot speak for a"
    assert not b.performer.absorb(a.node, said, payload[:-1])
    assert not b.performer.absorb(a.node, said, b"")
    assert not b.performer.absorb(NodeId(SOURCE), offer_of(0, {0: some_rows(0, 0)}), b"garbage")
    assert b.bench.fragments.fragments == 0
    assert sum(b.bench.counters.payloads_refused.values()) == 8
    assert b.performer.absorb(a.node, said, payload)


async def test_a_sink_that_fails_fails_the_job_and_not_the_worker(world: World) -> None:
    hand = await world.hand("a")
    await hand.open(ALL)
    await hand.map(0, ALL)
    await hand.reduce(0, ALL, [piece(hand, 0, ALL, ALL)])
    world.results._rows_max = 0
    hand.performer.perform(act.WriteOutput(JOB, REDUCE, COHORT, BatchId(0), BatchId(0)))
    failed = await hand.events.next(ev.OutputFailed)
    assert "Results in memory" in failed.error.message


async def test_a_run_that_is_forgotten_while_it_loads_leaves_no_series(world: World) -> None:
    hand = await world.hand("a", load=False)
    job = JobRun(world.job.spec, hand.bench)
    job.forget()
    job.loaded((), {})
    assert hand.registry.get_sample_value("drizzle_late_records_total", {"job": JOB}) is None


async def test_a_snapshot_of_an_older_generation_is_refused_and_the_next_one_is_full(world: World) -> None:
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    await one_batch(a, b, 0)
    before = await a.snapshot(0)
    await world.snapshots.fence(JobId(world.job.spec.run), Generation(GENERATION + 1))
    await one_batch(a, b, 1)
    a.performer.perform(act.TakeSnapshot(JOB, REDUCE, COHORT, BatchId(1)))
    assert "generation" in (await a.events.next(ev.SnapshotFailed)).reason
    await one_batch(a, b, 2)
    a.role.jobs[JOB].generation = Generation(GENERATION + 1)
    after = await a.snapshot(2)
    assert not set(after.parts) & set(before.parts)


async def test_snapshots_that_cannot_keep_up_fail_and_the_next_is_tried(world: World) -> None:
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    await one_batch(a, b, 0)
    for _ in range(3):
        a.performer.perform(act.TakeSnapshot(JOB, REDUCE, COHORT, BatchId(0)))
    await until(lambda: len(a.events.seen) - a.events.taken == 3, "all three ended")
    kinds = sorted(type(event).__name__ for event in a.events.seen[a.events.taken :])
    assert kinds == ["SnapshotFailed", "SnapshotTaken", "SnapshotTaken"]


@pytest.mark.parametrize("sink_hangs", [False, True])
async def test_rows_go_before_the_snapshot_of_their_batch_but_do_not_hold_it_up(
    world: World, monkeypatch, sink_hangs: bool
) -> None:
    a, b = await world.pair()
    await a.open(A)
    await exchanged(a, b, 0)
    await a.reduce(0, A, [piece(a, 0, A, A), piece(b, 0, B, A)])
    gate, storing, order = asyncio.Event(), asyncio.Event(), list[str]()
    write, put = MemorySink.write, world.snapshots.put

    async def writes(self, rows) -> None:
        if sink_hangs:
            await gate.wait()
        else:
            await asyncio.wait({asyncio.create_task(storing.wait())}, timeout=0.05)
        await write(self, rows)
        order.append("rows")

    async def puts(*stored):
        order.append("state")
        storing.set()
        return await put(*stored)

    if not sink_hangs:
        monkeypatch.setattr(storing_module, "ROWS_FIRST_S_MAX", 30.0)
    monkeypatch.setattr(MemorySink, "write", writes)
    monkeypatch.setattr(world.snapshots, "put", puts)
    a.performer.perform(act.WriteOutput(JOB, REDUCE, COHORT, BatchId(0), BatchId(0)))
    a.performer.perform(act.TakeSnapshot(JOB, REDUCE, COHORT, BatchId(0)))
    if sink_hangs:
        await a.events.next(ev.SnapshotTaken)
        gate.set()
        await a.events.next(ev.OutputWritten)
        assert order == ["state", "rows"]
    else:
        await a.events.next(ev.OutputWritten)
        await a.events.next(ev.SnapshotTaken)
        assert order == ["rows", "state"]


@pytest.mark.parametrize("damage", ["missing", "changed"])
async def test_a_cohort_whose_snapshot_is_damaged_says_so(world: World, damage: str) -> None:
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    await one_batch(a, b, 0)
    ref = await a.snapshot(0)
    if damage == "missing":
        await world.snapshots.delete([ref.parts[0].key])
    else:
        world.snapshots.parts[ref.parts[0].key] = b"x" * ref.parts[0].bytes
    c = await world.hand("c")
    c.performer.perform(act.OpenCohort(JOB, REDUCE, COHORT, A, BatchId(0), (ref,)))
    damaged = await c.events.next(ev.CohortDamaged)
    assert ref.parts[0].key in damaged.reason
    assert c.performer.bench.counters.snapshots_damaged == 1


async def test_losing_a_life_is_told_to_the_service(world: World) -> None:
    hand = await world.hand("a")
    hand.performer.perform(act.Rejoin("declared lost"))
    assert hand.rejoins == ["declared lost"]


async def test_a_task_runs_as_its_choice_says_and_tells_what_it_saw(world: World) -> None:
    hand = await world.hand("a")
    seen: list[StageSeen] = []
    for batch, choice in enumerate((None, StageChoice(MAP, partial=False))):
        given = {0: some_rows(batch, 0)}
        hand.performer.absorb(NodeId(SOURCE), offer_of(batch, given), payload_of(given, batch))
        fragment = act.Fragment(JOB, MAP, act.INPUT, BatchId(batch), NodeId(SOURCE), A[:1], A[:1])
        key = TaskKey(JOB, MAP, COHORT, BatchId(batch))
        hand.performer.perform(act.RunTask(key, A[:1], (act.Piece(fragment, A[:1], A[:1]),), 0.0, choice))
        ended = await hand.events.next(ev.TaskFinished)
        assert ended.seen is not None
        seen.append(ended.seen)
    grouped, raw = seen
    assert (grouped.partial, raw.partial) == (True, False)
    assert grouped.rows > 0
    assert raw.shuffled == raw.rows > 0

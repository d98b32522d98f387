"""A shuffled join on two real workers: rows go where their match is, and nobody holds what others need."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import polars as pl
import pytest

import drizzle_streams as dz
from drizzle_streams.api.compile import CompiledJob
from drizzle_streams.connectors.memory import MemoryResults, memory
from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.engine.execute import StageExecutor
from drizzle_streams.model.ids import BatchId, CohortId, PartitionId, StageId, WorkerId
from drizzle_streams.model.placement import Placement
from drizzle_streams.model.replanning import StageChoice, StageSeen
from drizzle_streams.model.task import TaskKey
from drizzle_streams.stores.memory import MemorySnapshotStore
from tests.worker.conftest import World
from tests.worker.test_worker_performer import ALL, A, B, exchanged
from tests.worker.worker_worlds import JOB, MAP, STREAM, Hand, all_rows, laid_out, partitions, piece

JOIN, MERGE = StageId(1), StageId(2)
JOINS, MERGES = CohortId(5), CohortId(6)
TABLE = pl.DataFrame({"key": [f"key-{n}" for n in range(11)], "team": ["x", "y"] * 5 + ["x"]})
PLACEMENT = Placement(((WorkerId("a"), WorkerId("a"), WorkerId("b"), WorkerId("b")),) * 3)


def joining(results: MemoryResults) -> CompiledJob:
    """Records per team and second."""
    clicks = dz.stream(
        STREAM, schema={"key": pl.String, "value": pl.Int64, "at": pl.Int64}, event_time="at", max_delay="10s"
    )
    joined = clicks.join(dz.table(TABLE), on="key", strategy="shuffled").window(dz.tumbling("1s"))
    counts = joined.group_by("team").agg(n=dz.count(), total=dz.sum("value"))
    return laid_out(counts.to(memory(results)).job(str(JOB), batch_interval="50ms").compile(partitions=4))


@pytest.fixture
async def joins() -> AsyncIterator[World]:
    results = MemoryResults()
    world = World(results, joining(results), MemorySnapshotStore(), over_http=True, placement=PLACEMENT)
    await world.start()
    yield world
    await world.close()


async def joined(hand: Hand, batch: int, held: tuple[PartitionId, ...], pieces: list[act.Piece]) -> StageSeen:
    key = TaskKey(JOB, JOIN, JOINS, BatchId(batch))
    hand.performer.perform(act.RunTask(key, held, tuple(pieces), hand.now_ms))
    seen = (await hand.events.next(ev.TaskFinished)).seen
    assert seen is not None
    return seen


async def merged(a: Hand, b: Hand, batch: int) -> None:
    """The first worker merges everything; the other's blocks are fetched from it."""
    pieces: list[act.Piece] = []
    for of, held in ((a, A), (b, B)):
        fragment = act.Fragment(JOB, MERGE, JOIN, BatchId(batch), of.node, held, ALL)
        pieces.append(act.Piece(fragment, held, ALL))
    a.performer.perform(act.FetchBlocks(JOB, MERGE, JOIN, b.id, B, ALL, BatchId(batch), BatchId(batch)))
    await a.events.next(ev.BlocksFetched)
    a.performer.perform(
        act.RunTask(TaskKey(JOB, MERGE, MERGES, BatchId(batch)), ALL, tuple(pieces), a.now_ms)
    )
    await a.events.next(ev.TaskFinished)
    a.performer.perform(act.WriteOutput(JOB, MERGE, MERGES, BatchId(batch), BatchId(batch)))
    await a.events.next(ev.OutputWritten)


def executor(hand: Hand) -> StageExecutor:
    return hand.performer.jobs[JOB].stages[JOIN].executor


def indices(hand: Hand) -> tuple[tuple[int, ...], ...]:
    found = executor(hand)._joins
    assert found is not None
    return found.indices.held


def counted(world: World) -> dict[tuple[str, int], tuple[int, int]]:
    rows = world.results.latest(["team", "window_start"]).iter_rows(named=True)
    return {(row["team"], row["window_start"]): (row["n"], row["total"]) for row in rows}


def oracle(batches: int) -> dict[tuple[str, int], tuple[int, int]]:
    teams, n, total = dict(TABLE.iter_rows()), Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for key, value, at in all_rows(batches):
        n[teams[key], at // 1000 * 1000] += 1
        total[teams[key], at // 1000 * 1000] += value
    return {place: (n[place], total[place]) for place in n}


async def test_rows_are_joined_where_their_part_of_the_table_is(joins: World) -> None:
    a, b = await joins.pair()
    opened = act.OpenCohort(JOB, MERGE, MERGES, ALL, BatchId(-1), (), ())
    a.performer.perform(opened)
    await a.events.next(ev.CohortOpened)
    for batch in range(3):
        await exchanged(a, b, batch)
        seen = [
            await joined(hand, batch, own, [piece(a, batch, A, own), piece(b, batch, B, own)])
            for hand, own in ((a, A), (b, B))
        ]
        assert sum(one.rows for one in seen) == 4 * 30
        await merged(a, b, batch)
    assert counted(joins) == oracle(3)
    assert (indices(a), indices(b)) == (((0, 1),), ((2, 3),))
    held = [len(executor(hand)._joins.indices.of(own)._index) for hand, own in ((a, A), (b, B))]  # type: ignore[union-attr]
    assert sum(held) == TABLE.height
    assert min(held) > 0


async def test_who_gives_partitions_up_keeps_nothing_of_the_table(joins: World) -> None:
    a, b = await joins.pair()
    await exchanged(a, b, 0)
    await joined(a, 0, A, [piece(a, 0, A, A), piece(b, 0, B, A)])
    assert indices(a) == ((0, 1),)
    a.performer.perform(act.KeepPartitions(JOB, JOIN, JOINS, partitions(0)))
    await a.performer.jobs[JOB].cohorts[JOINS].chain.ended().wait()
    assert indices(a) == ()
    await exchanged(a, b, 1)
    own = partitions(0)
    await joined(a, 1, own, [piece(a, 1, A, A, own), piece(b, 1, B, A, own)])
    assert indices(a) == ((0,),)
    a.performer.perform(act.KeepPartitions(JOB, JOIN, JOINS, ()))
    await a.performer.jobs[JOB].all_parted()
    assert indices(a) == ()


async def test_a_wish_of_the_job_is_above_the_planners_choice(joins: World) -> None:
    a, _ = await joins.pair()
    await a.map(0, A)
    (task,) = [stage for stage in a.performer.jobs[JOB].stages if stage.stage.stage == MAP]
    seen = task.executor.run_input((0,), (), StageChoice(MAP, broadcast=True)).seen
    assert seen is not None
    assert (seen.join_rows, seen.broadcast) == (0, None)

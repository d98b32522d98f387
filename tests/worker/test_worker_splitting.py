"""Partitions under other numbers: state is cut by key group, from former owners, itself or snapshots."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.model.ids import BatchId, CohortId, PartitionId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.snapshot import SnapshotRef
from drizzle_streams.protocol.parts import Former
from drizzle_streams.transport.base import NotFoundError
from drizzle_streams.worker.counters import Refusal
from drizzle_streams.worker.jobs import JobRun
from drizzle_streams.worker.serving import BLOCKS_PATH, question
from tests.worker.conftest import World
from tests.worker.test_worker_handing import ALL, A, B, heirs, keeps
from tests.worker.test_worker_performer import one_batch
from tests.worker.worker_worlds import JOB, REDUCE, Hand, all_rows, latest, partitions, piece, sums_of

LATER = CohortId(2)


def resized(world: World, count: int) -> JobSpec:
    spec = world.job.spec
    stages = tuple(replace(s, partitions=count) if s.stage == REDUCE else s for s in spec.stages)
    return replace(spec, stages=stages)


async def opened(
    hand: Hand,
    world: World,
    held: tuple[PartitionId, ...],
    count: int,
    formers: tuple[Former, ...],
    snapshots: tuple[SnapshotRef, ...] = (),
) -> None:
    """The worker hears of the new number, and takes some of the partitions over."""
    hand.performer.perform(act.LayOut(JOB, resized(world, count)))
    await hand.open(held, batch=2, cohort=LATER, formers=formers, snapshots=snapshots)


async def goes_on(world: World, hand: Hand, held: tuple[PartitionId, ...]) -> None:
    """One more batch in the new layout, and everything is in the sink."""
    await hand.map(3, ALL)
    await hand.reduce(3, held, [piece(hand, 3, ALL, held)], cohort=LATER)
    await hand.write(3, 3, cohort=LATER)
    assert latest(world.results) == sums_of(all_rows(4))


@pytest.mark.parametrize("count", [8, 7, 2, 1])
async def test_new_partitions_are_cut_out_of_what_former_owners_hold(http_world: World, count: int) -> None:
    _, _, c = await heirs(http_world)
    a, b = http_world.hands[:2]
    held = partitions(*range(count))
    await opened(c, http_world, held, count, (Former(a.id, A, 4), Former(b.id, B, 4)))
    assert c.bench.counters.states_taken_over == 2
    await goes_on(http_world, c, held)


async def test_a_worker_takes_over_from_itself_without_a_call(http_world: World) -> None:
    """It closes the cohort of the old numbers and opens that of the new ones at once."""
    a, b = await http_world.pair()
    await a.open(ALL)
    for batch in range(3):
        await a.map(batch, ALL)
        await a.reduce(batch, ALL, [piece(a, batch, ALL, ALL)])
        await a.write(batch, batch)
    a.bench.addresses = {}
    keeps(a)
    held = partitions(*range(16))
    await opened(a, http_world, held, 16, (Former(a.id, ALL, 4),))
    assert a.bench.counters.states_taken_over == 1
    await goes_on(http_world, a, held)
    assert b.bench.counters.states_taken_over == 0


async def test_the_checkpoint_of_the_old_partitions_stands_in(http_world: World) -> None:
    a, b, c = await heirs(http_world)
    refs = (await a.snapshot(2), await b.snapshot(2))
    assert {ref.of for ref in refs} == {4}
    await one_batch(a, b, 3)
    gone = WorkerId("nobody")
    held = partitions(0, 1, 2)
    await opened(c, http_world, held, 3, (Former(gone, A, 4), Former(b.id, B, 4)), refs)
    assert c.bench.counters.states_taken_over == 0
    await goes_on(http_world, c, held)
    assert (await c.snapshot(3, cohort=LATER)).of == 3


async def test_what_one_former_owner_lacks_is_restored_and_the_rest_taken_over(http_world: World) -> None:
    a, b, c = await heirs(http_world)
    refs = (await a.snapshot(2), await b.snapshot(2))
    held = partitions(*range(8))
    await opened(c, http_world, held, 8, (Former(WorkerId("nobody"), A, 4), Former(b.id, B, 4)), refs)
    assert (c.bench.counters.states_taken_over, c.bench.counters.states_not_taken_over) == (1, 1)
    await goes_on(http_world, c, held)


async def test_blocks_are_given_only_to_who_knows_of_as_many_partitions(http_world: World) -> None:
    a, b = await http_world.pair()
    await a.map(0, ALL)
    fetch = act.FetchBlocks(JOB, REDUCE, StageId(0), a.id, ALL, A, BatchId(0), BatchId(0))
    for count in (8, 2):
        params = question(resized(http_world, count), fetch, BatchId(0))
        with pytest.raises(NotFoundError):
            await b.transport.fetch(a.transport.address, BLOCKS_PATH, params, 5.0, 1 << 20)
    assert a.bench.counters.fetches_refused[Refusal.NOT_HELD] == 2
    assert await b.transport.fetch(
        a.transport.address, BLOCKS_PATH, question(http_world.job.spec, fetch, BatchId(0)), 5.0, 1 << 20
    )


async def test_a_program_that_is_still_loading_is_laid_out_as_well(http_world: World) -> None:
    hand = await http_world.hand("late")
    run = hand.performer.jobs[JOB]
    loading = JobRun(run.spec, run.bench)
    loading.lay_out(resized(http_world, 8))
    loading.loaded(run.stages, {})
    found = {stage.stage.stage: stage for stage in loading.stages}
    assert found[REDUCE].stage.partitions == 8
    assert found[REDUCE].executor.layout.partitions == 8
    await hand.events.next(ev.ProgramLoaded)

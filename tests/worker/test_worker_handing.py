"""State from its former owner: the same as the checkpoint's, of just that batch, or none."""

from __future__ import annotations

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core.arrivals import mask_of
from drizzle_streams.errors import ProtocolError
from drizzle_streams.model.ids import BatchId, WorkerId
from drizzle_streams.protocol.parts import Former
from drizzle_streams.transport.base import NotFoundError
from drizzle_streams.worker.counters import Refusal
from drizzle_streams.worker.handing import Handing
from drizzle_streams.worker.jobs import PARTED_STATES_MAX
from tests.worker.conftest import World
from tests.worker.test_worker_performer import one_batch
from tests.worker.worker_worlds import (
    COHORT,
    JOB,
    REDUCE,
    Hand,
    all_rows,
    latest,
    partitions,
    piece,
    sums_of,
    until,
)

A, B = partitions(0, 1), partitions(2, 3)
ALL = partitions(0, 1, 2, 3)


async def heirs(world: World) -> tuple[Hand, Hand, Hand]:
    """Two owners that stand at batch 2, and a worker that may take over from both."""
    a, b = await world.pair()
    await a.open(A)
    await b.open(B)
    for batch in range(3):
        await one_batch(a, b, batch)
    c = await world.hand("c")
    c.bench.addresses = {a.node: a.transport.address, b.node: b.transport.address}
    return a, b, c


def keeps(hand: Hand, *kept: int) -> None:
    hand.performer.perform(act.KeepPartitions(JOB, REDUCE, COHORT, partitions(*kept)))


def question(world: World, **changed: str) -> dict[str, str]:
    asked = {
        "run": world.job.spec.run,
        "job": JOB,
        "stage": "1",
        "partitions": f"{mask_of(A):x}",
        "of": "4",
        "batch": "2",
    }
    return asked | changed


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "not_yet"])
async def test_a_new_owner_goes_on_with_the_state_of_the_former_ones(http_world: World, heard: bool) -> None:
    """Without a snapshot anywhere; whether a former owner has heard of the new generation or not."""
    a, b, c = await heirs(http_world)
    if heard:
        keeps(a)
        keeps(b, 2)
        await until(lambda: len(b.performer.jobs[JOB].parted) == 1, "b gave up")
    await c.open(ALL, batch=2, formers=(Former(a.id, A), Former(b.id, B)))
    assert c.bench.counters.states_taken_over == 2
    await c.map(3, ALL)
    await c.reduce(3, ALL, [piece(c, 3, ALL, ALL)])
    await c.write(3, 3)
    assert latest(http_world.results) == sums_of(all_rows(4))


async def test_the_checkpoint_stands_in_for_a_former_owner(http_world: World) -> None:
    """One is unknown, one has gone on: what they do not give is restored."""
    a, b, c = await heirs(http_world)
    refs = (await a.snapshot(2), await b.snapshot(2))
    await one_batch(a, b, 3)
    gone = WorkerId("nobody")
    await c.open(ALL, batch=2, snapshots=refs, formers=(Former(gone, A), Former(b.id, B)))
    assert (c.bench.counters.states_taken_over, c.bench.counters.states_not_taken_over) == (0, 2)
    await c.map(3, ALL)
    await c.reduce(3, ALL, [piece(c, 3, ALL, ALL)])
    await c.write(3, 3)
    assert latest(http_world.results) == sums_of(all_rows(4))


async def test_only_that_batch_of_that_run_is_given(world: World) -> None:
    a, _, _ = await heirs(world)
    handing = Handing(a.bench, a.performer.jobs)
    assert await handing.fetch(question(world))
    wrong = {"batch": "1", "run": "counts@1", "job": "other", "stage": "0", "partitions": f"{mask_of(B):x}"}
    for name, value in wrong.items():
        with pytest.raises(NotFoundError):
            await handing.fetch(question(world, **{name: value}))
    assert a.bench.counters.fetches_refused[Refusal.NOT_HELD] == len(wrong)


@pytest.mark.parametrize("name", ["stage", "batch", "partitions"])
@pytest.mark.parametrize("value", ["", "-1", "x", "9" * 2_000])
async def test_garbage_is_refused_and_counted(world: World, name: str, value: str) -> None:
    a, _ = await world.pair()
    with pytest.raises(ProtocolError):
        await Handing(a.bench, a.performer.jobs).fetch(question(world, **{name: value}))
    assert a.bench.counters.fetches_refused[Refusal.GARBAGE] == 1


async def test_a_question_for_no_partition_is_garbage(world: World) -> None:
    a, _, _ = await heirs(world)
    with pytest.raises(ProtocolError, match="partitions"):
        await Handing(a.bench, a.performer.jobs).fetch(question(world, partitions="0"))
    assert a.bench.counters.fetches_refused[Refusal.GARBAGE] == 1


async def test_what_was_given_up_goes_behind_a_checkpoint_and_is_bounded(world: World) -> None:
    a, _, _ = await heirs(world)
    job = a.performer.jobs[JOB]
    keeps(a)
    await until(lambda: len(job.parted) == 1, "it is kept aside")
    a.performer.perform(act.DropBlocks(JOB, BatchId(2)))
    assert len(job.parted) == 1, "the checkpoint at the boundary is where others begin"
    state = job.parted[0][1]
    for _ in range(2 * PARTED_STATES_MAX):
        job.part(REDUCE, state)
    assert len(job.parted) == PARTED_STATES_MAX
    a.performer.perform(act.DropBlocks(JOB, BatchId(3)))
    assert job.parted == []

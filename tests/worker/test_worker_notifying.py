"""Notifications of several batches: what rides along, what does not, and what is damaged on the way."""

from __future__ import annotations

from dataclasses import replace

from drizzle_streams.core.untold import RUN_BATCHES_MAX
from drizzle_streams.model.ids import BatchId
from drizzle_streams.protocol.messages import BlocksReady
from drizzle_streams.worker.bundles import pack_share
from drizzle_streams.worker.counters import Refusal
from drizzle_streams.worker.notifying import detached
from tests.worker.conftest import World
from tests.worker.worker_worlds import Hand, all_rows, latest, partitions, piece, ready, sums_of

A, B = partitions(0, 1), partitions(2, 3)
ALL = partitions(0, 1, 2, 3)
BATCHES = 4


def told(of: Hand, last: int = BATCHES - 1) -> BlocksReady:
    """What `of` says of all its batches to the owner of `B`."""
    return replace(ready(of, 0, ALL, B), last=BatchId(last), sealed_at_ms=(0.0,) * (last + 1))


async def mapped(world: World, batches: int = BATCHES) -> tuple[Hand, Hand]:
    a, b = await world.pair()
    for batch in range(batches):
        await a.map(batch, ALL)
    return a, b


async def test_several_batches_ride_along_and_are_computed(world: World) -> None:
    a, b = await mapped(world)
    await a.open(A)
    await b.open(B)
    payload = a.performer.attach(b.node, told(a))
    assert payload is not None
    assert b.performer.absorb(a.node, told(a), payload)
    for batch in range(BATCHES):
        await b.reduce(batch, B, [piece(a, batch, ALL, B)])
        await a.reduce(batch, A, [piece(a, batch, ALL, A)])
    await a.write(0, BATCHES - 1)
    await b.write(0, BATCHES - 1)
    assert latest(world.results) == sums_of(all_rows(BATCHES))


async def test_where_one_share_is_gone_none_rides_along(world: World) -> None:
    a, b = await mapped(world)
    assert a.performer.attach(b.node, ready(a, 2, ALL, B)) is not None
    assert a.performer.attach(b.node, told(a)) is None
    assert a.performer.attach(b.node, ready(a, 3, ALL, B)) is not None, "the others can be given out still"


async def test_what_is_longer_than_a_run_does_not_ride_along(world: World) -> None:
    a, b = await mapped(world, RUN_BATCHES_MAX + 1)
    assert a.performer.attach(b.node, told(a, RUN_BATCHES_MAX)) is None
    assert a.performer.attach(b.node, told(a, RUN_BATCHES_MAX - 1)) is not None


async def test_a_payload_of_other_batches_or_a_damaged_one_is_pulled(world: World) -> None:
    a, b = await mapped(world)
    said = told(a)
    payload = a.performer.attach(b.node, said)
    assert payload is not None
    shares = [pack_share(blocks) for _, blocks in detached(said, payload)]
    for bad in (payload[:-1], b"", pack_share(shares[:-1]), pack_share([*shares[:-1], b"garbage"])):
        assert not b.performer.absorb(a.node, said, bad)
    assert b.bench.fragments.fragments == 0, "all or nothing of a range"
    assert b.bench.counters.payloads_refused[Refusal.GARBAGE] == 4
    assert not b.performer.absorb(a.node, replace(said, last=BatchId(BATCHES)), payload)
    assert b.performer.absorb(a.node, said, payload)

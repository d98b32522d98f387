"""Pulling over real HTTP: between two workers, from a source, and what a hostile or late peer gets."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import aiohttp
import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.errors import BackPressureError, ProtocolError
from drizzle_streams.model.ids import BatchId, Generation, JobId, NodeId, SourceId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.transport.base import NotFoundError
from drizzle_streams.worker import fetching as fetching_module
from drizzle_streams.worker import serving as serving_module
from drizzle_streams.worker.counters import Refusal
from drizzle_streams.worker.notifying import INLINE_BLOCK_BYTES_MAX
from drizzle_streams.worker.serving import BLOCKS_PATH, question
from tests.bearer import bearer
from tests.worker.conftest import TOKEN, World
from tests.worker.worker_worlds import (
    JOB,
    MAP,
    REDUCE,
    SOURCE,
    Hand,
    Row,
    all_rows,
    latest,
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


def fetch(of: Hand, first: int, last: int, held=ALL, wanted=B) -> act.FetchBlocks:
    return act.FetchBlocks(JOB, REDUCE, MAP, of.id, held, wanted, BatchId(first), BatchId(last))


def many_rows(batch: int, partition: int, count: int = 6_000) -> list[Row]:
    """More groups than ride in a notification."""
    return [(f"{partition}-{i % (count // 2)}", 1, 1_000_000 + batch) for i in range(count)]


async def pulled(to: Hand, wanted: act.FetchBlocks) -> list[int]:
    to.performer.perform(wanted)
    found = await to.events.next(ev.BlocksFetched)
    assert found.fetch == wanted
    return [batch for batch, _ in found.batches]


async def test_large_blocks_are_pulled_and_compute_the_same(http_world: World) -> None:
    a, b = await http_world.pair()
    await b.open(B)
    await a.open(A)
    rows = {p: many_rows(0, p) for p in ALL}
    await a.map(0, ALL, rows)
    said = ready(a, 0, ALL, B)
    assert a.performer.attach(b.node, said) is None, "too long to ride along"
    assert await pulled(b, fetch(a, 0, 0)) == [0]
    assert b.bench.fragments.bytes > INLINE_BLOCK_BYTES_MAX
    await b.reduce(0, B, [piece(a, 0, ALL, B)])
    await a.reduce(0, A, [piece(a, 0, ALL, A)])
    await a.write(0, 0)
    await b.write(0, 0)
    assert latest(http_world.results) == sums_of(row for p in ALL for row in rows[p])


async def test_a_range_is_pulled_in_several_answers(
    http_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_module, "SERVED_BYTES_MAX", 2_000)
    a, b = await http_world.pair()
    await b.open(B)
    await a.open(A)
    for batch in range(6):
        await a.map(batch, ALL)
    assert await pulled(b, fetch(a, 0, 9)) == [0, 1, 2, 3, 4, 5]
    assert b.transport.counters.fetches > 2
    for batch in range(6):
        await b.reduce(batch, B, [piece(a, batch, ALL, B)])
        await a.reduce(batch, A, [piece(a, batch, ALL, A)])
    await a.write(0, 5)
    await b.write(0, 5)
    assert latest(http_world.results) == sums_of(all_rows(6))


async def test_blocks_of_several_cohorts_are_one_share(http_world: World) -> None:
    a, b = await http_world.pair()
    await b.open(B)
    await a.map(0, A)
    await a.map(0, B)
    assert await pulled(b, fetch(a, 0, 0)) == [0]
    assert await pulled(b, fetch(a, 0, 0, held=partitions(1, 2), wanted=partitions(2))) == [0]
    await b.reduce(0, B, [piece(a, 0, ALL, B)])
    rows = [row for p in ALL for row in some_rows(0, p)]
    await a.open(A)
    await a.reduce(0, A, [piece(a, 0, ALL, A)])
    await a.write(0, 0)
    await b.write(0, 0)
    assert latest(http_world.results) == sums_of(rows)


async def test_blocks_that_are_not_there_are_an_answer_and_a_counter(http_world: World) -> None:
    a, b = await http_world.pair()
    await a.map(0, A)
    assert await pulled(b, fetch(a, 5, 9)) == []
    assert await pulled(b, fetch(a, 0, 0)) == [], "of four partitions only two are there"
    other = question(http_world.job.spec, replace(fetch(a, 0, 0), job=JobId("nobody")), BatchId(0))
    with pytest.raises(NotFoundError, match="nobody"):
        await b.transport.fetch(a.transport.address, BLOCKS_PATH, other, 5.0, 1 << 20)
    assert a.bench.counters.fetches_refused[Refusal.NOT_HELD] == 3
    assert b.bench.counters.fetches_failed == 0


async def test_a_fetch_of_another_run_gets_nothing(http_world: World) -> None:
    a, b = await http_world.pair()
    await a.map(0, ALL)
    params = question(replace(http_world.job.spec, born=Generation(1)), fetch(a, 0, 0), BatchId(0))
    with pytest.raises(NotFoundError, match="counts@1"):
        await b.transport.fetch(a.transport.address, BLOCKS_PATH, params, 5.0, 1 << 20)
    assert a.bench.counters.fetches_refused[Refusal.OTHER_RUN] == 1


BAD = [
    {"first": "x"},
    {"first": "-1"},
    {"first": ""},
    {"last": "999999"},
    {"first": "3", "last": "2"},
    {"stage": "1" * 40},
    {"partitions": "0"},
    {"partitions": "xyz"},
    {"wanted": "f" * 5_000},
    {"downstream": "\x00"},
]


@pytest.mark.parametrize("bad", BAD)
async def test_questions_that_are_none_are_refused_and_counted(
    http_world: World, bad: Mapping[str, str]
) -> None:
    a, b = await http_world.pair()
    await a.map(0, ALL)
    params = question(http_world.job.spec, fetch(a, 0, 0), BatchId(0)) | dict(bad)
    with pytest.raises(ProtocolError):
        await b.transport.fetch(a.transport.address, BLOCKS_PATH, params, 5.0, 1 << 20)
    assert a.bench.counters.fetches_refused[Refusal.GARBAGE] == 1
    assert await pulled(b, fetch(a, 0, 0)) == [0], "it goes on"


@pytest.mark.parametrize(
    "bad", [{"stage": "9"}, {"downstream": "9"}, {"partitions": "10000"}, {"wanted": "ff"}]
)
async def test_stages_and_partitions_that_the_job_does_not_have_are_not_found(
    http_world: World, bad: Mapping[str, str]
) -> None:
    a, b = await http_world.pair()
    await a.map(0, ALL)
    params = question(http_world.job.spec, fetch(a, 0, 0), BatchId(0)) | dict(bad)
    with pytest.raises(NotFoundError):
        await b.transport.fetch(a.transport.address, BLOCKS_PATH, params, 5.0, 1 << 20)


async def test_blocks_are_behind_the_clusters_token(http_world: World) -> None:
    a, _ = await http_world.pair()
    await a.map(0, ALL)
    url = a.transport.address + BLOCKS_PATH
    params = question(http_world.job.spec, fetch(a, 0, 0), BatchId(0))
    async with aiohttp.ClientSession() as session:
        async with session.get(url, params=params) as refused:
            assert refused.status == 401
        async with session.get(url, params=params, headers={"Authorization": bearer(TOKEN)}) as answer:
            assert answer.status == 200


async def test_a_peer_that_is_gone_is_a_failed_fetch(http_world: World) -> None:
    a, b = await http_world.pair()
    await a.transport.close()
    b.performer.perform(fetch(a, 0, 0))
    assert (await b.events.next(ev.FetchFailed)).reason
    b.bench.addresses = {}
    b.performer.perform(fetch(a, 0, 0))
    assert "address" in (await b.events.next(ev.FetchFailed)).reason
    assert b.bench.counters.fetches_failed == 2


async def test_an_answer_that_is_garbage_is_a_failed_fetch(world: World) -> None:
    b = await world.hand("b")
    liar = world.transport("a")

    async def lie(_: Mapping[str, str]) -> bytes:
        return b"\xff" * 100

    liar.serve(BLOCKS_PATH, lie)
    await liar.start()
    world.doors.append(liar)
    b.bench.addresses = {NodeId("a"): liar.address}
    b.performer.perform(act.FetchBlocks(JOB, REDUCE, MAP, WorkerId("a"), ALL, B, BatchId(0), BatchId(0)))
    assert "blocks" in (await b.events.next(ev.FetchFailed)).reason
    assert b.bench.fragments.fragments == 0


# --- records from a source ----------------------------------------------------------------


def fetch_input(rows: dict[int, list[Row]], batch: int = 0) -> act.FetchInput:
    offer = offer_of(batch, rows)
    held = tuple(bound.partition for bound in offer.bounds)
    fragment = act.Fragment(JOB, MAP, act.INPUT, BatchId(batch), NodeId(SOURCE), held, held)
    return act.FetchInput(fragment, SourceId(SOURCE), offer.bounds, 0.0)


async def test_records_are_pulled_by_the_sources_own_numbers(world: World) -> None:
    rows = {1: some_rows(0, 1), 2: [], 3: some_rows(0, 3)}
    asked: list[Mapping[str, str]] = []
    source = world.transport(SOURCE)

    async def records(params: Mapping[str, str]) -> bytes:
        asked.append(dict(params))
        return payload_of({int(params["partition"]): rows[int(params["partition"])]}, 0)

    source.serve("/streams/clicks/records", records)
    await source.start()
    world.doors.append(source)
    hand = await world.hand("a")
    hand.bench.addresses = {NodeId(SOURCE): source.address}
    wanted = fetch_input(rows)
    hand.performer.perform(wanted)
    await hand.events.next(ev.InputFetched)
    assert asked == [{"partition": p, "first": "0", "end": "30"} for p in ("1", "3")]
    content = hand.bench.fragments.input(wanted.fragment)
    assert content is not None
    assert {p: sum(e.records for e in entries) for p, entries in content.items()} == {1: 30, 3: 30}
    assert {e.partition for entries in content.values() for e in entries} == {1, 3}


async def test_records_that_are_not_the_batchs_are_a_failed_fetch(world: World) -> None:
    source = world.transport(SOURCE)

    async def others(_: Mapping[str, str]) -> bytes:
        return payload_of({0: some_rows(0, 0, 29)}, 0)

    source.serve("/streams/clicks/records", others)
    await source.start()
    world.doors.append(source)
    hand = await world.hand("a")
    hand.bench.addresses = {NodeId(SOURCE): source.address}
    hand.performer.perform(fetch_input({0: some_rows(0, 0)}))
    assert "[0, 30)" in (await hand.events.next(ev.InputFetchFailed)).reason


# --- how many, in which order -------------------------------------------------------------


class Door:
    """A worker that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.open = asyncio.Event()

    async def answer(self, params: Mapping[str, str]) -> bytes:
        self.asked.append(int(params["first"]))
        await self.open.wait()
        raise NotFoundError("nothing here")


async def behind(world: World, door: Door) -> Hand:
    other = world.transport("a")
    other.serve(BLOCKS_PATH, door.answer)
    await other.start()
    world.doors.append(other)
    hand = await world.hand("b")
    hand.bench.addresses = {NodeId("a"): other.address}
    return hand


def one(batch: int) -> act.FetchBlocks:
    return act.FetchBlocks(JOB, REDUCE, MAP, WorkerId("a"), ALL, B, BatchId(batch), BatchId(batch))


async def test_few_fetches_run_at_once_and_the_oldest_batch_goes_first(world: World) -> None:
    door = Door()
    hand = await behind(world, door)
    for batch in range(40, 0, -1):
        hand.performer.perform(one(batch))
    await until(lambda: len(door.asked) == fetching_module.AT_ONCE_MAX, "as many as may run")
    assert hand.performer.fetching.waiting == 40 - fetching_module.AT_ONCE_MAX
    door.open.set()
    for _ in range(40):
        await hand.events.next(ev.BlocksFetched)
    first = fetching_module.AT_ONCE_MAX
    assert sorted(door.asked[:first]) == list(range(33, 41)), "they were the first to come"
    assert door.asked[first] == 1
    assert hand.performer.fetching.running == 0


async def test_a_full_worker_pulls_one_at_a_time(world: World) -> None:
    door = Door()
    hand = await behind(world, door)
    hand.bench.held_bytes_max = 0
    for batch in (3, 2, 1):
        hand.performer.perform(one(batch))
    await until(lambda: bool(door.asked), "one is asked for")
    assert (hand.performer.fetching.running, hand.performer.fetching.waiting) == (1, 2)
    door.open.set()
    for _ in range(3):
        await hand.events.next(ev.BlocksFetched)
    assert door.asked == [3, 1, 2]


async def test_too_many_fetches_are_refused_and_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching_module, "WAITING_MAX", 2)
    door = Door()
    hand = await behind(world, door)
    for batch in range(fetching_module.AT_ONCE_MAX + 3):
        hand.performer.perform(one(batch))
    assert "wait already" in (await hand.events.next(ev.FetchFailed)).reason
    door.open.set()
    for _ in range(fetching_module.AT_ONCE_MAX + 2):
        await hand.events.next(ev.BlocksFetched)


async def test_a_busy_peer_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching_module, "BUSY_PAUSE_S", 0.001)
    other, calls = world.transport("a"), [0]

    async def busy(_: Mapping[str, str]) -> bytes:
        calls[0] += 1
        if calls[0] < 3:
            raise BackPressureError("later")
        raise NotFoundError("nothing here")

    other.serve(BLOCKS_PATH, busy)
    await other.start()
    world.doors.append(other)
    hand = await world.hand("b")
    hand.bench.addresses = {NodeId("a"): other.address}
    assert await pulled(hand, one(0)) == []
    assert calls == [3]


async def test_a_forgotten_job_keeps_nothing_that_was_pulled(world: World) -> None:
    a, b = await world.pair()
    await a.map(0, ALL)
    b.performer.perform(fetch(a, 0, 0))
    b.performer.perform(act.ForgetJob(JOB, "stopped"))
    await until(lambda: b.performer.fetching.running == 0, "the fetch has ended")
    assert b.bench.fragments.fragments == 0
    assert len(b.events.seen) == b.events.taken


def test_stage_ids_fit_a_question() -> None:
    stages = (StageSpec(StageId(0), 4), StageSpec(REDUCE, 8, inputs=(StageId(0),)))
    asked = question(
        JobSpec(JOB, stages),
        act.FetchBlocks(JOB, REDUCE, StageId(0), WorkerId("a"), A, B, BatchId(4), BatchId(9)),
        BatchId(6),
    )
    assert asked == {
        "run": f"{JOB}@0",
        "job": JOB,
        "downstream": "1",
        "stage": "0",
        "partitions": "3",
        "of": "4",
        "wanted": "c",
        "wanted_of": "8",
        "first": "6",
        "last": "9",
    }

"""The pieces of a worker without a worker: stores, bytes, cuts, rows by token, chains."""

from __future__ import annotations

import asyncio

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.actions import INPUT, Fragment
from drizzle_streams.engine.frames import Block
from drizzle_streams.errors import CorruptError
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, JobId, NodeId, Offset, PartitionId, StageId
from drizzle_streams.model.job import JobSpec, StageSpec, key_group_range, owner_of
from drizzle_streams.transport.entries import Entry, EntryFormat, encode_entries
from drizzle_streams.transport.tasks import OwnedTasks
from drizzle_streams.worker.blocks import BlockStore, ShareKey
from drizzle_streams.worker.bundles import Served, pack_answer, pack_share, unpack_answer, unpack_share
from drizzle_streams.worker.chains import Chain
from drizzle_streams.worker.cutting import cut, wanted_ranges
from drizzle_streams.worker.fragments import FragmentStore, input_of
from drizzle_streams.worker.outputs import split_rows
from tests.worker.worker_worlds import JOB, MAP, REDUCE, partitions


def block(*numbers: int, rows: int = 4) -> Block:
    """Rows of each upstream partition, in key groups 0, 4, 8, …."""
    groups = [(4 * i, p) for i in range(rows) for p in numbers]
    schema = {"__key_group": pl.UInt16, "__partition": pl.UInt16}
    frame = pl.DataFrame(groups, schema=schema, orient="row") if groups else None
    return Block(frame, tuple((p, 100 + p) for p in numbers))


def held(store: BlockStore, batch: int, *numbers: int) -> list[list[int]] | None:
    found = store.find(JOB, MAP, BatchId(batch), partitions(*numbers))
    return None if found is None else [sorted(part.partitions) for part in found.parts]


# --- blocks -------------------------------------------------------------------------------


def test_blocks_are_found_by_partition_each_once() -> None:
    store = BlockStore()
    store.add(JOB, MAP, BatchId(1), block(2, 3), 5.0)
    store.add(JOB, MAP, BatchId(1), block(0, 1), 7.0)
    assert held(store, 1, 0, 1, 2, 3) == [[0, 1], [2, 3]]
    assert held(store, 1, 1, 2) == [[1], [2]]
    assert held(store, 1, 3, 4) is None
    assert held(store, 2, 0) is None
    found = store.find(JOB, MAP, BatchId(1), partitions(0, 3))
    assert found is not None
    assert found.sealed_at_ms == 7.0
    store.add(JOB, MAP, BatchId(1), block(1, 2), 9.0)
    assert held(store, 1, 0, 1, 2, 3) == [[0], [1, 2], [3]]


def test_a_block_computed_again_replaces_the_one_before() -> None:
    store = BlockStore()
    store.add(JOB, MAP, BatchId(1), block(0, 1), 0.0)
    size = store.bytes
    for _ in range(10):
        store.add(JOB, MAP, BatchId(1), block(0, 1), 0.0)
    assert (store.bytes, store.blocks) == (size, 1)


def test_shares_are_given_out_once_and_count() -> None:
    store, key = BlockStore(), ShareKey(REDUCE, partitions(0), partitions(1))
    store.add(JOB, MAP, BatchId(1), block(0), 0.0)
    bare = store.bytes
    store.add(JOB, MAP, BatchId(2), block(0), 0.0, [(key, b"x" * 50)])
    assert store.bytes == 2 * bare + 50
    assert store.share_bytes(JOB, MAP, BatchId(2), key) == 50
    assert store.take_share(JOB, MAP, BatchId(2), key) == b"x" * 50
    assert store.take_share(JOB, MAP, BatchId(2), key) is None
    assert store.share_bytes(JOB, MAP, BatchId(9), key) is None
    assert store.bytes == 2 * bare


def test_dropped_and_forgotten_blocks_leave_nothing() -> None:
    store, other = BlockStore(), JobId("other")
    for batch in range(6):
        store.add(JOB, MAP, BatchId(batch), block(0), 0.0)
        store.add(JOB, REDUCE, BatchId(batch), block(0), 0.0)
        store.add(other, MAP, BatchId(batch), block(0), 0.0)
    store.drop(JOB, BatchId(3))
    assert list(store.batches(JOB, MAP, BatchId(0), BatchId(9))) == [4, 5]
    assert list(store.batches(other, MAP, BatchId(2), BatchId(3))) == [2, 3]
    store.forget(JOB)
    assert store.blocks == 6
    store.drop(other, BatchId(5))
    assert (store.blocks, store.bytes) == (0, 0)


# --- fragments ----------------------------------------------------------------------------


def fragment(batch: int, sender: str = "a", downstream: StageId = REDUCE) -> Fragment:
    return Fragment(JOB, downstream, MAP, BatchId(batch), NodeId(sender), partitions(0), partitions(1))


def test_fragments_are_counted_and_let_go_by_stage_and_batch() -> None:
    store = FragmentStore()
    for batch in range(4):
        store.put_blocks(fragment(batch), (b"1234", b"5"))
        store.put_blocks(fragment(batch), (b"1234", b"5"))
        store.put_blocks(fragment(batch, downstream=StageId(2)), (b"12",))
    assert (store.fragments, store.bytes) == (8, 28)
    store.release(JOB, REDUCE, BatchId(2))
    assert (store.fragments, store.bytes) == (5, 13)
    assert store.blocks(fragment(2)) is None
    assert store.blocks(fragment(3)) == (b"1234", b"5")
    assert store.input(fragment(3)) is None
    store.forget(JOB)
    assert (store.fragments, store.bytes) == (0, 0)


def bounds(partition: int, first: int, end: int) -> Bounds:
    return Bounds(BatchId(0), PartitionId(partition), Offset(first), Offset(end))


def entry(local: int, first: int, records: int) -> Entry:
    return Entry(local, first, records, EntryFormat.NDJSON, b"{}\n" * records)


def test_entries_take_the_streams_partition_from_their_bounds() -> None:
    data = encode_entries([entry(0, 10, 2), entry(0, 12, 1), entry(1, 5, 4)])
    found = input_of((bounds(1, 10, 13), bounds(2, 7, 7), bounds(3, 5, 9)), data)
    assert {p: [(e.partition, e.first_offset, e.records) for e in es] for p, es in found.items()} == {
        1: [(1, 10, 2), (1, 12, 1)],
        2: [],
        3: [(3, 5, 4)],
    }
    assert input_of((bounds(0, 4, 4),), b"") == {0: ()}


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [entry(0, 10, 2)],
        [entry(0, 11, 2)],
        [entry(0, 10, 4)],
        [entry(0, 10, 3), entry(0, 13, 1)],
        [entry(0, 10, 0), entry(0, 10, 3)],
        [entry(0, 10, 1), entry(0, 12, 1)],
    ],
)
def test_entries_that_are_not_exactly_the_bounds_are_refused(entries: list[Entry]) -> None:
    with pytest.raises(CorruptError):
        input_of((bounds(0, 10, 13),), encode_entries(entries))


def test_input_is_not_blocks() -> None:
    store = FragmentStore()
    one = Fragment(JOB, MAP, INPUT, BatchId(0), NodeId("s"), partitions(0), partitions(0))
    store.put_input(one, input_of((bounds(0, 0, 2),), encode_entries([entry(0, 0, 2)])))
    assert store.blocks(one) is None
    assert store.bytes == 6


# --- bytes --------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_shares_come_back_whole(blocks: list[bytes]) -> None:
    assert unpack_share(pack_share(blocks)) == tuple(blocks)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=3), st.data())
def test_a_share_with_any_changed_or_missing_byte_is_refused(
    blocks: list[bytes], data: st.DataObject
) -> None:
    share = pack_share(blocks)
    place = data.draw(st.integers(0, len(share) - 1))
    with pytest.raises(CorruptError):
        unpack_share(
            share[:place] + bytes([share[place] ^ 1 << data.draw(st.integers(0, 7))]) + share[place + 1 :]
        )
    with pytest.raises(CorruptError):
        unpack_share(share[:place])


@given(
    st.lists(st.tuples(st.integers(0, 1 << 40), st.binary(max_size=20))), st.none() | st.integers(0, 1 << 40)
)
def test_answers_come_back_whole(shares: list[tuple[int, bytes]], following: int | None) -> None:
    served = tuple(Served(BatchId(batch), 1.5, share) for batch, share in shares)
    after = None if following is None else BatchId(following)
    packed = pack_answer(served, after)
    assert unpack_answer(packed) == (served, after)
    for cut_at in {len(packed) - 1, 7, 0} - {8}:
        with pytest.raises(CorruptError):
            unpack_answer(packed[:cut_at])


@given(st.binary(max_size=100))
def test_any_bytes_are_an_answer_or_corrupt(data: bytes) -> None:
    for read in (unpack_answer, unpack_share):
        try:
            read(data)
        except CorruptError:
            continue


# --- cuts and rows ------------------------------------------------------------------------


def spec(count: int, key_groups: int) -> JobSpec:
    stages = (StageSpec(MAP, 4), StageSpec(REDUCE, count, (MAP,)))
    return JobSpec(JOB, stages, key_groups=key_groups)


@given(st.integers(1, 40), st.integers(40, 200), st.data())
def test_ranges_hold_just_the_key_groups_of_the_partitions(
    count: int, key_groups: int, data: st.DataObject
) -> None:
    job = spec(count, key_groups)
    chosen = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    ranges = wanted_ranges(job, job.stages[1], partitions(*sorted(chosen)))
    wanted = {g for p in chosen for g in range(*key_group_range(p, count, key_groups))}
    found = (
        set(range(key_groups)) if ranges is None else {g for first, end in ranges for g in range(first, end)}
    )
    assert found == wanted
    assert all(owner_of(group, count, key_groups) in chosen for group in wanted)


def test_a_cut_takes_rows_and_marks_of_the_partitions() -> None:
    whole = block(0, 1, 2)
    assert cut(whole, frozenset(partitions(0, 1, 2)), None) is whole
    some = cut(whole, frozenset(partitions(0, 2)), ((4, 9),))
    assert some.marks == ((0, 100), (2, 102))
    assert some.frame is not None
    assert some.frame.rows() == [(4, 0), (4, 2), (8, 0), (8, 2)]
    assert cut(whole, frozenset(partitions(1)), ((1, 4),)) == Block(None, ((1, 101),))
    assert cut(Block(None, ((0, None),)), frozenset(partitions(0)), ((1, 4),)) == Block(None, ((0, None),))


@given(st.lists(st.integers(0, 59), max_size=30), st.integers(1, 20), st.booleans())
def test_rows_are_split_by_owner_in_order(groups: list[int], count: int, ordered: bool) -> None:
    given_groups = sorted(groups) if ordered else groups
    rows = pl.DataFrame(
        {"__key_group": given_groups, "n": range(len(groups))}, schema_overrides={"__key_group": pl.UInt16}
    )
    split = split_rows(rows, "__key_group", count, 60)
    assert [p for p, _ in split] == sorted({owner_of(g, count, 60) for g in groups})
    for partition, part in split:
        first, end = key_group_range(partition, count, 60)
        wanted = [(g, n) for n, g in enumerate(given_groups) if first <= g < end]
        assert sorted(part.rows()) == sorted(wanted)
        assert [g for g, _ in part.rows()] == sorted(g for g, _ in wanted)


def test_rows_of_a_reading_stage_are_split_by_stream_partition() -> None:
    rows = pl.DataFrame(
        {"__partition": [1, 1, 3], "n": [5, 6, 7]}, schema_overrides={"__partition": pl.UInt16}
    )
    assert [(p, part["n"].to_list()) for p, part in split_rows(rows, "__partition", 4, 60)] == [
        (1, [5, 6]),
        (3, [7]),
    ]
    assert split_rows(rows.clear(), "__partition", 4, 60) == ()


# --- order --------------------------------------------------------------------------------


async def test_a_chain_runs_one_at_a_time_in_order() -> None:
    tasks = OwnedTasks(lambda error: pytest.fail(str(error)))
    chain, log, gate = Chain(tasks, "chain"), list[str](), asyncio.Event()

    def operation(name: str, turns: int):
        async def run() -> None:
            log.append(f"{name} begins")
            for _ in range(turns):
                await asyncio.sleep(0)
            log.append(f"{name} ends")

        return run

    assert chain.ended().is_set()
    chain.add(operation("one", 5))
    chain.add(operation("two", 0))
    ended = chain.ended()
    chain.add(gate.wait)  # type: ignore[arg-type]
    chain.add(operation("three", 0))
    await asyncio.wait_for(ended.wait(), 5)
    gate.set()
    assert log == ["one begins", "one ends", "two begins", "two ends"]
    await asyncio.wait_for(chain.ended().wait(), 5)
    assert log[-1] == "three ends"
    await tasks.close()
    assert chain.length == 0

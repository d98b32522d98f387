"""Dependency sets: complete when everything came, each row once, whatever is announced again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.actions import INPUT, Fragment
from drizzle_streams.core.arrivals import Arrivals, mask_of, partitions_of
from drizzle_streams.model.ids import BatchId, JobId, NodeId, PartitionId, StageId

UPSTREAM, HERE = StageId(0), StageId(1)
UPS, DOWNS = 4, 3
BATCH = BatchId(7)


def fragment(sender: str, partitions: tuple[int, ...], wanted: tuple[int, ...], stage: int = 0) -> Fragment:
    return Fragment(
        JobId("j"),
        HERE,
        StageId(stage),
        BATCH,
        NodeId(sender),
        tuple(map(PartitionId, partitions)),
        tuple(map(PartitionId, wanted)),
    )


SUBSETS = st.sets(st.integers(0, UPS - 1), min_size=1).map(lambda s: tuple(sorted(s)))
WANTED = st.sets(st.integers(0, DOWNS - 1), min_size=1).map(lambda s: tuple(sorted(s)))


@given(st.lists(st.tuples(st.sampled_from("abc"), SUBSETS, WANTED), max_size=12))
def test_each_row_enters_a_task_once(announced: list[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> None:
    table = Arrivals()
    pairs: set[tuple[int, int]] = set()
    for sender, ups, wanted in announced:
        news = {(u, w) for u in ups for w in wanted} - pairs
        assert table.add(fragment(sender, ups, wanted), 1.0) == bool(news)
        pairs |= news
    for cohort in ((0,), (1, 2), (0, 1, 2)):
        taken = [
            (u, w)
            for piece in table.pieces(BATCH, mask_of(tuple(map(PartitionId, cohort))))
            for u in piece.partitions
            for w in piece.wanted
        ]
        assert len(taken) == len(set(taken)), "no row twice"
        assert set(taken) == {(u, w) for u, w in pairs if w in cohort}
        mask = mask_of(tuple(map(PartitionId, cohort)))
        complete = table.complete(BATCH, ((UPSTREAM, UPS),), mask)
        assert complete == all((u, w) in pairs for u in range(UPS) for w in cohort)
        missing = {p for line in table.missing(BATCH, ((UPSTREAM, UPS),), mask) for p in line.partitions}
        assert missing == {u for u in range(UPS) if any((u, w) not in pairs for w in cohort)}


def test_input_comes_for_each_stream_partition_itself() -> None:
    table = Arrivals()
    table.add(fragment("s1", (0, 2), (0, 2), stage=INPUT), 5.0)
    assert not table.complete_input(BATCH, INPUT, 0b111)
    assert table.missing_input(BATCH, INPUT, 0b111)[0].partitions == (1,)
    table.add(fragment("s2", (1,), (1,), stage=INPUT), 6.0)
    assert table.complete_input(BATCH, INPUT, 0b111)
    assert table.sealed_at_ms(BATCH) == 6.0
    assert [piece.partitions for piece in table.pieces(BATCH, 0b101)] == [(0, 2)]


def test_pieces_come_in_the_order_of_upstream_partitions() -> None:
    table = Arrivals()
    table.add(fragment("b", (2, 3), (0,)), 1.0)
    table.add(fragment("a", (0, 1), (0,)), 1.0)
    assert [piece.partitions for piece in table.pieces(BATCH, 1)] == [(0, 1), (2, 3)]


def test_what_is_released_is_gone() -> None:
    table = Arrivals()
    table.add(fragment("a", (0,), (0,)), 1.0)
    assert not table.release(BatchId(6))
    assert table.release(BATCH)
    assert len(table) == 0
    assert table.pieces(BATCH, 1) == ()


@given(st.sets(st.integers(0, 200)))
def test_masks_are_sets(partitions: set[int]) -> None:
    ordered = tuple(map(PartitionId, sorted(partitions)))
    assert partitions_of(mask_of(ordered)) == ordered


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), SUBSETS, WANTED, st.integers(0, 3), st.integers(1, 4)), max_size=10
    )
)
def test_a_range_is_noted_as_its_batches_are_one_by_one(
    announced: list[tuple[str, tuple[int, ...], tuple[int, ...], int, int]],
) -> None:
    ranges, single = Arrivals(), Arrivals()
    for sender, ups, wanted, first, count in announced:
        named = fragment(sender, ups, wanted)
        batches = [BatchId(BATCH + first + at) for at in range(count)]
        times = [float(batch) for batch in batches]
        news = [single.add(named._replace(batch=batch), at) for batch, at in zip(batches, times, strict=True)]
        assert ranges.add_range(named._replace(batch=batches[0]), times) == any(news)
    for batch in (BatchId(BATCH + at) for at in range(8)):
        assert ranges.sealed_at_ms(batch) == single.sealed_at_ms(batch)
        for wanted in range(1, 1 << DOWNS):
            assert ranges.pieces(batch, wanted) == single.pieces(batch, wanted)

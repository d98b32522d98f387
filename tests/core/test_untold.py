"""What is held back of announcements, and when it is told."""

from __future__ import annotations

from drizzle_streams.core.retained import Run
from drizzle_streams.core.untold import RUN_BATCHES_MAX, Untold
from drizzle_streams.model.ids import BatchId, PartitionId, StageId

STAGE = StageId(0)
ALL = (PartitionId(0), PartitionId(1))
SOME = (PartitionId(1),)


def run(first: int, last: int, partitions: tuple[PartitionId, ...] = ALL) -> Run:
    sealed = tuple(float(batch) for batch in range(first, last + 1))
    return Run(BatchId(first), BatchId(last), partitions, sealed)


def add(
    untold: Untold, batch: int, partitions: tuple[PartitionId, ...] = ALL, *, more: bool = True
) -> tuple[Run, ...]:
    return untold.add(STAGE, partitions, BatchId(batch), float(batch), more=more)


def test_without_a_backlog_a_batch_is_told_at_once() -> None:
    untold = Untold()
    assert add(untold, 4, more=False) == (run(4, 4),)
    assert not untold


def test_the_last_of_a_backlog_tells_all_of_it() -> None:
    untold = Untold()
    assert [add(untold, batch) for batch in range(3)] == [(), (), ()]
    assert untold
    assert add(untold, 3, more=False) == (run(0, 3),)
    assert not untold


def test_a_range_has_a_bound() -> None:
    untold = Untold()
    told = [add(untold, batch) for batch in range(2 * RUN_BATCHES_MAX)]
    most = RUN_BATCHES_MAX
    assert [one for one in told if one] == [(run(0, most - 1),), (run(most, 2 * most - 1),)]


def test_a_gap_ends_a_range() -> None:
    untold = Untold()
    add(untold, 0)
    assert add(untold, 5) == (run(0, 0),)
    add(untold, 6)
    assert add(untold, 8, more=False) == (run(5, 6), run(8, 8))


def test_other_partitions_are_a_range_of_their_own() -> None:
    untold = Untold()
    add(untold, 7)
    add(untold, 2, SOME)
    add(untold, 8)
    assert untold.take() == [(STAGE, run(2, 2, SOME)), (STAGE, run(7, 8))]
    assert not untold
    assert untold.take() == []


def test_what_is_dropped_is_not_told() -> None:
    untold = Untold()
    add(untold, 1)
    untold.drop()
    assert add(untold, 2, more=False) == (run(2, 2),)

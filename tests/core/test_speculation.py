"""Copies of straggling tasks: when a source makes one, for whom, and how few they are."""

from __future__ import annotations

from drizzle_streams.core.actions import INPUT, Fragment
from drizzle_streams.core.copies import COPIES_WAITING_MAX, CopyTask, CopyTasks, copy_cohort
from drizzle_streams.core.speculation import (
    COPIES_ALLOWED_MAX,
    COPIES_PER_TASK,
    TASKS_KNOWN_MIN,
    Copies,
    Copy,
)
from drizzle_streams.model.ids import BatchId, JobId, NodeId, PartitionId, StageId, WorkerId

A, B, C = WorkerId("a"), WorkerId("b"), WorkerId("c")
P0, P1, P2 = PartitionId(0), PartitionId(1), PartitionId(2)
OWNERS = {P0: A, P1: B}
SEALED = {BatchId(100): 5_000.0}
LATE_MS = 5_000.0 + 4.0 + 50.0
"""Tasks take 4 ms, and the floor is one interval of 50 ms."""


def known(tasks: int = 100) -> Copies:
    """Copies at a source whose tasks take 4 ms."""
    copies = Copies(50.0)
    for batch in range(tasks):
        copies.owner_took(BatchId(batch), P0, 4.0)
    return copies


def taken(p0: int, p1: int) -> dict[PartitionId, BatchId]:
    return {P0: BatchId(p0), P1: BatchId(p1)}


def test_a_late_task_is_offered_to_who_is_on_time_once() -> None:
    copies = known()
    assert copies.due(LATE_MS - 1.0, SEALED, taken(99, 100), OWNERS) == ([], LATE_MS)
    made, _ = copies.due(LATE_MS, SEALED, taken(99, 100), OWNERS)
    assert made == [Copy(BatchId(100), B, (P0,))]
    assert copies.due(LATE_MS + 100.0, SEALED, taken(99, 100), OWNERS) == ([], None)
    assert (copies.started, copies.won, copies.wasted) == (1, 0, 0)


def test_what_delays_everybody_makes_no_copy() -> None:
    made, _ = known().due(LATE_MS + 500.0, SEALED, taken(99, 99), OWNERS)
    assert made == []


def test_a_worker_that_is_late_with_another_partition_gets_no_copy() -> None:
    owners = {P0: A, P1: B, P2: B}
    done = {P0: BatchId(99), P1: BatchId(100), P2: BatchId(99)}
    made, _ = known().due(LATE_MS + 500.0, SEALED, done, owners)
    assert made == []


def test_who_has_batches_of_its_own_to_compute_gets_no_copy() -> None:
    """Where batches queue up tasks are late by their queue, and a copy would be one more in another."""
    sealed = {BatchId(batch): 5_000.0 for batch in range(100, 108)}
    copies = known()
    for done in range(100, 106):
        assert copies.due(LATE_MS + 500.0, sealed, taken(99, done), OWNERS)[0] == []
        assert copies.awaits_backup, "it may be through soon"
    made, _ = copies.due(LATE_MS + 500.0, sealed, taken(99, 106), OWNERS)
    assert made[0] == Copy(BatchId(100), B, (P0,))


def test_partitions_of_one_owner_go_in_one_offer() -> None:
    owners = {P0: A, P1: B, P2: A}
    done = {P0: BatchId(99), P1: BatchId(100), P2: BatchId(99)}
    made, _ = known().due(LATE_MS, SEALED, done, owners)
    assert made == [Copy(BatchId(100), B, (P0, P2))]


def test_nothing_is_late_before_there_is_a_median() -> None:
    copies = known(TASKS_KNOWN_MIN - 1)
    assert copies.due(LATE_MS + 500.0, SEALED, taken(99, 100), OWNERS) == ([], None)


def test_who_wins_and_what_was_in_vain() -> None:
    copies = known()
    copies.due(LATE_MS, SEALED, taken(99, 100), OWNERS)
    copies.copy_ended(BatchId(100), P0)
    copies.copy_ended(BatchId(100), P0)
    copies.owner_took(BatchId(100), P0, 200.0)
    assert (copies.started, copies.won, copies.wasted) == (1, 1, 0)

    copies.due(LATE_MS + 50.0, {BatchId(101): 5_050.0}, taken(100, 101), OWNERS)
    copies.owner_took(BatchId(101), P0, 60.0)
    copies.copy_ended(BatchId(101), P0)
    assert (copies.started, copies.won, copies.wasted) == (2, 1, 1)


def test_copies_are_few() -> None:
    """A quarter of what owners do, so that copies cannot be what makes a cluster slow."""
    copies = known()
    sealed = {BatchId(100 + n): 5_000.0 for n in range(20)}
    made, _ = copies.due(LATE_MS, sealed, taken(99, 119), OWNERS)
    assert len(made) == COPIES_ALLOWED_MAX
    for batch in range(100, 108):
        copies.owner_took(BatchId(batch), P0, 100.0)
    made, _ = copies.due(LATE_MS, sealed, taken(107, 119), OWNERS)
    assert len(made) == 8 * COPIES_PER_TASK


def test_a_new_generation_catches_up_and_copies_nothing_for_it() -> None:
    copies = known()
    copies.begin(BatchId(100))
    made, _ = copies.due(LATE_MS + 5_000.0, SEALED, taken(90, 100), OWNERS)
    assert made == []


# --- at the worker ------------------------------------------------------------------------


def task(batch: int, *, here: bool = True) -> CopyTask:
    fragment = Fragment(JobId("j"), StageId(0), INPUT, BatchId(batch), NodeId("source"), (P0,), (P0,))
    return CopyTask(fragment, 1.0, here)


def test_the_oldest_copy_runs_first_and_one_at_a_time() -> None:
    copies = CopyTasks()
    assert copies.offer(task(8))
    assert copies.offer(task(7))
    assert not copies.offer(task(7)), "known"
    started = copies.start(JobId("j"))
    assert started is not None
    assert started.key.batch == 7
    assert started.key.cohort == copy_cohort(StageId(0)) < 0
    assert copies.start(JobId("j")) is None
    assert not copies.offer(task(7)), "it runs"
    assert copies.keeps_from(StageId(0)) == 7
    assert copies.ended(started.key) == task(7)
    assert copies.keeps_from(StageId(0)) == 8


def test_a_copy_waits_for_its_input() -> None:
    copies = CopyTasks()
    copies.offer(task(7, here=False))
    assert copies.start(JobId("j")) is None
    assert copies.arrived(task(7).fragment)
    assert copies.start(JobId("j")) is not None
    assert not copies.arrived(task(9).fragment)


def test_copies_that_wait_are_bounded() -> None:
    copies = CopyTasks()
    taken_in = [copies.offer(task(batch)) for batch in range(COPIES_WAITING_MAX + 3)]
    assert sum(taken_in) == COPIES_WAITING_MAX


def test_a_copy_of_an_older_generation_ends_as_nobody_s() -> None:
    copies = CopyTasks()
    copies.offer(task(7))
    started = copies.start(JobId("j"))
    copies.clear()
    assert started is not None
    assert copies.keeps_from(StageId(0)) == 7, "it reads its input until it has ended (seeds 75, 90, 109)"
    assert copies.ended(started.key) is None
    assert copies.keeps_from(StageId(0)) is None
    copies.offer(task(9))
    again = copies.start(JobId("j"))
    assert again is not None
    assert copies.ended(again.key) == task(9)

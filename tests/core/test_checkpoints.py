"""Checkpoints: whole or not at all, newest first, and nothing kept that nothing needs."""

from __future__ import annotations

from drizzle_streams.core import checkpoints as cp
from drizzle_streams.core.checkpoints import Checkpoints
from drizzle_streams.model.ids import BatchId, JobId, PartitionId, StageId, StreamId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.snapshot import SnapshotPart, SnapshotRef


def spec(*, stateful: bool = True) -> JobSpec:
    return JobSpec(
        JobId("j"),
        (
            StageSpec(StageId(0), 1, stream=StreamId("s")),
            StageSpec(StageId(1), 2, (StageId(0),), None, stateful),
        ),
        batch_interval_ms=50.0,
        checkpoint_interval_ms=500.0,
    )


def ref(batch: int, partitions: tuple[int, ...], *keys: str) -> SnapshotRef:
    parts = tuple(SnapshotPart(key, 10, 0) for key in keys)
    return SnapshotRef(StageId(1), tuple(map(PartitionId, partitions)), BatchId(batch), parts)


def test_a_checkpoint_needs_every_partition_and_the_frontier() -> None:
    state = Checkpoints(spec())
    state.stored(ref(9, (0,), "a9"))
    assert state.complete(BatchId(50), 10) is None
    state.stored(ref(9, (1,), "b9"))
    assert state.complete(BatchId(8), 10) is None
    found = state.complete(BatchId(9), 10)
    assert found is not None
    assert found.batch == 9
    assert len(found.snapshots) == 2


def test_one_snapshot_may_hold_several_partitions() -> None:
    state = Checkpoints(spec())
    state.stored(ref(9, (0, 1), "ab9"))
    found = state.complete(BatchId(9), 10)
    assert found is not None
    assert len(found.snapshots) == 1
    assert found.refs(StageId(1), PartitionId(1), 2, 1024) == [ref(9, (0, 1), "ab9")]


def test_the_newest_complete_one_is_taken() -> None:
    state = Checkpoints(spec())
    for batch in (9, 19, 29):
        state.stored(ref(batch, (0, 1), f"k{batch}"))
    found = state.complete(BatchId(25), 10)
    assert found is not None
    assert found.batch == 19


def commit(state: Checkpoints, batch: int, *keys: str) -> tuple[str, ...]:
    """Both partitions stored under these keys, and committed; what that made obsolete."""
    state.stored(ref(batch, (0, 1), *keys))
    found = state.complete(BatchId(batch), 10)
    assert found is not None
    assert found.batch == batch
    return state.commit(found)


def test_what_a_commit_replaces_is_named_once() -> None:
    """Two chains in turn: what neither kept checkpoint nor a next delta can need is obsolete."""
    state = Checkpoints(spec())
    assert commit(state, 9, "full9") == ()
    assert commit(state, 19, "full19") == ()
    assert commit(state, 29, "full9", "delta29") == (), "the delta stands on the full one"
    assert commit(state, 39, "full19", "delta39") == ()
    assert commit(state, 49, "full49") == ("delta29", "full9")
    assert state.complete(BatchId(49), 10) is None, "committed once"


def test_only_what_lies_behind_the_older_of_two_may_go() -> None:
    state = Checkpoints(spec())
    assert state.floor == -1
    commit(state, 9, "full9")
    assert state.floor == -1, "the beginning is what there is to fall back to"
    commit(state, 19, "full19")
    assert (state.committed.batch, state.floor) == (19, 9)


def test_a_damaged_checkpoint_falls_back_once() -> None:
    state = Checkpoints(spec())
    commit(state, 9, "full9")
    commit(state, 19, "full19")
    assert state.fall_back()
    assert (state.committed.batch, state.floor) == (9, 9)
    assert not state.fall_back(), "there is none before it"
    assert state.damaged == 2
    assert commit(state, 29, "full29") == ()
    assert (state.committed.batch, state.floor) == (29, 9)
    assert commit(state, 39, "full39") == ("full19", "full9"), "of the damaged one, too, nothing stays"


def test_the_one_to_fall_back_to_shares_no_part() -> None:
    """Batch 29 stands on the same base as batch 9: batch 19, whole but never committed, does not."""
    state = Checkpoints(spec())
    commit(state, 9, "full9")
    state.stored(ref(19, (0, 1), "full19"))
    commit(state, 29, "full9", "delta29")
    assert state.previous.batch == 19


def test_where_all_share_parts_the_newest_is_there_to_fall_back_to() -> None:
    state = Checkpoints(spec())
    commit(state, 9, "full9")
    commit(state, 19, "full9", "delta19")
    assert state.previous.batch == 9


def test_a_restored_ledger_keeps_both() -> None:
    state, again = Checkpoints(spec()), Checkpoints(spec())
    commit(state, 9, "full9")
    commit(state, 19, "full19")
    again.restore(state.committed, state.previous)
    assert (again.committed, again.floor) == (state.committed, 9)
    assert commit(again, 29, "full29") == ("full9",)


def test_a_snapshot_that_came_too_late_may_still_be_built_upon() -> None:
    """An adopter's snapshot of a committed batch is kept while it is its newest: deltas follow."""
    state = Checkpoints(spec())
    state.stored(ref(19, (0, 1), "old19"))
    found = state.complete(BatchId(19), 10)
    assert found is not None
    state.commit(found)
    state.stored(ref(9, (0, 1), "late9"))
    state.stored(ref(29, (0,), "late9", "delta29"))
    state.stored(ref(29, (1,), "late9", "delta29"))
    newer = state.complete(BatchId(29), 10)
    assert newer is not None
    assert "late9" not in state.commit(newer)


def test_a_job_without_state_commits_on_the_same_rhythm() -> None:
    state = Checkpoints(spec(stateful=False))
    assert state.complete(BatchId(8), 10) is None
    found = state.complete(BatchId(27), 10)
    assert found is not None
    assert found.batch == 19
    assert found.snapshots == ()
    assert state.commit(found) == ()
    assert state.floor == 19, "without state nothing can be damaged"


def test_what_is_pending_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(cp, "PENDING_CHECKPOINTS_MAX", 4)
    state = Checkpoints(spec())
    for batch in range(9, 100, 10):
        state.stored(ref(batch, (0,), f"k{batch}"))
    assert sorted(state.pending) == [69, 79, 89, 99]


def test_an_ended_job_names_everything_it_stored() -> None:
    state = Checkpoints(spec())
    state.stored(ref(9, (0, 1), "full9"))
    state.stored(ref(19, (0,), "delta19"))
    assert state.forget() == {"full9", "delta19"}

"""The recovery plan: a pure function from facts; what is lost is rebuilt, nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.recovery import Facts, plan_recovery
from drizzle_streams.model.ids import NO_BATCH, BatchId, JobId, PartitionId, StageId, StreamId, WorkerId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.snapshot import Checkpoint, SnapshotPart, SnapshotRef

SPEC = JobSpec(
    JobId("j"),
    (
        StageSpec(StageId(0), 4, stream=StreamId("s")),
        StageSpec(StageId(1), 4, inputs=(StageId(0),), stateful=True, writes_output=True),
    ),
)
W = [WorkerId(f"w{i}") for i in range(3)]
C = BatchId(9)
CHECKPOINT = Checkpoint(
    C,
    tuple(SnapshotRef(StageId(1), (PartitionId(p),), C, (SnapshotPart(f"k{p}", 1, 0),)) for p in range(4)),
)


def facts(workers: list[WorkerId], holders: dict[tuple[int, int], WorkerId], held: int, done: int) -> Facts:
    return Facts(
        spec=SPEC,
        workers=[(worker, 1) for worker in workers],
        holders=holders,
        held=[[BatchId(held)] * 4, [BatchId(held)] * 4],
        done=[[BatchId(done)] * 4, [BatchId(done)] * 4],
        checkpoint=CHECKPOINT,
    )


EVEN = {(s, p): W[p % 2] for s in (0, 1) for p in range(4)}


def test_a_first_plan_places_everything_from_nothing() -> None:
    plan = plan_recovery(
        Facts(
            spec=SPEC,
            workers=[(w, 1) for w in W[:2]],
            holders={},
            held=[[NO_BATCH] * 4] * 2,
            done=[[NO_BATCH] * 4] * 2,
            checkpoint=Checkpoint(NO_BATCH),
        )
    )
    assert plan.moved == 8
    assert plan.replayed_batches == 0
    assert all(b == 0 for row in plan.needed for b in row)
    adopted = [a for worker in W[:2] for a in plan.adoptions[worker]]
    assert all(a.first == 0 and a.snapshots == () and a.available == () for a in adopted)


def test_survivors_keep_what_they_hold_and_need_what_comes_next() -> None:
    held = {key: owner for key, owner in EVEN.items() if owner == W[0]}
    plan = plan_recovery(facts([W[0], W[2]], held, held=20, done=20))
    for (stage, p), owner in held.items():
        assert plan.placement.owners[stage][p] == owner
        assert plan.needed[stage][p] == 21
    assert {a.stage for a in plan.adoptions[W[0]]} == set(), (
        "nothing is restored on a survivor that keeps its own"
    )


def test_the_lost_are_restored_from_the_checkpoint_and_replay_from_the_batch_after_it() -> None:
    held = {key: owner for key, owner in EVEN.items() if owner == W[0]}
    plan = plan_recovery(facts([W[0], W[2]], held, held=20, done=20))
    (state,) = [a for a in plan.adoptions[W[2]] if a.stage == 1]
    assert state.first == C + 1
    assert {ref.batch for ref in state.snapshots} == {C}
    assert {p for ref in state.snapshots for p in ref.partitions} == set(state.partitions)
    assert plan.replayed_batches == 11
    assert {a.done for a in plan.adoptions[W[2]]} == {20}, "what the lost had done is known"


def test_the_dependency_list_is_pre_filled_with_what_survives() -> None:
    held = {key: owner for key, owner in EVEN.items() if owner == W[0]}
    plan = plan_recovery(facts([W[0], W[2]], held, held=20, done=20))
    (state,) = [a for a in plan.adoptions[W[2]] if a.stage == 1]
    assert [(line.worker, line.partitions, line.first, line.last) for line in state.available] == [
        (W[0], (0, 2), C + 1, 20)
    ]


def test_blocks_of_the_lost_are_computed_again_from_the_checkpoint() -> None:
    held = {key: owner for key, owner in EVEN.items() if owner == W[0]}
    plan = plan_recovery(facts([W[0], W[2]], held, held=20, done=20))
    (maps,) = [a for a in plan.adoptions[W[2]] if a.stage == 0]
    assert maps.first == C + 1
    assert maps.snapshots == ()


def test_a_new_worker_gets_its_share_and_no_more() -> None:
    plan = plan_recovery(facts(W, EVEN, held=C, done=C))
    assert 0 < plan.moved <= 4
    assert {owner for row in plan.placement.owners for owner in row} == set(W)
    assert plan.replayed_batches == 0, "right after a checkpoint there is nothing to replay"


def test_nothing_moves_where_nothing_changed() -> None:
    plan = plan_recovery(facts(W[:2], EVEN, held=20, done=20))
    assert plan.moved == 0
    assert all(adoptions == () for adoptions in plan.adoptions.values())


@given(
    st.sets(st.sampled_from(W), min_size=1),
    st.dictionaries(st.tuples(st.sampled_from([0, 1]), st.integers(0, 3)), st.sampled_from(W), max_size=8),
    st.lists(st.lists(st.integers(C, 30), min_size=4, max_size=4), min_size=2, max_size=2),
)
def test_every_plan_is_complete(alive: set[WorkerId], holders: dict, held: list[list[int]]) -> None:
    known = {key: owner for key, owner in holders.items() if owner in alive}
    plan = plan_recovery(
        Facts(
            spec=SPEC,
            workers=[(w, 1) for w in sorted(alive)],
            holders=known,
            held=held,  # type: ignore[arg-type]
            done=held,  # type: ignore[arg-type]
            checkpoint=CHECKPOINT,
        )
    )
    for stage in (0, 1):
        for p in range(4):
            owner = plan.placement.owners[stage][p]
            adopters = [
                worker
                for worker, adoptions in plan.adoptions.items()
                if any(a.stage == stage and p in a.partitions for a in adoptions)
            ]
            assert owner in alive
            assert adopters == ([] if known.get((stage, p)) == owner else [owner])
            assert C < plan.needed[stage][p] <= held[stage][p] + 1

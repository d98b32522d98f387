"""When partitions are split and merged, and what has to be true for it."""

from __future__ import annotations

from dataclasses import replace

from drizzle_streams.core.recovery import Facts, plan_recovery
from drizzle_streams.core.resizing import MERGE_AFTER_S, PARTITIONS_MAX, Before, Resizing
from drizzle_streams.model.ids import (
    BatchId,
    Generation,
    GroupId,
    JobId,
    PartitionId,
    SourceId,
    StageId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.snapshot import Checkpoint, SnapshotRef
from drizzle_streams.protocol.messages import Halted
from drizzle_streams.protocol.parts import Former

MAP, REDUCE = StageId(0), StageId(1)
A, B = WorkerId("a"), WorkerId("b")
LOG = SourceId("log")


def spec(partitions: int = 4, least: int = 4) -> JobSpec:
    reduce = StageSpec(REDUCE, partitions, (MAP,), stateful=True, writes_output=True, partitions_least=least)
    return JobSpec(JobId("job"), (StageSpec(MAP, 2), reduce))


def wanted(partitions: int, workers: int, *, least: int = 4, settled: bool = True) -> int:
    resizing = Resizing(spec(partitions, least))
    resizing.look(workers, 0.0)
    resizing.look(workers, MERGE_AFTER_S if settled else MERGE_AFTER_S / 2)
    return resizing.wanted.get(REDUCE, partitions)


def test_partitions_are_doubled_until_workers_can_share_them() -> None:
    assert [wanted(4, workers) for workers in (1, 2, 3, 4, 5, 16)] == [4, 4, 8, 8, 16, 32]


def test_they_are_halved_where_all_have_too_many_but_to_no_fewer_than_the_job_began_with() -> None:
    assert [wanted(32, workers) for workers in (16, 4, 3, 2, 1)] == [32, 32, 16, 16, 8]
    assert wanted(32, 1, least=16) == 16
    assert wanted(32, 1, least=32) == 32


def test_merging_waits_until_workers_have_not_changed_for_a_while() -> None:
    assert wanted(32, 1, settled=False) == 32
    resizing = Resizing(spec(32))
    resizing.look(2, 0.0)
    assert not resizing.look(1, MERGE_AFTER_S), "somebody has just left"
    assert resizing.look(1, 2 * MERGE_AFTER_S) == "stage 1: 32 partitions merge into 8"


def test_there_is_a_gap_between_splitting_and_merging() -> None:
    for workers in range(1, 40):
        after = wanted(4, workers)
        assert wanted(after, workers) == after


def test_a_number_that_is_fixed_stays_and_none_is_beyond_the_bound() -> None:
    assert wanted(4, 16, least=0) == 4
    assert wanted(4, 10_000) == PARTITIONS_MAX
    few = Resizing(replace(spec(), key_groups=8))
    few.look(100, 0.0)
    assert few.wanted == {REDUCE: 8}, "a partition has a key group at least"


def halted(sealed: int, *, generation: int = 3, group: int = 7, last: int = 20) -> Halted:
    place = (JobId("job"), Generation(generation), LOG, GroupId(group))
    return Halted(*place, BatchId(last), BatchId(sealed))


def test_the_boundary_stands_when_every_source_has_halted_at_it() -> None:
    place = (BatchId(20), Generation(3), GroupId(7), (LOG,))
    resizing = Resizing(spec())
    assert not resizing.stands(*place), "nobody has said anything"
    for other in (halted(20, generation=2), halted(20, group=6), halted(20, last=19), halted(21)):
        resizing.heard(other)
        assert not resizing.stands(*place)
    resizing.heard(halted(18))
    assert resizing.stands(*place)
    resizing.begin()
    assert not resizing.stands(*place), "a cut that is said again has to be obeyed again"


def test_a_boundary_must_not_lie_before_what_is_sealed() -> None:
    resizing = Resizing(spec())
    resizing.heard(halted(23))
    assert resizing.sealed(Generation(3), GroupId(7)) == -1, "nothing is to be split: it does not matter"
    resizing.look(8, 0.0)
    assert resizing.sealed(Generation(3), GroupId(7)) == 23
    assert resizing.sealed(Generation(4), GroupId(7)) == -1


def test_new_partitions_come_from_whoever_held_their_key_groups() -> None:
    """Four partitions of two workers become two, and one of a third worker's: by range, not by number."""
    before = Before(4, {0: A, 1: A, 2: B, 3: B})
    refs = (
        SnapshotRef(REDUCE, (PartitionId(0), PartitionId(1)), BatchId(9), (), of=4),
        SnapshotRef(REDUCE, (PartitionId(2), PartitionId(3)), BatchId(9), (), of=4),
    )
    third = WorkerId("c")
    facts = Facts(
        spec=spec(3),
        workers=[(A, 1), (B, 1), (third, 1)],
        holders={(0, 0): A, (0, 1): B},
        held=[[BatchId(9)] * 2, [BatchId(9)] * 3],
        done=[[BatchId(9)] * 2, [BatchId(9)] * 3],
        checkpoint=Checkpoint(BatchId(9), refs),
        before={REDUCE: before},
    )
    plan = plan_recovery(facts)
    assert plan.needed[REDUCE] == (10, 10, 10)
    adopted = {
        a.partitions: (w, a) for w, found in plan.adoptions.items() for a in found if a.stage == REDUCE
    }
    assert {partitions: worker for partitions, (worker, _) in adopted.items()} == {
        (0,): A,
        (2,): B,
        (1,): third,
    }
    middle = adopted[(PartitionId(1),)][1]
    assert middle.formers == (Former(A, (PartitionId(1),), 4), Former(B, (PartitionId(2),), 4))
    assert middle.snapshots == refs, "its key groups lie in both"
    assert adopted[(PartitionId(0),)][1].snapshots == refs[:1]

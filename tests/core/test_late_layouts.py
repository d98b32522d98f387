"""Layouts that grow: which partitions a batch has, and what is left alone."""

from __future__ import annotations

from drizzle_streams.core.late_sources import awaited, begun, first_batches, take_in, unread
from drizzle_streams.core.progress import Progress
from drizzle_streams.model.ids import BatchId, JobId, PartitionId, SourceId, StageId, StreamId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import StreamLayout

A, B, C = SourceId("a"), SourceId("b"), SourceId("c")
POSTED, FILES = StreamId("posted"), StreamId("files")
SPEC = JobSpec(
    JobId("j"),
    (
        StageSpec(StageId(0), 2, stream=POSTED),
        StageSpec(StageId(1), 2, stream=FILES, chunks=9),
        StageSpec(StageId(2), 4, inputs=(StageId(0), StageId(1)), stateful=True),
    ),
)
LAYOUTS = (StreamLayout(POSTED, (A, A)), StreamLayout(FILES, (A, A)))


def grown(*launched: int):
    spec, layouts, known = SPEC, LAYOUTS, [(A, 2)]
    for source, last in zip((B, C), launched, strict=False):
        known.append((source, 1))
        joined = take_in(spec, layouts, known, BatchId(last))
        assert joined is not None
        assert joined.newcomers == (source,)
        spec, layouts = joined.spec, joined.layouts
    return spec, layouts


def test_only_posted_streams_are_read_from_a_source_that_joins() -> None:
    spec, layouts = grown(19, 59)
    assert [stage.partitions for stage in spec.stages] == [4, 2, 4]
    assert layouts[0] == StreamLayout(POSTED, (A, A, B, C), tuple(map(BatchId, (0, 0, 20, 60))))
    assert layouts[1] == LAYOUTS[1]
    assert layouts[0].local(PartitionId(2)) == 0
    files_only = JobSpec(JobId("f"), (SPEC.stages[1],))
    assert unread(files_only, LAYOUTS[1:], [(A, 2), (B, 2)]) == ()


def test_nobody_new_is_no_change() -> None:
    spec, layouts = grown(19)
    assert take_in(spec, layouts, [(A, 2), (B, 1)], BatchId(99)) is None


def test_a_batch_awaits_the_partitions_that_are_part_of_it() -> None:
    spec, layouts = grown(19, 59)
    reads = awaited(spec, {layout.stream: layout for layout in layouts})[2]
    assert reads.at(BatchId(19)) == ((0, 2), (1, 2))
    assert reads.at(BatchId(20)) == ((0, 3), (1, 2))
    assert reads.at(BatchId(60)) == reads.at(BatchId(1_000)) == ((0, 4), (1, 2))


def test_who_has_yet_to_begin_holds_nobody_back_and_is_not_ahead() -> None:
    progress = Progress(SPEC)
    for stage in SPEC.stages:
        whole = tuple(PartitionId(p) for p in range(stage.partitions))
        progress.finish(stage.stage, whole, BatchId(12))
        progress.hold(stage.stage, whole, BatchId(12))
    spec, layouts = grown(19)
    firsts = first_batches(spec, layouts)
    assert firsts == {(0, 2): 20}
    progress.spec = spec
    progress.begin_at(firsts)
    assert (progress.frontier, progress.held_by_all) == (12, 12)
    assert progress.furthest(progress.held) == progress.furthest(progress.done) == 12
    everybody = tuple(PartitionId(p) for p in range(3))
    assert progress.begun(StageId(0), everybody, BatchId(19)) == everybody[:2]
    assert begun([[BatchId(13), BatchId(13), BatchId(20)]], firsts) == ((13, 13),)

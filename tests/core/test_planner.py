"""When a group is due: pipelined, on schedule, never piling up."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.planner import PLAN_AHEAD_MS, next_group
from drizzle_streams.model.ids import NO_BATCH, BatchId, GroupId, JobId
from drizzle_streams.model.job import JobSpec, Scheduling
from drizzle_streams.protocol.records import GroupRecord


def job(scheduling: Scheduling = Scheduling.GROUP, group_size: int = 10, interval: float = 50.0) -> JobSpec:
    return JobSpec(JobId("j"), (), interval, scheduling, group_size)


def test_the_first_group_starts_now() -> None:
    assert next_group(job(), None, NO_BATCH, 1_000.0) == GroupRecord(
        GroupId(0), BatchId(0), BatchId(9), 1_000.0
    )


def test_the_next_group_is_planned_while_the_current_one_runs_and_joins_without_a_gap() -> None:
    first = GroupRecord(GroupId(0), BatchId(0), BatchId(9), 1_000.0)
    ahead = int(PLAN_AHEAD_MS / 50)
    assert next_group(job(), first, BatchId(9 - ahead - 1), 1_200.0) is None
    second = next_group(job(), first, BatchId(9 - ahead), 1_250.0)
    assert second == GroupRecord(GroupId(1), BatchId(10), BatchId(19), 1_500.0)


def test_a_job_that_fell_behind_does_not_chase_its_schedule() -> None:
    first = GroupRecord(GroupId(0), BatchId(0), BatchId(9), 1_000.0)
    late = next_group(job(), first, BatchId(9), 60_000.0)
    assert late is not None
    assert late.starts_at_ms == 60_000.0 - 50.0, "the next batch is sealed at once and takes what piled up"


def test_without_groups_the_next_batch_waits_for_the_one_before() -> None:
    for scheduling in (Scheduling.PRESCHEDULED, Scheduling.BARRIER):
        first = GroupRecord(GroupId(0), BatchId(0), BatchId(0), 1_000.0)
        assert next_group(job(scheduling), first, NO_BATCH, 1_060.0) is None
        second = next_group(job(scheduling), first, BatchId(0), 1_060.0)
        assert second == GroupRecord(GroupId(1), BatchId(1), BatchId(1), 1_050.0), (
            "sealed at 1,100 as it would be"
        )


def test_a_job_that_is_not_pipelined_waits_for_the_end_of_each_group() -> None:
    spec = replace(job(), pipelined=False)
    first = GroupRecord(GroupId(0), BatchId(0), BatchId(9), 1_000.0)
    assert next_group(spec, first, BatchId(8), 1_510.0) is None
    second = next_group(spec, first, BatchId(9), 1_580.0)
    assert second == GroupRecord(GroupId(1), BatchId(10), BatchId(19), 1_530.0), (
        "due at 1,550, sealed 30 ms late"
    )


@given(st.integers(1, 50), st.sampled_from([5.0, 50.0, 500.0]), st.lists(st.integers(0, 3), max_size=60))
def test_what_is_launched_and_unfinished_is_bounded(size: int, interval: float, progress: list[int]) -> None:
    spec, last, frontier, now = job(group_size=size, interval=interval), None, -1, 0.0
    for step in progress:
        while (group := next_group(spec, last, BatchId(frontier), now)) is not None:
            if last is not None:
                assert group.first == last.last + 1
                assert group.group == last.group + 1
                assert group.starts_at_ms >= last.starts_at_ms
            last = group
        assert last is not None
        assert last.last - frontier <= PLAN_AHEAD_MS / interval + 1 + size
        frontier = min(last.last, frontier + step)
        now += interval

"""When a group is due: pipelined, on schedule, never piling up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.planner import PLAN_AHEAD_MS, SEAL_AFTER_MS, launches_next, next_group
from drizzle_streams.model.ids import NO_BATCH, BatchId, GroupId, JobId
from drizzle_streams.model.job import JobSpec, Scheduling
from drizzle_streams.protocol.records import GroupRecord


def job(scheduling: Scheduling = Scheduling.GROUP, group_size: int = 10, interval: float = 50.0) -> JobSpec:
    return JobSpec(JobId("j"), (), interval, scheduling, group_size)


def test_the_first_group_starts_at_once_and_in_step() -> None:
    assert next_group(job(), None, NO_BATCH, 1_030.0) == GroupRecord(
        GroupId(0), BatchId(0), BatchId(9), 1_000.0 + SEAL_AFTER_MS
    )


@given(
    now_ms=st.floats(1e12, 2e12),
    interval=st.sampled_from([5.0, 10.0, 20.0, 50.0, 100.0, 250.0, 1_000.0]),
    late_ms=st.floats(0.0, 10_000.0),
)
def test_batches_end_soon_after_full_multiples_of_their_interval(
    now_ms: float, interval: float, late_ms: float
) -> None:
    """So windows, which end at such multiples, never wait for most of a batch; however late a job is."""
    spec = job(interval=interval)
    first = next_group(spec, None, NO_BATCH, now_ms)
    assert first is not None
    second = next_group(spec, first, first.last, now_ms + 10 * interval + late_ms)
    assert second is not None
    for group in (first, second):
        after = group.starts_at_ms % interval
        assert min(SEAL_AFTER_MS, interval / 4) == pytest.approx(after, abs=0.01)
    assert now_ms - interval <= first.starts_at_ms <= now_ms
    assert second.starts_at_ms >= first.starts_at_ms + 10 * interval


def test_where_the_interval_is_being_chosen_batches_end_at_any_time() -> None:
    spec = replace(job(), interval_auto=True)
    assert next_group(spec, None, NO_BATCH, 1_234.5) == GroupRecord(
        GroupId(0), BatchId(0), BatchId(9), 1_234.5
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
    assert 60_000.0 - 100.0 < late.starts_at_ms <= 60_000.0 - 50.0, (
        "the next batch is sealed at once and takes what piled up"
    )


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
    assert second == GroupRecord(GroupId(1), BatchId(10), BatchId(19), 1_500.0 + SEAL_AFTER_MS), (
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
        assert frontier < launches_next(spec, last.last, interval), (
            "what workers report for is what is awaited"
        )
        frontier = min(last.last, frontier + step)
        now += interval

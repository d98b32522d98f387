"""How far a source seals ahead of the last stages, and that nobody is waited for who cannot be known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.core.below import (
    AHEAD_BATCHES_SPARE,
    AHEAD_WINDOWS_MAX,
    ANNOUNCEMENTS_MAX,
    SAY_EVERY_BATCHES,
    Below,
    ahead_max,
    is_last,
    say_every,
    says,
    under_way_max,
)
from drizzle_streams.core.window import IN_FLIGHT_MAX, IN_FLIGHT_MIN, in_flight_max
from drizzle_streams.model.ids import NO_BATCH, BatchId, JobId, PartitionId, StageId, StreamId, WorkerId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement

READS, MIDDLE, LAST = StageId(0), StageId(1), StageId(2)
SPEC = JobSpec(
    JobId("j"),
    (
        StageSpec(READS, 4, stream=StreamId("s")),
        StageSpec(MIDDLE, 3, inputs=(READS,)),
        StageSpec(LAST, 2, inputs=(MIDDLE,)),
    ),
)
PLACEMENT = Placement(tuple((WorkerId("w"),) * stage.partitions for stage in SPEC.stages))
ONE, OTHER = (PartitionId(0),), (PartitionId(1),)
AHEAD = AHEAD_WINDOWS_MAX * IN_FLIGHT_MIN


def begun(sealed: int) -> Below:
    below = Below()
    below.begin(SPEC, PLACEMENT, BatchId(sealed))
    return below


def bound(below: Below) -> int | None:
    """The last batch that may be sealed; None where there is no bound in sight."""
    allowed = [b for b in range(2_000) if below.allows(BatchId(b))]
    return None if allowed[-1:] == [1_999] else max(allowed, default=-1)


def test_at_first_the_last_stage_stands_before_the_first_batch() -> None:
    assert bound(begun(NO_BATCH)) == AHEAD - 1


def test_the_slowest_partition_counts() -> None:
    below = begun(NO_BATCH)
    below.computed(LAST, ONE, BatchId(11))
    assert bound(below) == AHEAD - 1
    below.computed(LAST, OTHER, BatchId(3))
    assert bound(below) == AHEAD + 3


def test_what_is_said_late_takes_nothing_back() -> None:
    below = begun(NO_BATCH)
    below.computed(LAST, ONE + OTHER, BatchId(11))
    below.computed(LAST, ONE, BatchId(3))
    assert bound(below) == AHEAD + 11


def test_who_has_not_spoken_in_a_generation_does_not_count() -> None:
    """Its word may have come before the generation did, and it may have nothing to say for long."""
    below = begun(100)
    assert bound(below) is None
    below.computed(LAST, ONE, BatchId(103))
    assert bound(below) == AHEAD + 103


def test_who_replays_does_not_count_until_it_has_caught_up() -> None:
    below = begun(100)
    below.computed(LAST, ONE, BatchId(100 - AHEAD - 1))
    assert bound(below) is None
    below.computed(LAST, ONE, BatchId(100 - AHEAD))
    assert bound(below) == 100


def test_a_new_generation_forgets_what_was_said() -> None:
    below = begun(NO_BATCH)
    below.computed(LAST, ONE + OTHER, BatchId(7))
    below.begin(SPEC, PLACEMENT, BatchId(20))
    assert bound(below) is None


def test_a_job_of_one_stage_has_nobody_below() -> None:
    below = Below()
    below.begin(replace(SPEC, stages=SPEC.stages[:1]), PLACEMENT, NO_BATCH)
    assert bound(below) is None


def test_only_last_stages_speak_and_whoever_is_at_the_bound_has_spoken() -> None:
    assert [is_last(SPEC, stage) for stage in SPEC.stages] == [False, False, True]
    every = say_every(SPEC, PLACEMENT)
    said = [b for b in range(AHEAD) if says(SPEC, SPEC.stages[LAST], BatchId(b), every)]
    assert len(said) == AHEAD // SAY_EVERY_BATCHES
    assert not any(says(SPEC, SPEC.stages[READS], BatchId(b), every) for b in range(20))


@pytest.mark.parametrize(
    ("interval_ms", "readers", "ahead", "every"),
    [
        (100.0, 1, 16, 4),
        (100.0, 42, 16, 4),
        (100.0, 43, 16, 8),
        (100.0, 128, 16, 8),
        (100.0, 1_000, 12, 8),
        (2.0, 42, 64, 4),
        (2.0, 128, 64, 32),
        (2.0, 1_000, 36, 32),
    ],
)
def test_where_a_batch_is_announced_often_ranges_are_long_and_few_ahead(
    interval_ms: float, readers: int, ahead: int, every: int
) -> None:
    """Of two stages, the second on 12 workers; never so few that nobody could speak."""
    stages = (SPEC.stages[0], StageSpec(MIDDLE, 12, inputs=(READS,)))
    spec = replace(SPEC, stages=stages, batch_interval_ms=interval_ms)
    owners = tuple(WorkerId(f"w{n}") for n in range(readers))
    below = tuple(WorkerId(f"r{n}") for n in range(12))
    placement = Placement((owners, below))
    found = ahead_max(spec, placement)
    assert (found, say_every(spec, placement)) == (ahead, every)
    window = in_flight_max(interval_ms)
    assert under_way_max(spec, placement) == (window if every == SAY_EVERY_BATCHES else ahead)
    assert found * readers * 12 <= ANNOUNCEMENTS_MAX * every or found == window + AHEAD_BATCHES_SPARE
    assert found > window >= every


def test_a_window_is_a_few_batches_or_a_time() -> None:
    assert in_flight_max(5_000.0) == in_flight_max(50.0) == in_flight_max(8.0) == IN_FLIGHT_MIN
    assert in_flight_max(4.0) == 2 * IN_FLIGHT_MIN
    assert in_flight_max(1.0) == in_flight_max(0.1) == IN_FLIGHT_MAX


@pytest.mark.parametrize("stands", range(AHEAD))
def test_from_wherever_a_last_stage_speaks_it_comes_to_speak_again(stands: int) -> None:
    """After an overflow it says where it stands, whatever batch that is; the next word must be in reach."""
    below = begun(NO_BATCH)
    below.computed(LAST, ONE + OTHER, BatchId(stands))
    within = bound(below)
    assert within is not None
    for every in (SAY_EVERY_BATCHES, IN_FLIGHT_MIN):
        assert any(says(SPEC, SPEC.stages[LAST], BatchId(b), every) for b in range(stands + 1, within + 1))

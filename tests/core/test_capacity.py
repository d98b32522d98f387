"""What workers were measured to process, and the two bounds that follow from it."""

from __future__ import annotations

import pytest

from drizzle_streams.core import capacity as c
from drizzle_streams.core.capacity import Capacity
from drizzle_streams.core.window import IN_FLIGHT_MIN
from drizzle_streams.model.ids import BatchId


def worked(records: int, seconds: float, *, every_s: float, batches: int = 60) -> Capacity:
    """Batches offered at an interval, each computed in so long; the next waits if it takes longer."""
    capacity, free_at = Capacity(), 0.0
    for batch in map(BatchId, range(batches)):
        offered_at = 100.0 + batch * every_s
        capacity.offered(batch, records, offered_at)
        free_at = max(offered_at, free_at) + seconds
        capacity.taken(batch, free_at)
    return capacity


def test_the_rate_is_records_over_the_time_in_which_there_was_work() -> None:
    assert worked(1_000, 0.01, every_s=0.05).rate == pytest.approx(100_000)
    assert worked(1_000, 0.05, every_s=0.05).rate == pytest.approx(20_000)


def test_batches_that_queue_are_not_counted_as_slow() -> None:
    assert worked(1_000, 0.1, every_s=0.05).rate == pytest.approx(10_000)


def test_a_burst_of_answers_after_a_pause_shows_no_wonder() -> None:
    capacity = Capacity()
    for batch in map(BatchId, range(8)):
        capacity.offered(batch, 1_000, 100.0 + batch * 0.05)
    for batch in map(BatchId, range(8)):
        capacity.taken(batch, 102.0 + batch * 0.001)
    assert capacity.rate is not None
    assert capacity.rate <= 8_000 / 1.9


def test_nothing_is_known_at_first_and_then_only_the_given_bound_holds() -> None:
    capacity = Capacity()
    assert capacity.rate is None
    assert capacity.batch_records_max(2, 1_000_000) == 1_000_000
    assert capacity.retry_after_s(10**9, 10.0) is None


def test_a_batch_holds_half_a_second_of_work() -> None:
    capacity = worked(1_000, 0.01, every_s=0.05)
    assert capacity.batch_records_max(2, 1_000_000) == pytest.approx(25_000, abs=1)
    assert capacity.batch_records_max(100, 1_000_000) == c.BATCH_RECORDS_MIN
    assert capacity.batch_records_max(1, 30_000) == 30_000
    assert capacity.batch_records_max(1, 1_000_000, 4 * IN_FLIGHT_MIN) == pytest.approx(12_500, abs=1)


def test_what_waits_is_bounded_in_time_and_producers_are_told_how_long() -> None:
    capacity = worked(1_000, 0.01, every_s=0.05)
    assert capacity.retry_after_s(999_000, 10.0) is None
    assert capacity.retry_after_s(1_001_000, 10.0) == 1
    assert capacity.retry_after_s(1_350_000, 10.0) == 4
    assert capacity.retry_after_s(10**9, 10.0) == c.RETRY_S_MAX


def test_what_one_batch_takes_in_any_case_is_never_refused() -> None:
    """Else small batches of a fixed cost show a low rate, and the refusals for it keep them small."""
    capacity = worked(10, 1.0, every_s=1.0)
    assert capacity.rate == pytest.approx(10, rel=0.01)
    assert capacity.retry_after_s(c.BATCH_RECORDS_MIN, 10.0) is None
    assert capacity.retry_after_s(c.BATCH_RECORDS_MIN + 45, 10.0) == 5
    assert capacity.retry_after_s(c.BATCH_RECORDS_MIN + 10**6, 10.0) == c.RETRY_S_MAX


def test_a_new_generation_shows_nothing_of_what_was_offered_before() -> None:
    capacity = Capacity()
    capacity.offered(BatchId(0), 1_000, 100.0)
    capacity.forget_waiting()
    capacity.taken(BatchId(0), 200.0)
    assert capacity.rate is None

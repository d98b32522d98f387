"""What is said before the assignment of its generation waits for just that one, within its bound."""

from __future__ import annotations

from drizzle_streams.core.ahead import AHEAD_MESSAGES_MAX, Ahead
from drizzle_streams.model.ids import BatchId, Generation, JobId, SourceId, StageId
from drizzle_streams.protocol.messages import Offer


def offer(job: str, generation: int, batch: int) -> Offer:
    return Offer(JobId(job), Generation(generation), SourceId("s"), StageId(0), BatchId(batch), (0.0,), ())


def test_only_the_generation_that_is_assigned_is_taken_and_older_ones_are_forgotten() -> None:
    ahead = Ahead()
    for generation in (2, 3, 4):
        ahead.keep(offer("a", generation, 7))
    ahead.keep(offer("b", 2, 7))
    ahead.keep(offer("b", 3, 7))
    assert [m.generation for m in ahead.take(JobId("a"), Generation(3))] == [3]
    assert len(ahead) == 2, (
        "that of the next generation, and the other job's, which is assigned in this one, too"
    )
    assert ahead.take(JobId("a"), Generation(3)) == []


def test_a_job_that_is_over_leaves_nothing() -> None:
    ahead = Ahead()
    ahead.keep(offer("a", 2, 1))
    ahead.forget(JobId("a"))
    assert len(ahead) == 0


def test_at_the_bound_the_oldest_goes() -> None:
    ahead = Ahead()
    for batch in range(AHEAD_MESSAGES_MAX + 1):
        ahead.keep(offer("a", 2, batch))
    kept = ahead.take(JobId("a"), Generation(2))
    assert len(kept) == AHEAD_MESSAGES_MAX
    assert isinstance(kept[0], Offer)
    assert kept[0].first == 1

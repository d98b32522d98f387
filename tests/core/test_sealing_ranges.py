"""A source that is behind: what is due is sealed together, within its bounds, and offered as one range."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core.events import BatchesSealed
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.offered import offered_batches, well_formed
from drizzle_streams.core.source_job import SourceJob
from drizzle_streams.core.untold import RUN_BATCHES_MAX
from drizzle_streams.core.window import IN_FLIGHT_MIN, in_flight_max
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    NO_BATCH,
    BatchId,
    Generation,
    GroupId,
    JobId,
    NodeId,
    Offset,
    PartitionId,
    SourceId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.protocol import messages as msg

JOB, STREAM, SOURCE = JobId("j"), StreamId("posted"), SourceId("s")
READS, BELOW = StageId(0), StageId(1)
A, B = WorkerId("a"), WorkerId("b")
OWNERS = (A, B, A)
ONE, PARTITIONS = Generation(1), tuple(map(PartitionId, range(3)))
LAST = BatchId(99)


class Behind:
    """A source with three partitions, of which batches 0..`last` are launched from time 0 on.

    Below its readers are so many workers, one partition each.
    """

    def __init__(self, interval_ms: float = 50.0, below: int = 0, last: BatchId = LAST) -> None:
        self.interval_s = interval_ms / 1000.0
        stages = (StageSpec(READS, 3, stream=STREAM), StageSpec(BELOW, below, inputs=(READS,)))
        owners = (OWNERS, tuple(WorkerId(f"below-{number}") for number in range(below)))
        kept = 2 if below else 1
        spec = JobSpec(JOB, stages[:kept], batch_interval_ms=interval_ms, speculation=False)
        layouts = (StreamLayout(STREAM, (SOURCE,) * 3),)
        needed = tuple((BatchId(0),) * len(row) for row in owners[:kept])
        self.job, self.out = SourceJob(SOURCE, JOB), Effects()
        placement = Placement(owners[:kept])
        self.job.assign(msg.Assign(spec, ONE, layouts, placement, needed, NO_BATCH, ()), self.out)
        self.job.launch(msg.Launch(JOB, ONE, GroupId(0), BatchId(0), last, 0.0, interval_ms, 10))

    def seal(self, due: float) -> act.SealBatches:
        """At the time when batch `due` is."""
        self.job.seal(self.job.readings[READS], (due + 1.5) * self.interval_s, self.out)
        found = self.out.starts[-1]
        assert isinstance(found, act.SealBatches)
        return found

    def sealed(self, seal: act.SealBatches, at: float = 1.0) -> None:
        """Each batch has one record of each partition."""
        bounds = tuple(
            Bounds(BatchId(batch), p, Offset(batch), Offset(batch + 1))
            for batch in range(seal.first, seal.last + 1)
            for p in PARTITIONS
        )
        self.job.sealed_batches(BatchesSealed(JOB, READS, seal.first, seal.last, bounds, 0), at, self.out)

    def credit(self, partitions: Iterable[int], batch: int) -> None:
        for p in partitions:
            taken = msg.Taken(JOB, ONE, OWNERS[p], READS, (PartitionId(p),), BatchId(batch))
            self.job.taken(taken, 1.0)

    def offers(self) -> list[tuple[NodeId, msg.Offer]]:
        """Those since the last call."""
        found = [(to, m) for to, m, _ in self.out.messages if isinstance(m, msg.Offer)]
        self.out.messages.clear()
        return found


def test_who_keeps_its_schedule_seals_batch_by_batch() -> None:
    source = Behind()
    seal = source.seal(0)
    assert (seal.first, seal.last) == (0, 0)


def test_what_is_due_is_sealed_together_and_each_owner_hears_of_it_once() -> None:
    source = Behind()
    seal = source.seal(3)
    assert (seal.first, seal.last, seal.waits_s) == (0, 3, 0.0)
    source.sealed(seal, at=2.0)
    offers = source.offers()
    assert [to for to, _ in offers] == [A, B]
    for to, offer in offers:
        assert well_formed(offer)
        assert (offer.first, offer.sealed_at_ms) == (0, (2_000.0,) * 4)
        batches = list(offered_batches(offer))
        assert [one.fragment.batch for one in batches] == [0, 1, 2, 3]
        for one in batches:
            owned = tuple(p for p in PARTITIONS if NodeId(OWNERS[p]) == to)
            assert one.fragment.partitions == owned
            assert [(b.batch, b.partition) for b in one.bounds] == [(one.fragment.batch, p) for p in owned]
    assert source.job.sealed == 3


@pytest.mark.parametrize("interval_ms", [50.0, 4.0, 1.0])
def test_a_range_ends_where_credit_does(interval_ms: float) -> None:
    source, window = Behind(interval_ms), in_flight_max(interval_ms)
    seal = source.seal(LAST)
    assert (seal.first, seal.last) == (0, window - 1)
    assert window <= RUN_BATCHES_MAX
    source.sealed(seal)
    assert source.job.seal_times() == []
    source.credit((0, 1, 2), 5)
    source.credit((0, 2), 7)
    seal = source.seal(LAST)
    assert (seal.first, seal.last) == (window, window + 5)


def test_a_short_range_is_not_followed_by_short_ones_for_ever() -> None:
    """Readers take range by range; those below speak once a window, and what they allow is sealed at once."""
    interval_ms, below, last = 2.0, 300, BatchId(999)
    source, window = Behind(interval_ms, below, last), in_flight_max(interval_ms)
    sealed, sizes = deque([source.seal(12)]), [13]
    source.sealed(sealed[0])
    while sealed[-1].last < 900:
        if source.job.seal_times():
            sealed.append(source.seal(last))
            source.sealed(sealed[-1])
            sizes.append(sealed[-1].last - sealed[-1].first + 1)
            continue
        computed = sealed.popleft().last
        source.credit((0, 1, 2), computed)
        said = BatchId((computed + 1) // window * window - 1)
        source.job.taken(msg.Taken(JOB, ONE, B, BELOW, tuple(map(PartitionId, range(below))), said), 1.0)
    assert set(sizes[len(sizes) // 2 :]) == {window}


def test_a_range_ends_with_what_is_launched_or_left_by_a_cut() -> None:
    source = Behind(1.0)
    source.job.cut(msg.Cut(JOB, ONE, GroupId(0), BatchId(4)))
    seal = source.seal(LAST)
    assert (seal.first, seal.last) == (0, 4)
    source.sealed(seal)
    assert source.job.seal_times() == []


def test_who_asks_again_is_offered_by_ranges_what_it_has_not_taken() -> None:
    source = Behind()
    source.sealed(source.seal(6))
    source.offers()
    source.credit((0,), 2)
    source.credit((2,), 4)
    source.job.offer_again(source.job.readings[READS], PARTITIONS, A, source.out)
    offers = [offer for to, offer in source.offers() if to == NodeId(A)]
    assert all(map(well_formed, offers))
    found = [(o.first, len(o.sealed_at_ms), sorted({b.partition for b in o.bounds})) for o in offers]
    assert found == [(3, 2, [0]), (5, 2, [0, 2])]


def test_no_range_is_longer_than_one_message_speaks_of() -> None:
    source = Behind()
    for first in range(0, 6 * IN_FLIGHT_MIN, IN_FLIGHT_MIN):
        source.sealed(source.seal(first + IN_FLIGHT_MIN - 1))
        source.credit((0, 1, 2), first + IN_FLIGHT_MIN - 1)
    source.job.readings[READS].taken.clear()
    source.offers()
    source.job.offer_again(source.job.readings[READS], PARTITIONS, B, source.out)
    found = [(offer.first, len(offer.sealed_at_ms)) for _, offer in source.offers()]
    assert found == [(0, RUN_BATCHES_MAX), (RUN_BATCHES_MAX, 6 * IN_FLIGHT_MIN - RUN_BATCHES_MAX)]

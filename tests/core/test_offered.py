"""Offers of several batches: what is well formed, and what a worker takes of them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core import actions as act
from drizzle_streams.core.events import InputFetched, Received
from drizzle_streams.core.machine import Effects
from drizzle_streams.core.offered import offered_batches, well_formed
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    COORDINATOR,
    NO_BATCH,
    BatchId,
    Generation,
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
from drizzle_streams.protocol import parts

ME, SOURCE, READS, ONE, STREAM = WorkerId("w"), SourceId("s"), StageId(0), Generation(1), StreamId("s")
P0, P1 = PartitionId(0), PartitionId(1)
SPEC = JobSpec(JobId("j"), (StageSpec(READS, 2, stream=STREAM),), 50.0)


def offer(first: int, batches: int, partitions: tuple[PartitionId, ...] = (P0, P1)) -> msg.Offer:
    bounds = tuple(
        Bounds(BatchId(batch), p, Offset(10 * batch), Offset(10 * batch + 10))
        for batch in range(first, first + batches)
        for p in partitions
    )
    times = tuple(1_000.0 + at for at in range(batches))
    return msg.Offer(SPEC.job, ONE, SOURCE, READS, BatchId(first), times, bounds)


def assigned(needed: int) -> tuple[Worker, Effects]:
    worker, out = Worker(WorkerSettings(ME, "")), Effects()
    first = BatchId(needed)
    adopted = (parts.Adoption(READS, (P0, P1), first, (), (), ()),)
    layout, placed = StreamLayout(STREAM, (SOURCE, SOURCE)), Placement(((ME, ME),))
    assign = msg.Assign(SPEC, ONE, (layout,), placed, ((first, first),), NO_BATCH, adopted)
    for message in (msg.Welcome(ONE, 60_000), assign):
        worker.handle(Received(COORDINATOR, message, carried=False), 1.0, out)
    return worker, out


def hear(worker: Worker, message: msg.Message, out: Effects, *, carried: bool) -> None:
    worker.handle(Received(NodeId(SOURCE), message, carried=carried), 1.0, out)


def fetches(out: Effects) -> list[int]:
    return [start.fragment.batch for start in out.starts if isinstance(start, act.FetchInput)]


@given(st.integers(0, 50), st.integers(1, 8), st.sampled_from([(P0,), (P1,), (P0, P1)]))
def test_an_offer_is_taken_apart_as_it_was_put_together(
    first: int, batches: int, partitions: tuple[PartitionId, ...]
) -> None:
    whole = offer(first, batches, partitions)
    assert well_formed(whole)
    found = list(offered_batches(whole))
    assert [one.fragment.batch for one in found] == list(range(first, first + batches))
    assert {one.fragment.partitions for one in found} == {partitions}
    assert [one.sealed_at_ms for one in found] == list(whole.sealed_at_ms)
    assert sum((one.bounds for one in found), ()) == whole.bounds


@given(st.data())
def test_bounds_that_are_not_those_of_its_batches_are_refused(data: st.DataObject) -> None:
    whole = offer(4, 3)
    at = data.draw(st.integers(0, len(whole.bounds) - 1))
    bound = whole.bounds[at]
    wrong = (replace(bound, batch=BatchId(bound.batch + 1)), replace(bound, partition=PartitionId(7)))
    others = [(*whole.bounds[:at], *put, *whole.bounds[at + 1 :]) for put in ((), *((one,) for one in wrong))]
    assert not any(well_formed(replace(whole, bounds=bounds)) for bounds in (*others, ()))
    assert not well_formed(replace(whole, sealed_at_ms=whole.sealed_at_ms[1:]))
    assert not well_formed(replace(whole, sealed_at_ms=()))
    assert not well_formed(replace(whole, first=BatchId(3)))


def test_of_a_range_that_did_not_ride_along_only_what_is_missing_is_pulled() -> None:
    worker, out = assigned(needed=2)
    hear(worker, offer(3, 1), out, carried=True)
    hear(worker, offer(0, 6), out, carried=False)
    assert fetches(out) == [2, 4, 5], "0 and 1 are computed, 3 is here"
    for start in list(out.starts):
        if isinstance(start, act.FetchInput):
            worker.handle(InputFetched(start), 1.0, out)
    table = worker.jobs[SPEC.job].arrivals[READS]
    assert [b for b in range(8) if table.complete_input(BatchId(b), act.INPUT, 0b11)] == [2, 3, 4, 5]


def test_a_range_of_which_some_is_computed_is_credited_so_far() -> None:
    worker, out = assigned(needed=2)
    out.messages.clear()
    hear(worker, offer(0, 4), out, carried=True)
    said = [message for _, message, _ in out.messages if isinstance(message, msg.Taken)]
    assert [(taken.partitions, taken.batch) for taken in said] == [((P0, P1), 1)]

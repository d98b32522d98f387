"""What a source does outside its machine: seals in order, on a real disk; runs that share a log."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.errors import CorruptError, StoreError
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
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
from drizzle_streams.protocol.messages import Offer, Taken
from drizzle_streams.source.chains import WAITING_MAX, Chains
from drizzle_streams.source.files import WriteRefusedError
from drizzle_streams.source.log import LogSettings
from drizzle_streams.source.offers import KEPT_BATCHES_MAX, KEPT_BYTES_MAX, OfferPayloads
from drizzle_streams.source.performer import SourcePerformer
from drizzle_streams.source.posts import Part, Post
from drizzle_streams.source.runs import RunKey, Runs
from drizzle_streams.source.streams import Streams
from drizzle_streams.transport.entries import EntryFormat, decode_entries
from drizzle_streams.worker.fragments import inputs_of
from tests.services.service_worlds import STREAM, until

JOB, OTHER_JOB, STAGE = JobId("sums"), JobId("other"), StageId(0)
MINE = (PartitionId(1), PartitionId(4))
"""The cluster's numbers of this source's two partitions."""


class Disk:
    """A source's directory, open, with its performer and what it posted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.events: list[ev.Event] = []
        self.failures: list[BaseException] = []
        self.told: list[str] = []
        self.streams: Streams
        self.runs: Runs
        self.performer: SourcePerformer

    async def open(self) -> None:
        settings = LogSettings(partitions=2, segment_bytes=1 << 12)
        self.streams = await Streams.open(
            self.directory, settings, on_appended=lambda *_: None, on_failure=self.failures.append
        )
        self.runs = Runs(self.streams)
        self.performer = SourcePerformer(
            self.runs,
            tell=lambda kind, text, job: self.told.append(kind),
            on_sealed=lambda event: None,
            on_failure=self.failures.append,
        )
        self.performer.post = self.events.append

    async def close(self) -> None:
        await self.performer.close()
        await self.runs.close()
        await self.streams.close()

    async def post(self, partition: int, records: int, width: int = 10) -> None:
        log = await self.streams.create(STREAM)
        payload = b"".join(f'{{"n":"{i:0{width}d}"}}\n'.encode() for i in range(records))
        await log.append(Post(EntryFormat.NDJSON, (Part(partition, records, payload),)))

    async def open_stream(self, job: JobId = JOB, born: int = 3, start_from: str = "earliest") -> None:
        stream = StreamId(STREAM)
        self.performer.perform(act.OpenStream(job, Generation(born), STAGE, stream, MINE, start_from))
        await self.idle()

    async def seal(self, batch: int, firsts: tuple[int | None, int | None], job: JobId = JOB) -> ev.Event:
        offsets = tuple(
            (partition, None if first is None else Offset(first))
            for partition, first in zip(MINE, firsts, strict=True)
        )
        before = len(self.events)
        self.performer.perform(seal_of(batch, offsets, job=job))
        await until(lambda: len(self.events) > before or bool(self.failures), "the seal ended")
        return self.events[-1]

    async def trim(self, through: int, before: tuple[int, int], job: JobId = JOB) -> None:
        ends = tuple((p, Offset(end)) for p, end in zip(MINE, before, strict=True))
        self.performer.perform(act.TrimInput(job, STAGE, StreamId(STREAM), BatchId(through), ends))
        await self.idle()

    async def idle(self) -> None:
        await until(lambda: self.performer.waiting == 0 and not self.performer._chains._waiting, "idle")

    def first_offsets(self) -> list[int]:
        log = self.streams.get(STREAM)
        assert log is not None
        return [log.first_offset(0), log.first_offset(1)]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    disk = Disk(tmp_path)
    await disk.open()
    yield disk
    await disk.close()


def bounds(*rows: tuple[int, int, int, int]) -> tuple[Bounds, ...]:
    return tuple(Bounds(BatchId(b), PartitionId(p), Offset(f), Offset(e)) for b, p, f, e in rows)


def offer(batch: int, some: tuple[Bounds, ...], batches: int = 1) -> Offer:
    return Offer(JOB, Generation(3), SourceId("source"), STAGE, BatchId(batch), (0.0,) * batches, some)


def seal_of(
    first: int,
    offsets: Sequence[tuple[PartitionId, Offset | None]],
    *,
    job: JobId = JOB,
    last: int | None = None,
    records_max: int = 1_000,
    waits_s: float = 0.0,
) -> act.SealBatches:
    place = (job, STAGE, StreamId(STREAM), BatchId(first), BatchId(first if last is None else last))
    return act.SealBatches(*place, tuple(offsets), records_max, waits_s)


async def test_a_batch_is_what_lies_in_the_log_under_the_clusters_numbers(disk):
    await disk.post(0, 5)
    await disk.post(1, 7)
    await disk.open_stream()
    sealed = await disk.seal(0, (None, None))
    assert sealed == ev.BatchesSealed(
        JOB, STAGE, BatchId(0), BatchId(0), bounds((0, 1, 0, 5), (0, 4, 0, 7)), 0
    )
    await disk.post(1, 2)
    sealed = await disk.seal(1, (5, 7))
    assert sealed == ev.BatchesSealed(
        JOB, STAGE, BatchId(1), BatchId(1), bounds((1, 1, 5, 5), (1, 4, 7, 9)), 0
    )


async def test_batches_that_are_due_together_lie_behind_each_other_and_ride_in_one_offer(disk):
    for partition, records in ((0, 3), (0, 2), (1, 4), (1, 3)):
        await disk.post(partition, records)
    await disk.open_stream()
    disk.performer.perform(seal_of(0, [(MINE[0], None), (MINE[1], None)], last=2, records_max=4))
    await until(lambda: bool(disk.events), "the seal ended")
    (sealed,) = disk.events
    rows = ((0, 1, 0, 3), (0, 4, 0, 4), (1, 1, 3, 5), (1, 4, 4, 7), (2, 1, 5, 5), (2, 4, 7, 7))
    assert sealed == ev.BatchesSealed(JOB, STAGE, BatchId(0), BatchId(2), bounds(*rows), 0)
    assert disk.runs.get(JOB, STAGE).bounds.bounds == sealed.bounds
    payload = disk.performer.attach(NodeId("w"), offer(0, sealed.bounds, batches=3))
    assert payload is not None
    inputs = inputs_of([sealed.bounds[:2], sealed.bounds[2:4], sealed.bounds[4:]], payload)
    counted = [[sum(e.records for e in entries) for entries in one.values()] for one in inputs]
    assert counted == [[3, 4], [2, 3], [0, 0]]


async def test_a_job_that_starts_from_latest_reads_what_comes_after_it(disk):
    await disk.post(0, 5)
    await disk.open_stream(start_from="latest")
    await disk.post(0, 3)
    await disk.post(1, 2)
    sealed = await disk.seal(0, (None, None))
    assert sealed.bounds == bounds((0, 1, 5, 8), (0, 4, 0, 2))


async def test_a_batch_takes_whole_posts_up_to_its_bound_and_tells_what_waits(disk):
    for _ in range(3):
        await disk.post(0, 400)
    await disk.open_stream()
    sealed = await disk.seal(0, (None, None))
    assert sealed == ev.BatchesSealed(
        JOB, STAGE, BatchId(0), BatchId(0), bounds((0, 1, 0, 800), (0, 4, 0, 0)), 400
    )


async def test_bounds_are_on_the_disk_before_the_machine_hears_of_the_batch(disk, monkeypatch):
    await disk.post(0, 1)
    await disk.open_stream()
    reading = disk.runs.get(JOB, STAGE)
    order: list[str] = []
    sync, append = reading.log._writer.sync, reading.bounds._file.append

    def synced() -> None:
        sync()
        order.append("records")

    def appended(pieces: list[bytes], *, sync: bool) -> None:
        append(pieces, sync=sync)
        order.append("bounds")

    monkeypatch.setattr(reading.log._writer, "sync", synced)
    monkeypatch.setattr(reading.bounds._file, "append", appended)
    disk.performer.post = lambda event: (order.append(type(event).__name__), disk.events.append(event))
    await disk.seal(0, (None, None))
    assert order == ["records", "bounds", "BatchesSealed"]


async def test_bounds_are_not_written_where_the_records_could_not_be_forced_to_the_disk(disk, monkeypatch):
    await disk.post(0, 1)
    await disk.open_stream()
    reading = disk.runs.get(JOB, STAGE)

    def broken() -> None:
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(reading.log._writer, "sync", broken)
    disk.performer.perform(seal_of(0, ((MINE[0], None),)))
    await until(lambda: len(disk.failures) > 1, "the log and the seal told")
    assert disk.events == []
    assert reading.bounds.bounds == ()
    with pytest.raises(StoreError, match="the disk is gone"):
        await disk.post(0, 1)


async def test_a_batch_waits_for_a_post_that_is_coming_in(disk):
    await disk.post(0, 5)
    await disk.open_stream()
    arrivals = disk.streams.get(STREAM).arrivals
    offsets = ((MINE[0], None), (MINE[1], None))
    with arrivals.post():
        disk.performer.perform(seal_of(0, offsets, waits_s=30.0))
        await disk.post(1, 2)
        assert disk.events == []
    await until(lambda: bool(disk.events), "the seal ended")
    assert disk.events[0].bounds == bounds((0, 1, 0, 5), (0, 4, 0, 2))


async def test_records_of_a_small_batch_ride_along_in_the_order_of_the_bounds(disk):
    await disk.post(1, 2)
    await disk.post(0, 3)
    await disk.open_stream()
    sealed = await disk.seal(0, (None, None))
    attach = disk.performer.attach
    payload = attach(NodeId("worker"), offer(0, sealed.bounds))
    assert [(e.partition, e.base_offset, e.records) for e in decode_entries(payload)] == [
        (0, 0, 3),
        (1, 0, 2),
    ]
    one = attach(NodeId("worker"), offer(0, sealed.bounds[1:]))
    assert [entry.partition for entry in decode_entries(one)] == [1]
    assert attach(NodeId("worker"), offer(7, bounds((7, 1, 5, 5)))) == b""
    assert attach(NodeId("worker"), offer(7, bounds((7, 1, 5, 6)))) is None
    taken = Taken(JOB, Generation(3), WorkerId("worker"), STAGE, MINE, BatchId(0))
    assert attach(NodeId("worker"), taken) is None


async def test_records_of_a_large_batch_are_to_be_pulled(disk):
    for _ in range(3):
        await disk.post(0, 100, width=5_000)
    await disk.open_stream()
    sealed = await disk.seal(0, (None, None))
    assert disk.performer.attach(NodeId("worker"), offer(0, sealed.bounds)) is None


async def test_a_full_disk_fails_the_seal_and_the_next_one_succeeds(disk, monkeypatch):
    await disk.post(0, 1)
    await disk.open_stream()
    reading = disk.runs.get(JOB, STAGE)
    append = reading.bounds.append

    async def full(_: object, behind: object) -> None:
        raise WriteRefusedError("no space left")

    monkeypatch.setattr(reading.bounds, "append", full)
    failed = await disk.seal(0, (None, None))
    assert failed == ev.SealFailed(JOB, STAGE, BatchId(0), "no space left")
    monkeypatch.setattr(reading.bounds, "append", append)
    assert isinstance(await disk.seal(0, (None, None)), ev.BatchesSealed)
    assert disk.failures == []


async def test_a_broken_disk_ends_the_service(disk, monkeypatch):
    await disk.post(0, 1)
    await disk.open_stream()

    async def broken(_: object, behind: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(disk.runs.get(JOB, STAGE).bounds, "append", broken)
    disk.performer.perform(seal_of(0, ((MINE[0], None),)))
    await until(lambda: bool(disk.failures), "the service was told to end")
    assert "the disk is gone" in str(disk.failures[0])
    assert disk.events == []


async def test_a_stage_that_was_never_opened_cannot_be_sealed(disk):
    failed = await disk.seal(0, (None, None))
    assert isinstance(failed, ev.SealFailed)
    assert "never opened" in failed.reason


async def test_opening_and_releasing_are_never_left_out_however_much_waits_for_the_disk(disk, monkeypatch):
    """A disk that hangs lets seals gather up to their bound; what no later message repeats finds room."""
    await disk.post(0, 1)
    await disk.open_stream()
    reading = disk.runs.get(JOB, STAGE)
    gate, append = asyncio.Event(), reading.bounds.append

    async def hangs(some, behind) -> None:
        await gate.wait()
        await append(some, behind)

    monkeypatch.setattr(reading.bounds, "append", hangs)
    seal = seal_of(0, ((MINE[0], None), (MINE[1], None)))
    while not any(isinstance(event, ev.SealFailed) for event in disk.events):
        disk.performer.perform(seal)
        await asyncio.sleep(0)
    disk.performer.perform(act.ReleaseInput(JOB, Generation(3)))
    disk.performer.perform(act.OpenStream(JOB, Generation(8), STAGE, StreamId(STREAM), MINE, "earliest"))
    gate.set()
    await disk.idle()
    assert disk.told == ["StreamOpened", "RunReleased", "StreamOpened"]
    assert await disk.streams.stored_jobs() == [RunKey(JOB, Generation(8), STAGE, StreamId(STREAM)).name]


# --- runs, restarts, trimming ------------------------------------------------------------------


async def reopened(disk: Disk) -> list:
    await disk.close()
    await disk.open()
    return await disk.runs.recover()


async def test_a_start_finds_the_bounds_of_every_run(disk):
    await disk.post(0, 5)
    await disk.open_stream()
    first = await disk.seal(0, (None, None))
    await disk.post(1, 2)
    second = await disk.seal(1, (5, 0))
    (found,) = await reopened(disk)
    assert found.key == RunKey(JOB, Generation(3), STAGE, StreamId(STREAM))
    assert found.bounds.bounds == first.bounds + second.bounds
    await disk.open_stream()
    assert disk.runs.get(JOB, STAGE) is found
    assert isinstance(await disk.seal(2, (5, 2)), ev.BatchesSealed)


async def test_a_start_removes_older_runs_and_runs_without_a_batch(disk):
    await disk.post(0, 5)
    for born in (3, 9):
        await disk.open_stream(born=born)
        await disk.seal(0, (None, None))
    await disk.open_stream(OTHER_JOB)
    found = await reopened(disk)
    assert [reading.key.born for reading in found] == [9]
    assert await disk.streams.stored_jobs() == [RunKey(JOB, Generation(9), STAGE, StreamId(STREAM)).name]


async def test_a_start_refuses_a_log_that_lacks_what_was_offered(disk):
    await disk.open_stream()
    await disk.runs.get(JOB, STAGE).bounds.append(bounds((0, 1, 0, 5), (0, 4, 0, 0)))
    with pytest.raises(CorruptError, match="records up to 5.*found 0"):
        await reopened(disk)


async def test_a_checkpoint_trims_bounds_and_log(disk):
    await disk.open_stream()
    ends = (0, 0)
    for batch in range(5):
        await disk.post(0, 10)
        await disk.post(1, 10)
        sealed = await disk.seal(batch, ends)
        ends = tuple(bound.end for bound in sealed.bounds)
    await disk.trim(2, (30, 30))
    assert disk.first_offsets() == [30, 30]
    assert {bound.batch for bound in disk.runs.get(JOB, STAGE).bounds.bounds} == {3, 4}


async def test_a_log_is_kept_for_the_slowest_of_its_runs(disk):
    for job in (JOB, OTHER_JOB):
        await disk.open_stream(job)
    await disk.post(0, 10)
    await disk.post(1, 10)
    for job in (JOB, OTHER_JOB):
        await disk.seal(0, (0, 0), job)
    await disk.trim(0, (10, 10))
    assert disk.first_offsets() == [0, 0], "the other run has committed nothing yet"
    (await reopened(disk)).sort(key=lambda reading: reading.key.job)
    for job in (JOB, OTHER_JOB):
        await disk.open_stream(job)
    await disk.trim(0, (10, 10))
    assert disk.first_offsets() == [0, 0], "a restart forgets nothing that a run may ask for"
    await disk.trim(0, (10, 10), OTHER_JOB)
    assert disk.first_offsets() == [10, 10]


async def test_a_run_that_ended_leaves_nothing_and_holds_nothing_up(disk):
    for job in (JOB, OTHER_JOB):
        await disk.open_stream(job)
        await disk.post(0, 10)
        await disk.seal(0, (0, 0), job)
    disk.performer.perform(act.ReleaseInput(OTHER_JOB, Generation(3)))
    await disk.idle()
    assert disk.runs.get(OTHER_JOB, STAGE) is None
    assert len(await disk.streams.stored_jobs()) == 1
    assert (
        disk.performer.attach(
            NodeId("w"),
            Offer(OTHER_JOB, Generation(3), SourceId("s"), STAGE, BatchId(0), (0.0,), bounds((0, 1, 0, 10))),
        )
        is None
    )
    await disk.trim(0, (10, 0))
    assert disk.first_offsets() == [10, 0]
    assert disk.told == ["StreamOpened", "StreamOpened", "RunReleased"]


async def test_a_new_run_of_a_job_replaces_the_old_one(disk):
    await disk.post(0, 10)
    await disk.open_stream(born=3)
    await disk.seal(0, (None, None))
    disk.performer.perform(act.ReleaseInput(JOB, Generation(3)))
    await disk.open_stream(born=8)
    sealed = await disk.seal(0, (None, None))
    assert sealed.bounds == bounds((0, 1, 0, 10), (0, 4, 0, 0))
    assert await disk.streams.stored_jobs() == [RunKey(JOB, Generation(8), STAGE, StreamId(STREAM)).name]


@pytest.mark.parametrize("name", ["sums", "sums@x/0/ads", "sums@1/ads", "sums@1/0/a/b", ""])
def test_other_names_of_bounds_logs_are_refused(name):
    with pytest.raises(CorruptError):
        RunKey.parse(name)


# --- parts -------------------------------------------------------------------------------------


async def test_chains_keep_the_order_within_a_job_and_are_bounded():
    failures: list[BaseException] = []
    chains, done, gate = Chains(failures.append), [], asyncio.Event()

    def work(job: str, number: int) -> Callable:
        async def run() -> None:
            if job == "slow":
                await gate.wait()
            done.append((job, number))

        return run

    for number in range(3):
        chains.add(JobId("slow"), work("slow", number))
        chains.add(JobId("quick"), work("quick", number))
    await until(lambda: len(done) == 3, "the quick job is done")
    assert done == [("quick", 0), ("quick", 1), ("quick", 2)]
    taken = [chains.add(JobId("slow"), work("slow", n)) for n in range(3, WAITING_MAX + 10)]
    assert taken.count(False) > 0
    gate.set()
    await until(lambda: len(chains) == 0, "the slow job is done")
    assert [n for job, n in done if job == "slow"] == list(range(len(done) - 3))
    await chains.close()
    assert failures == []


async def test_offer_payloads_are_bounded_in_batches_and_bytes():
    payloads = OfferPayloads()
    for batch in range(KEPT_BATCHES_MAX + 5):
        payloads.keep((JOB, STAGE), BatchId(batch), {MINE[0]: b"x"})
    assert payloads.bytes == KEPT_BATCHES_MAX
    assert payloads.payload((JOB, STAGE), bounds((0, 1, 0, 1))) is None
    assert payloads.payload((JOB, STAGE), bounds((8, 1, 0, 1))) == b"x"
    half = bytes(KEPT_BYTES_MAX // 2 + 1)
    payloads.keep((JOB, STAGE), BatchId(1_000), {MINE[0]: half})
    payloads.keep((JOB, STAGE), BatchId(1_001), {MINE[0]: half})
    assert payloads.bytes <= KEPT_BYTES_MAX
    payloads.forget_job(JOB)
    assert payloads.bytes == 0

"""Bounds are what they were, through crashes; and their file stays flat."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from drizzle_streams.errors import CorruptError, StoreError
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, JobId, Offset, PartitionId
from drizzle_streams.source.boundslog import REWRITE_BYTES, BoundsLog, stored_jobs
from drizzle_streams.source.durability import Disk, Durability
from drizzle_streams.source.files import WriteRefusedError

JOB = JobId("ysb")


def bounds(batch: int, partitions: int = 2, records: int = 100) -> list[Bounds]:
    return [
        Bounds(BatchId(batch), PartitionId(p), Offset(batch * records), Offset((batch + 1) * records))
        for p in range(partitions)
    ]


def batches(log: BoundsLog) -> list[int]:
    return sorted({b.batch for b in log.bounds})


@asynccontextmanager
async def opened(
    directory: Path, job: JobId = JOB, durability: Durability = Durability.BATCH
) -> AsyncIterator[BoundsLog]:
    disk = Disk()
    try:
        log = await BoundsLog.open(directory / "jobs", job, durability, disk)
        try:
            yield log
        finally:
            await log.close()
    finally:
        await asyncio.to_thread(disk.close)


def only_file(directory: Path) -> Path:
    (path,) = (directory / "jobs").glob("*.bounds")
    return path


async def test_bounds_come_back_as_they_were_appended(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        assert log.bounds == ()
        for batch in range(5):
            await log.append(bounds(batch))
        await log.append([*bounds(5), *bounds(6)])
        kept = log.bounds
    async with opened(tmp_path) as log:
        assert log.bounds == kept == tuple(b for batch in range(7) for b in bounds(batch))
        assert log.cut_bytes == 0


async def test_a_tail_torn_at_any_byte_costs_only_the_batch_never_offered(tmp_path: Path) -> None:
    sizes = {}
    async with opened(tmp_path) as log:
        sizes[log.file_bytes] = 0
        for batch in range(4):
            await log.append(bounds(batch))
            sizes[log.file_bytes] = batch + 1
    path = only_file(tmp_path)
    whole = path.read_bytes()
    for size in range(min(sizes), len(whole) + 1):
        path.write_bytes(whole[:size])
        kept = sizes[max(known for known in sizes if known <= size)]
        async with opened(tmp_path) as log:
            assert batches(log) == list(range(kept)), f"torn at byte {size}"
            await log.append(bounds(kept))
        async with opened(tmp_path) as log:
            assert batches(log) == list(range(kept + 1)), f"appended after a tear at byte {size}"


async def test_the_file_stays_flat_and_keeps_the_newest(tmp_path: Path) -> None:
    largest = 0
    async with opened(tmp_path, durability=Durability.NONE) as log:
        for batch in range(3000):
            await log.append(bounds(batch))
            if batch % 20 == 19:
                await log.trim(BatchId(batch - 10))
                largest = max(largest, only_file(tmp_path).stat().st_size)
                assert batches(log)[0] == batch - 10
        assert largest < 2 * REWRITE_BYTES
        await log.trim(BatchId(1_000_000))
        assert batches(log) == [2999], "the newest says where the next batch begins"
    async with opened(tmp_path) as log:
        assert batches(log)[-1] == 2999


async def test_appends_beside_trims_lose_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for batch in range(1200):
            await log.append(bounds(batch))

        async def trim() -> None:
            for before in range(1000, 1200, 20):
                await log.trim(BatchId(before))

        async def append() -> None:
            for batch in range(1200, 1300):
                await log.append(bounds(batch))

        await asyncio.gather(trim(), append(), trim())
        kept = log.bounds
        assert batches(log) == list(range(1180, 1300))
    async with opened(tmp_path) as log:
        assert kept == log.bounds[-len(kept) :]


@pytest.mark.parametrize(
    ("durability", "fsyncs"), [(Durability.NONE, 0), (Durability.BATCH, 3), (Durability.ALWAYS, 3)]
)
async def test_bounds_are_forced_before_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, fsyncs: int
) -> None:
    calls: list[int] = []
    async with opened(tmp_path, durability=durability) as log:
        monkeypatch.setattr(os, "fdatasync", calls.append)
        for batch in range(3):
            await log.append(bounds(batch))
    assert len(calls) == fsyncs


async def test_a_caller_that_leaves_does_not_tear_memory_from_disk(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        leaving = asyncio.create_task(log.append(bounds(0)))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        await log.append(bounds(1))
        kept = log.bounds
    async with opened(tmp_path) as log:
        assert log.bounds == kept
        assert batches(log) == [0, 1]


async def test_a_full_disk_refuses_and_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as log:
        await log.append(bounds(0))
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwritev", _no_space)
            with pytest.raises(WriteRefusedError):
                await log.append(bounds(1))
        await log.append(bounds(1, records=7))
    async with opened(tmp_path) as log:
        assert log.bounds == (*bounds(0), *bounds(1, records=7))


def _no_space(descriptor: int, pieces: Sequence[bytes], position: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_failed_fsync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as log:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", _input_output_error)
            with pytest.raises(StoreError, match="Restart the source"):
                await log.append(bounds(0))
        with pytest.raises(StoreError, match="Restart the source"):
            await log.append(bounds(1))


def _input_output_error(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


async def test_damage_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        await log.append(bounds(0))
    only_file(tmp_path).write_bytes(b"garbage, and more of it")
    with pytest.raises(CorruptError, match="bounds file"):
        async with opened(tmp_path):
            pass


async def test_jobs_of_any_name_are_kept_apart(tmp_path: Path) -> None:
    names = [
        JobId(n) for n in ("ysb", "YSB", "../../etc/passwd", "a/b", ".", "ä" * 300, "ä" * 301, "x%20", "x ")
    ]
    for number, job in enumerate(names):
        async with opened(tmp_path, job) as log:
            await log.append(bounds(number))
    assert {path.parent for path in tmp_path.rglob("*.bounds")} == {tmp_path / "jobs"}
    assert stored_jobs(tmp_path / "jobs") == sorted(names)
    for number, job in enumerate(names):
        async with opened(tmp_path, job) as log:
            assert batches(log) == [number]
            assert log.job == job


async def test_a_job_that_is_gone_leaves_nothing(tmp_path: Path) -> None:
    disk = Disk()
    log = await BoundsLog.open(tmp_path / "jobs", JOB, Durability.BATCH, disk)
    await log.append(bounds(0))
    await log.delete()
    assert stored_jobs(tmp_path / "jobs") == []
    assert list((tmp_path / "jobs").iterdir()) == []
    await asyncio.to_thread(disk.close)


def test_no_directory_no_jobs(tmp_path: Path) -> None:
    assert stored_jobs(tmp_path / "jobs") == []

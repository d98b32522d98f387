"""What each batch of a job holds, written down before anybody hears of the batch (law 4).

Append-only, one file per job on this source. `append` returns when the bounds are as
durable as the setting says; only then may the batch be offered. From then on they are
what the batch holds, whoever asks again: a restarted source loads them and serves the
same bytes.

Order at a seal: `StreamLog.sync` first, then what `append` writes, then the offer. So bounds on
the disk never name records that are not; if a start finds bounds beyond a log's end,
the disk lost data that was forced to it (or durability is `none`), and the service must
refuse to go on: nothing here repairs that.

A record is crc32 u32 | length u32 | JSON [[batch, partition, first, end], …]. The tail
that a crash tore is cut off: its batch was never offered. `trim` keeps the newest
record, for it says where the next batch begins. The file is rewritten when most of it
is trimmed, so it stays as flat as what is kept.

Used on one event loop; files are touched on the writing thread of `Disk`. A disk error
is final, as in the stream's log: `StoreError`, and the service must stop.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

from drizzle_streams.errors import CorruptError, StoreError, explain
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, JobId, Offset, PartitionId
from drizzle_streams.source.durability import Disk, Durability
from drizzle_streams.source.files import (
    AppendFile,
    file_name,
    put_in_place,
    refused,
    sync_directory,
    truncate,
    write_aside,
    write_whole,
)

T = TypeVar("T")

Behind = Callable[[Callable[[], None]], Awaitable[None]]
"""Has something written on the writing thread, right behind what must be on the disk before."""

SUFFIX = ".bounds"
REWRITE_BYTES = 64 * 1024
"""Trimmed bytes that a file may always carry; beyond it, no more than it keeps."""

_FRAME = struct.Struct("<II")


class _Record(NamedTuple):
    bounds: tuple[Bounds, ...]
    bytes: int


class BoundsLog:
    """The bounds of one job's batches, oldest first. Make it with `open`."""

    def __init__(self, path: Path, durability: Durability, disk: Disk, loaded: _Loaded) -> None:
        self._path = path
        self._disk = disk
        self._sync = durability is not Durability.NONE
        self._file = loaded.file
        self._records = loaded.read.records
        self._file_bytes = loaded.read.size
        self._one_at_a_time = asyncio.Lock()
        self._broken: StoreError | None = None
        self.job = loaded.read.job
        self.cut_bytes = loaded.read.torn_bytes
        """Bytes of a torn write that opening the file cut off."""

    @classmethod
    async def open(cls, directory: Path, job: JobId, durability: Durability, disk: Disk) -> BoundsLog:
        """Load a job's bounds from `directory`, or begin there.

        Raises `CorruptError`, or `WriteRefusedError` when the disk is full.
        """
        path = directory / (file_name(job) + SUFFIX)
        loaded = await disk.write(_load_or_create, path, job)
        return cls(path, durability, disk, loaded)

    @property
    def bounds(self) -> tuple[Bounds, ...]:
        """All that is kept, in the order in which it was appended."""
        return tuple(bounds for record in self._records for bounds in record.bounds)

    @property
    def file_bytes(self) -> int:
        """What the file takes on the disk."""
        return self._file_bytes

    async def append(self, bounds: Sequence[Bounds], behind: Behind | None = None) -> None:
        """Write down one or several batches, together; returns when they may be offered.

        `behind` (`StreamLog.sync`) forces their records to the disk first and writes right after it.
        Raises `WriteRefusedError` when the disk is full (nothing was written: try again),
        or `StoreError` when it failed (final); and what `behind` raises.
        """
        await asyncio.shield(self._append(tuple(bounds), behind))

    async def trim(self, before: BatchId) -> None:
        """Nobody will ask for batches below `before` again. The newest record always stays.

        Raises what `append` raises; a refused rewrite is tried again at the next trim.
        """
        await asyncio.shield(self._trim(before))

    async def close(self) -> None:
        """Let the file go, after what is being written."""
        async with self._one_at_a_time:
            await self._disk.write(self._file.close)

    async def delete(self) -> None:
        """The job is gone: so is its file."""
        await self.close()
        await self._disk.write(self._path.unlink)

    # Shielded, for what is on the disk and what is in memory must not differ because a caller went away.

    async def _append(self, bounds: tuple[Bounds, ...], behind: Behind | None) -> None:
        framed = _encode(bounds)
        async with self._one_at_a_time:
            write = partial(self._file.append, [framed], sync=self._sync)
            await self._on_disk(write, behind or self._disk.write)
            self._records.append(_Record(bounds, len(framed)))
            self._file_bytes += len(framed)

    async def _trim(self, before: BatchId) -> None:
        async with self._one_at_a_time:
            while len(self._records) > 1 and all(b.batch < before for b in self._records[0].bounds):
                self._records.popleft()
            kept = sum(record.bytes for record in self._records)
            if self._file_bytes - kept > max(REWRITE_BYTES, kept):
                rewrite = partial(self._rewrite, [record.bounds for record in self._records])
                self._file_bytes = await self._on_disk(rewrite, self._disk.write)

    async def _on_disk(self, act: Callable[[], T], write: Callable[[Callable[[], T]], Awaitable[T]]) -> T:
        if self._broken is not None:
            raise self._broken
        try:
            return await write(act)
        except OSError as error:
            self._broken = StoreError(
                explain(
                    f"bounds of job {self.job}",
                    wanted="a disk that keeps what was written",
                    found=repr(error),
                    remedy="Restart the source: it recovers every batch that was offered.",
                )
            )
            raise self._broken from error

    def _rewrite(self, records: Sequence[tuple[Bounds, ...]]) -> int:
        """On the writing thread: replace the file by one that holds only what is kept."""
        data = _frame({"job": self.job}) + b"".join(map(_encode, records))
        try:
            aside = write_aside(self._path, data)
        except OSError as error:
            raise refused(error) from error
        put_in_place(aside, self._path)
        self._file.close()
        self._file = AppendFile(self._path, len(data))
        return len(data)


def stored_jobs(directory: Path) -> list[JobId]:
    """The jobs that have bounds in `directory`. Raises `CorruptError`. Blocks."""
    return sorted(_read(path).job for path in directory.glob(f"*{SUFFIX}"))


class _Read(NamedTuple):
    """A file's content up to its first tear."""

    job: JobId
    records: deque[_Record]
    size: int
    torn_bytes: int


class _Loaded(NamedTuple):
    read: _Read
    file: AppendFile


def _load_or_create(path: Path, job: JobId) -> _Loaded:
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, _frame({"job": job}))
            sync_directory(path.parent.parent)
        except OSError as error:
            raise refused(error) from error
    read = _read(path)
    if read.job != job:
        raise _damaged(path, wanted=f"the bounds of job {job}", found=f"those of job {read.job}")
    if read.torn_bytes:
        truncate(path, read.size)
    file = AppendFile(path, read.size)
    file.sync()
    return _Loaded(read, file)


def _read(path: Path) -> _Read:
    data = path.read_bytes()
    said, position = _next(data, 0)
    if said is None:
        raise _damaged(path, wanted="the head of a bounds file", found="bytes that are none")
    records: deque[_Record] = deque()
    while True:
        plain, end = _next(data, position)
        if plain is None:
            return _Read(JobId(said["job"]), records, position, len(data) - position)
        records.append(_Record(_decode(plain), end - position))
        position = end


def _next(data: bytes, position: int) -> tuple[Any, int]:
    """The JSON that starts at `position` and the position behind it; None if there is no valid one."""
    start = position + _FRAME.size
    if start > len(data):
        return None, position
    checksum, length = _FRAME.unpack_from(data, position)
    body = data[start : start + length]
    if not body or len(body) < length or crc32(body) != checksum:
        return None, position
    return json.loads(body), start + length


def _frame(value: Any) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    return _FRAME.pack(crc32(body), len(body)) + body


def _encode(bounds: Sequence[Bounds]) -> bytes:
    return _frame([[b.batch, b.partition, b.first, b.end] for b in bounds])


def _decode(plain: list[list[int]]) -> tuple[Bounds, ...]:
    return tuple(
        Bounds(BatchId(batch), PartitionId(partition), Offset(first), Offset(end))
        for batch, partition, first, end in plain
    )


def _damaged(path: Path, *, wanted: str, found: str) -> CorruptError:
    return CorruptError(
        explain(
            f"bounds file {path}",
            wanted=wanted,
            found=found,
            remedy="The disk lost data: restore the source's directory from a copy, or begin the job anew.",
        )
    )

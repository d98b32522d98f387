"""Ledger and snapshots in a directory, for one machine without Redis.

What returned is on the disk and whole after any crash (`atomic_files` says how). The ledger
file is rewritten by each write, which suits its size: some names, and the jobs.
"""

from __future__ import annotations

import dataclasses
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from drizzle_streams.model.ids import Generation, JobId
from drizzle_streams.model.snapshot import SnapshotPart
from drizzle_streams.stores import base
from drizzle_streams.stores.atomic_files import (
    FileThread,
    locked,
    replace,
    sweep,
    sync_directory,
    write_beside,
)

_NAME_BYTES_MAX = 240
"""Of a file name, below the 255 of common file systems; `.tmp` has room."""

_HEAD = struct.Struct("<QI")  # generation, entries
_LENGTH = struct.Struct("<I")
_GENERATION = struct.Struct("<Q")
_LEASE = struct.Struct("<QQI")  # when it ends, unix ms; term; bytes of the holder's name, then the address


class FileLedger:
    """The ledger in one file of `directory`; see `base.Ledger`. The lease uses wall-clock time."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = directory / "ledger"
        self._lease = directory / "lease"
        self._lock = directory / "ledger.lock"
        self._clock = clock
        self._thread = FileThread(f"Ledger in {directory}")

    async def open(self) -> None:
        self._thread.open()
        await self._thread.run(_prepare, self._path.parent)

    async def close(self) -> None:
        await self._thread.close()

    async def raise_generation(
        self, at_least: int = 0, *, above: Generation | None = None, holder: str | None = None
    ) -> Generation:
        return await self._thread.run(self._raise, at_least, above, holder)

    async def generation(self) -> Generation:
        return (await self._thread.run(self._load))[0]

    async def write(self, generation: Generation, puts: Mapping[str, bytes], deletes: Sequence[str]) -> None:
        base.require_within(
            "Ledger write", base.ledger_write_bytes(puts, deletes), base.LEDGER_WRITE_BYTES_MAX
        )
        await self._thread.run(self._write, generation, dict(puts), tuple(deletes))

    async def read(self) -> dict[str, bytes]:
        return (await self._thread.run(self._load))[1]

    async def acquire_lease(self, holder: str, ttl_ms: int, address: str = "") -> bool:
        return await self._thread.run(self._acquire, holder, ttl_ms, address)

    async def lease(self) -> base.Lease | None:
        lease = await self._thread.run(self._last_lease)
        return lease if lease.left_ms > 0 else None

    async def renew_lease(self, holder: str, ttl_ms: int) -> bool:
        return await self._thread.run(self._extend, holder, ttl_ms)

    async def release_lease(self, holder: str) -> None:
        await self._thread.run(self._extend, holder, 0)

    def _raise(self, at_least: int, above: Generation | None, holder: str | None) -> Generation:
        with locked(self._lock):
            generation, values = self._load()
            leads = holder is None or self._held_by(holder)
            if above not in (None, generation) or not leads:
                raise base.not_raised(generation, above, holder)
            raised = Generation(max(generation, at_least) + 1)
            self._store(raised, values)
            return raised

    def _write(self, generation: Generation, puts: dict[str, bytes], deletes: tuple[str, ...]) -> None:
        with locked(self._lock):
            fence, values = self._load()
            if fence > generation:
                raise base.fenced("Ledger write", generation, fence)
            values.update(puts)
            for name in deletes:
                values.pop(name, None)
            self._store(generation, values)

    def _load(self) -> tuple[Generation, dict[str, bytes]]:
        try:
            content = base.unseal(str(self._path), self._path.read_bytes())
        except FileNotFoundError:
            return Generation(0), {}
        generation, entries = _HEAD.unpack_from(content)
        fields = _fields(content, _HEAD.size)
        return generation, {next(fields).decode(): next(fields) for _ in range(entries)}

    def _store(self, generation: Generation, values: dict[str, bytes]) -> None:
        content = [_HEAD.pack(generation, len(values))]
        for name, value in values.items():
            encoded = name.encode()
            content += (_LENGTH.pack(len(encoded)), encoded, _LENGTH.pack(len(value)), value)
        replace(self._path, base.seal(b"".join(content)))
        sync_directory(self._path.parent)

    def _acquire(self, holder: str, ttl_ms: int, address: str) -> bool:
        with locked(self._lock):
            last = self._last_lease()
            if last.left_ms > 0 and last.holder != holder:
                return False
            term = max(int(self._clock() * 1000), last.term + 1)
            self._store_lease(base.Lease(holder, address, term, ttl_ms))
            return True

    def _extend(self, holder: str, ttl_ms: int) -> bool:
        """Let the lease run `ttl_ms` from now, if it is the holder's."""
        with locked(self._lock):
            if not self._held_by(holder):
                return False
            self._store_lease(dataclasses.replace(self._last_lease(), left_ms=ttl_ms))
            return True

    def _held_by(self, holder: str) -> bool:
        last = self._last_lease()
        return last.left_ms > 0 and last.holder == holder

    def _last_lease(self) -> base.Lease:
        """The newest lease; with nothing left, it has run out."""
        try:
            content = base.unseal(str(self._lease), self._lease.read_bytes())
        except FileNotFoundError:
            return base.Lease("", "", 0, 0)
        until_ms, term, name_bytes = _LEASE.unpack_from(content)
        names = content[_LEASE.size :]
        left_ms = until_ms - int(self._clock() * 1000)
        return base.Lease(names[:name_bytes].decode(), names[name_bytes:].decode(), term, left_ms)

    def _store_lease(self, lease: base.Lease) -> None:
        name, until_ms = lease.holder.encode(), int(self._clock() * 1000) + lease.left_ms
        content = _LEASE.pack(until_ms, lease.term, len(name)) + name + lease.address.encode()
        replace(self._lease, base.seal(content))


class FileSnapshotStore:
    """Snapshot parts as files in a folder per job; see `base.SnapshotStore`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._thread = FileThread(f"Snapshots in {directory}")

    async def open(self) -> None:
        self._thread.open()
        await self._thread.run(_prepare, self._directory)

    async def close(self) -> None:
        await self._thread.close()

    async def put(
        self, job: JobId, generation: Generation, parts: Sequence[tuple[str, bytes]]
    ) -> tuple[SnapshotPart, ...]:
        for name, data in parts:
            base.require_within(f"Snapshot part {name!r}", len(data), base.PART_BYTES_MAX)
            base.require_within(f"Name of snapshot part {name!r}", len(_file_name(name)), _NAME_BYTES_MAX)
        return await self._thread.run(self._put, job, generation, tuple(parts))

    async def get(self, parts: Sequence[SnapshotPart]) -> list[bytes]:
        return await self._thread.run(lambda: [base.verify(part, self._read(part.key)) for part in parts])

    async def delete(self, keys: Sequence[str]) -> None:
        await self._thread.run(self._delete, tuple(keys))

    async def fence(self, job: JobId, generation: Generation) -> None:
        await self._thread.run(self._fence, job, generation)

    async def written_before(self, job: JobId, generation: Generation) -> tuple[str, ...]:
        return await self._thread.run(self._written_before, job, generation)

    def _put(
        self, job: JobId, generation: Generation, parts: tuple[tuple[str, bytes], ...]
    ) -> tuple[SnapshotPart, ...]:
        """The slow part, writing and syncing, needs no lock; only the renames are fenced."""
        folder = self._made_folder(job)
        head = _GENERATION.pack(generation)
        written = [(write_beside(folder, head + data), folder / _file_name(name)) for name, data in parts]
        try:
            with locked(folder / "fence.lock"):
                self._raise_fence(job, generation, refuse_lower=True)
                for beside, path in written:
                    beside.replace(path)
                sync_directory(folder)
        finally:
            for beside, _ in written:
                beside.unlink(missing_ok=True)
        return base.describe(job, parts)

    def _fence(self, job: JobId, generation: Generation) -> None:
        with locked(self._made_folder(job) / "fence.lock"):
            self._raise_fence(job, generation, refuse_lower=False)

    def _raise_fence(self, job: JobId, generation: Generation, *, refuse_lower: bool) -> None:
        path = self._folder(job) / "fence"
        fence = 0
        if path.exists():
            (fence,) = _GENERATION.unpack(base.unseal(str(path), path.read_bytes()))
        if refuse_lower and fence > generation:
            raise base.fenced(f"Snapshot of job {job!r}", generation, fence)
        if fence < generation:
            replace(path, base.seal(_GENERATION.pack(generation)))
            sync_directory(path.parent)

    def _read(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()[_GENERATION.size :]
        except FileNotFoundError:
            return None

    def _delete(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def _written_before(self, job: JobId, generation: Generation) -> tuple[str, ...]:
        found: list[str] = []
        for path in self._folder(job).glob("*.part"):
            with path.open("rb") as file:
                head = file.read(_GENERATION.size)
            if len(head) < _GENERATION.size or _GENERATION.unpack(head)[0] < generation:
                found.append(base.part_key(job, unquote(path.name.removesuffix(".part"))))
        return tuple(sorted(found))

    def _folder(self, job: JobId) -> Path:
        return self._directory / f"job-{quote(job, safe='')}"  # the prefix keeps `.` and `..` harmless

    def _made_folder(self, job: JobId) -> Path:
        folder = self._folder(job)
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            sync_directory(self._directory)
        return folder

    def _path(self, key: str) -> Path:
        quoted_job, _, name = key.partition("/")
        return self._directory / f"job-{quoted_job}" / _file_name(name)


def _prepare(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    sweep(directory)


def _file_name(name: str) -> str:
    return f"{quote(name, safe='')}.part"


def _fields(content: bytes, position: int) -> Iterator[bytes]:
    """Length-prefixed fields from a position on."""
    while position < len(content):
        (length,) = _LENGTH.unpack_from(content, position)
        position += _LENGTH.size
        yield content[position : position + length]
        position += length

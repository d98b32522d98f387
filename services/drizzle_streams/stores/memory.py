"""Ledger and snapshots in the memory of one process, for tests and `drizzle_streams.testing`.

They outlive what is simulated to crash, not the process. One object stands for the server:
everyone who should see the same data shares it, so `close` lets go of nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from drizzle_streams.model.ids import Generation, JobId
from drizzle_streams.model.snapshot import SnapshotPart
from drizzle_streams.stores import base


class MemoryLedger:
    """The ledger as a dict; see `base.Ledger`. `clock` gives seconds and judges the lease."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._generation = 0
        self._lease: tuple[str, str, float] | None = None  # holder, address, when it ends
        self._term = 0
        self.sealed: dict[str, bytes] = {}
        """Names and values with their checksums; a test may damage them."""

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def raise_generation(
        self, at_least: int = 0, *, above: Generation | None = None, holder: str | None = None
    ) -> Generation:
        if above not in (None, self._generation) or holder not in (None, self._holder()):
            raise base.not_raised(self._generation, above, holder)
        self._generation = max(self._generation, at_least) + 1
        return Generation(self._generation)

    async def generation(self) -> Generation:
        return Generation(self._generation)

    async def write(self, generation: Generation, puts: Mapping[str, bytes], deletes: Sequence[str]) -> None:
        base.require_within(
            "Ledger write", base.ledger_write_bytes(puts, deletes), base.LEDGER_WRITE_BYTES_MAX
        )
        if generation < self._generation:
            raise base.fenced("Ledger write", generation, self._generation)
        self._generation = generation
        self.sealed.update((name, base.seal(value)) for name, value in puts.items())
        for name in deletes:
            self.sealed.pop(name, None)

    async def read(self) -> dict[str, bytes]:
        return {name: base.unseal(name, value) for name, value in self.sealed.items()}

    async def acquire_lease(self, holder: str, ttl_ms: int, address: str = "") -> bool:
        if self._holder() not in {None, holder}:
            return False
        self._term = max(int(self._clock() * 1000), self._term + 1)
        self._lease = (holder, address, self._clock() + ttl_ms / 1000)
        return True

    async def lease(self) -> base.Lease | None:
        if self._lease is None or self._holder() is None:
            return None
        holder, address, until = self._lease
        return base.Lease(holder, address, self._term, int((until - self._clock()) * 1000))

    async def renew_lease(self, holder: str, ttl_ms: int) -> bool:
        if self._lease is None or self._holder() != holder:
            return False
        self._lease = (*self._lease[:2], self._clock() + ttl_ms / 1000)
        return True

    async def release_lease(self, holder: str) -> None:
        if self._holder() == holder:
            self._lease = None

    def _holder(self) -> str | None:
        if self._lease is None or self._lease[2] <= self._clock():
            return None
        return self._lease[0]


class MemorySnapshotStore:
    """Snapshot parts in a dict; see `base.SnapshotStore`."""

    def __init__(self) -> None:
        self._fences: dict[JobId, Generation] = {}
        self._written: dict[str, Generation] = {}
        self.parts: dict[str, bytes] = {}
        """Bytes by key; a test may damage them."""

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def put(
        self, job: JobId, generation: Generation, parts: Sequence[tuple[str, bytes]]
    ) -> tuple[SnapshotPart, ...]:
        for name, data in parts:
            base.require_within(f"Snapshot part {name!r}", len(data), base.PART_BYTES_MAX)
        stored = await asyncio.to_thread(base.describe, job, parts)
        fence = self._fences.get(job, 0)
        if generation < fence:
            raise base.fenced(f"Snapshot of job {job!r}", generation, fence)
        self._fences[job] = generation
        for part, (_, data) in zip(stored, parts, strict=True):
            self.parts[part.key] = data
            self._written[part.key] = generation
        return stored

    async def get(self, parts: Sequence[SnapshotPart]) -> list[bytes]:
        return [base.verify(part, self.parts.get(part.key)) for part in parts]

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.parts.pop(key, None)
            self._written.pop(key, None)

    async def fence(self, job: JobId, generation: Generation) -> None:
        self._fences[job] = max(self._fences.get(job, generation), generation)

    async def written_before(self, job: JobId, generation: Generation) -> tuple[str, ...]:
        quoted = quote(job, safe="")
        found = (key for key, by in self._written.items() if by < generation and base.job_of(key) == quoted)
        return tuple(sorted(found))

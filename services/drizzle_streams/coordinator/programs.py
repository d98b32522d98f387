"""Job files: durable before a job is known, handed to the workers, gone with their job.

The coordinator never looks into the program: workers do. It seals the file with the cluster's
secret as it comes in by the door for users, and workers run only what is sealed: who can write to
the ledger's server cannot run code by that alone. A file sealed by an older secret is sealed anew
at a start. A submission is reserved from the
moment its file is written until the machine has made the job durable, so that two of one name
cannot meet, and so that what is forgotten is never the file of a successor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

from drizzle_streams.coordinator.memory import Memory
from drizzle_streams.errors import BackPressureError, ProtocolError, explain
from drizzle_streams.model.ids import JobId
from drizzle_streams.protocol.jobfile import JOB_BYTES_MAX
from drizzle_streams.protocol.tokens import Keyring
from drizzle_streams.transport.http_errors import RefusedError

log = logging.getLogger("drizzle.coordinator")

PROGRAMS_BYTES_MAX = 4 * JOB_BYTES_MAX
"""Job files of all active jobs, in memory and in the ledger."""

Active = Callable[[JobId], bool]


class Programs:
    """The job files of active jobs, sealed, in memory and in the ledger."""

    def __init__(self, memory: Memory, kept: Mapping[JobId, bytes], active: Active, ring: Keyring) -> None:
        self._memory = memory
        self._ring = ring
        self._files = dict(kept)
        self._active = active
        self._reserved: dict[JobId, int] = {}
        """Submissions under way, and the bytes of their files."""

    def __len__(self) -> int:
        return len(self._files)

    @property
    def bytes(self) -> int:
        """Bytes of all job files."""
        return sum(map(len, self._files.values()))

    @property
    def incoming(self) -> Collection[JobId]:
        """The names of submissions under way."""
        return self._reserved.keys()

    def get(self, job: JobId) -> bytes | None:
        """The job file as it was posted, under its seal."""
        return self._files.get(job)

    @asynccontextmanager
    async def submission(self, job: JobId, data: bytes) -> AsyncIterator[None]:
        """Within it the name is held and the file durable; left without an active job, it goes again.

        Raises `RefusedError` (409) when the name is taken, `BackPressureError` at the bound, and
        `StoreError`.
        """
        self._reserve(job, len(data))
        try:
            await self._keep(job, data)
            yield
        finally:
            del self._reserved[job]
            await self.forget(job)

    async def forget(self, job: JobId) -> None:
        """The job has ended: so has its file, unless a successor of that name is there already."""
        if job not in self._reserved and not self._active(job) and self._files.pop(job, None) is not None:
            await self._memory.drop_programs([job])

    async def sweep(self) -> None:
        """At start: drop files whose job ended, or was never made, as an earlier life died.

        Those that stay are under the seal of today's secret.
        """
        orphans = [job for job in self._files if not self._active(job)]
        for job in orphans:
            del self._files[job]
        if orphans:
            await self._memory.drop_programs(orphans)
        for job, sealed in list(self._files.items()):
            try:
                today = await asyncio.to_thread(self._sealed_anew, job, sealed)
            except ProtocolError as error:  # its workers will refuse it with the same words
                log.critical("a program is not what was submitted", extra={"job": job, "error": str(error)})
                continue
            if today != sealed:
                await self._memory.keep_program(job, today)
                self._files[job] = today

    def _sealed_anew(self, job: JobId, sealed: bytes) -> bytes:
        return self._ring.seal(job, self._ring.unseal(job, sealed))

    def _reserve(self, job: JobId, size: int) -> None:
        if job in self._reserved or self._active(job):
            raise RefusedError(
                409,
                f"job {job}",
                wanted="a name that no active job has",
                found="one that is taken",
                remedy="Stop that job first, or choose another name.",
            )
        coming = {job, *self._reserved}
        others = sum(len(file) for name, file in self._files.items() if name not in coming)
        others += sum(self._reserved.values())
        if others + size > PROGRAMS_BYTES_MAX:
            raise BackPressureError(
                explain(
                    "job files of active jobs",
                    wanted=f"at most {PROGRAMS_BYTES_MAX} bytes",
                    found=f"{others} and {size} more",
                    remedy="Stop a job, or join with smaller tables.",
                )
            )
        self._reserved[job] = size

    async def _keep(self, job: JobId, data: bytes) -> None:
        sealed = await asyncio.to_thread(self._ring.seal, job, data)
        await self._memory.keep_program(job, sealed)
        self._files[job] = sealed

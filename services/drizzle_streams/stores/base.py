"""What must be remembered, by purpose: the coordinator's ledger and the state's snapshots.

Rules that every implementation keeps, and that one conformance suite tests for all of them:

- Fenced. Every write names its generation. Once a higher one is known, lower ones are refused
  for ever with `FencedError`, however late they arrive: a paused process that wakes up cannot
  undo what its successor did.
- Atomic. A write is there as a whole or not at all, through the death of either side.
- Repeatable. A store may send a request again when the answer got lost; doing it twice is
  doing it once. In one store object, writes take effect in the order of the calls, and a
  stale repetition that arrives late never undoes a later write.
- Checked. Bytes carry a checksum; what does not fit it is `CorruptError`, never a value.
- Bounded. A store rides out an outage of its server within a named bound, then raises
  `StoreError`. Whoever gets one does not know whether the write happened: the process stops,
  and the next one reads the ledger (design law 2).

Open before use, close once; a closed store raises `StoreError`. Nothing here is awaited
inside a batch (law 7).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from drizzle_streams.errors import CorruptError, FencedError, StoreError, explain
from drizzle_streams.model.ids import Generation, JobId
from drizzle_streams.model.snapshot import SnapshotPart

LEDGER_WRITE_BYTES_MAX = 64 * 1024 * 1024
"""Keys and values of one ledger write. Jobs travel in it with their static tables."""

PART_BYTES_MAX = 256 * 1024 * 1024
"""One snapshot part: half of Redis's own bound of 512 MB for a value."""

_CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads: by name, and where it answers; `left_ms` more unless it renews.

    `term` grows each time the lease is taken, so of two claims to lead the higher one is right. It
    is at least the store's time in ms: it grows, too, where a store has lost what it held.
    """

    holder: str
    address: str
    term: int
    left_ms: int


class Ledger(Protocol):
    """The coordinator's memory: a small fenced map from names to bytes, and its lease.

    Generation 0 is "never raised". Keys are non-empty strings of the caller's choice.
    """

    async def open(self) -> None:
        """Get ready. Raises StoreError or ConfigError if the store cannot be used."""
        ...

    async def close(self) -> None:
        """Let go of all resources; twice is once."""
        ...

    async def raise_generation(
        self, at_least: int = 0, *, above: Generation | None = None, holder: str | None = None
    ) -> Generation:
        """Atomically set the fence to max(fence, at_least) + 1 and return it.

        No two callers ever get the same number. From now on lower generations are refused.
        With `above`, only while the fence is that generation; with `holder`, only while that one
        has the lease; `FencedError` otherwise, and nothing changed. So a leader that was paused
        and replaced cannot fence its successor out when it wakes up.
        """
        ...

    async def generation(self) -> Generation:
        """The fence: the highest generation that was raised or has written."""
        ...

    async def write(self, generation: Generation, puts: Mapping[str, bytes], deletes: Sequence[str]) -> None:
        """Put and delete names in one atomic step; deleting what is not there is fine.

        A name in both ends up deleted. A generation above the fence raises the fence.
        Raises FencedError if the fence is higher, StoreError above `LEDGER_WRITE_BYTES_MAX`.
        """
        ...

    async def read(self) -> dict[str, bytes]:
        """Everything, as of one moment. Raises CorruptError for a value that is not whole."""
        ...

    async def acquire_lease(self, holder: str, ttl_ms: int, address: str = "") -> bool:
        """Take the lease for `ttl_ms` if it is free, has run out or is the holder's already.

        Of coordinators that run side by side, the one with the lease leads. The lease only
        keeps them from disturbing each other; what makes it safe is the generation. `address`
        is where the holder answers: `lease` tells it to those who look for the leader.
        """
        ...

    async def lease(self) -> Lease | None:
        """Who leads now; None while nobody does."""
        ...

    async def renew_lease(self, holder: str, ttl_ms: int) -> bool:
        """Extend the lease to `ttl_ms` from now; False if it ran out or is someone else's."""
        ...

    async def release_lease(self, holder: str) -> None:
        """Give the lease up, if it is the holder's, so that the next one need not wait."""
        ...


class SnapshotStore(Protocol):
    """Snapshot parts: immutable bytes, written once by a worker and named by the ledger.

    A part means nothing until a committed checkpoint names it. Parts of a put that failed, or
    of a worker that died before it could report, are found again with `written_before`.
    """

    async def open(self) -> None:
        """Get ready. Raises StoreError or ConfigError if the store cannot be used."""
        ...

    async def close(self) -> None:
        """Let go of all resources; twice is once."""
        ...

    async def put(
        self, job: JobId, generation: Generation, parts: Sequence[tuple[str, bytes]]
    ) -> tuple[SnapshotPart, ...]:
        """Store parts (name, bytes), each atomically, and say where each one lies, in order.

        Names are the caller's and must not be used for other bytes again while they are stored:
        put the writer, the batch and the attempt into them. Names of different jobs do not meet;
        the `key` that comes back is the name in the whole store, for `get` and `delete`.
        A generation above the job's fence raises it. Raises FencedError if the job's fence is
        higher (some of the parts may be stored), StoreError for a part above `PART_BYTES_MAX`.
        """
        ...

    async def get(self, parts: Sequence[SnapshotPart]) -> list[bytes]:
        """The bytes, in order. Raises CorruptError for a part that is missing or differs."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Forget parts by `SnapshotPart.key`; a key that is not there is fine."""
        ...

    async def fence(self, job: JobId, generation: Generation) -> None:
        """From now on `put` refuses the job's lower generations; never lowers the fence."""
        ...

    async def written_before(self, job: JobId, generation: Generation) -> tuple[str, ...]:
        """Keys of all parts of the job that lower generations put, sorted.

        After `fence(job, generation)` no such part can appear any more, so those which the
        ledger does not name are garbage.
        """
        ...


def checksum(data: bytes) -> int:
    """The checksum of stored bytes: CRC-32, which finds every burst of up to 32 bits."""
    return zlib.crc32(data)


def part_key(job: JobId, name: str) -> str:
    """The name of a part in the whole store; the job is quoted, so the first `/` ends it."""
    return f"{quote(job, safe='')}/{name}"


def job_of(key: str) -> str:
    """The quoted job of a part key."""
    return key.partition("/")[0]


def describe(job: JobId, parts: Sequence[tuple[str, bytes]]) -> tuple[SnapshotPart, ...]:
    """What `put` returns for parts it has stored."""
    return tuple(SnapshotPart(part_key(job, name), len(data), checksum(data)) for name, data in parts)


def seal(value: bytes) -> bytes:
    """A value with its checksum in front, for stores that hold whole values."""
    return checksum(value).to_bytes(_CHECKSUM_BYTES, "little") + value


def unseal(name: str, sealed: bytes) -> bytes:
    """The value again. Raises CorruptError naming it if the checksum differs."""
    value = sealed[_CHECKSUM_BYTES:]
    if len(sealed) < _CHECKSUM_BYTES or sealed[:_CHECKSUM_BYTES] != seal(value)[:_CHECKSUM_BYTES]:
        raise CorruptError(
            explain(
                f"Stored value {name!r}",
                wanted="bytes that fit their checksum",
                found=f"{len(sealed)} bytes that do not",
                remedy="The store was damaged or edited: go back to a savepoint or start the job afresh.",
            )
        )
    return value


def verify(part: SnapshotPart, data: bytes | None) -> bytes:
    """The bytes of a part if they are the ones that were put, else CorruptError."""
    if data is not None and len(data) == part.bytes and checksum(data) == part.checksum:
        return data
    raise CorruptError(
        explain(
            f"Snapshot part {part.key!r}",
            wanted=f"{part.bytes} bytes with checksum {part.checksum:#010x}",
            found="nothing" if data is None else f"{len(data)} bytes with checksum {checksum(data):#010x}",
            remedy="The store lost or damaged it: recover from an older checkpoint.",
        )
    )


def not_raised(fence: int, above: int | None, holder: str | None) -> FencedError:
    """The error for a raise whose condition does not hold; `fence` is the newest generation."""
    wanted = f"{holder} to have the lease" if above is None else f"generation {above} to be the newest"
    return FencedError(
        explain(
            "raising the generation",
            wanted=wanted,
            found=f"generation {fence}, and another coordinator that leads, or none",
            remedy="This one stands by.",
        )
    )


def fenced(thing: str, generation: int, fence: int) -> FencedError:
    """The error for a write whose generation is over."""
    return FencedError(
        explain(
            thing,
            wanted=f"generation {fence} or higher",
            found=f"generation {generation}",
            remedy="A successor is at work: stop writing.",
        )
    )


def require_within(thing: str, size_bytes: int, bytes_max: int) -> None:
    """Raise StoreError if something is larger than its bound."""
    if size_bytes > bytes_max:
        raise StoreError(
            explain(
                thing,
                wanted=f"at most {bytes_max} bytes",
                found=f"{size_bytes} bytes",
                remedy="Use more partitions or smaller static tables, so that each piece is smaller.",
            )
        )


def ledger_write_bytes(puts: Mapping[str, bytes], deletes: Sequence[str]) -> int:
    """The size of a ledger write as its bound counts it."""
    return sum(len(key.encode()) + len(value) for key, value in puts.items()) + sum(map(len, deletes))


def closed(thing: str) -> StoreError:
    """The error for using a store outside of open and close."""
    return StoreError(
        explain(thing, wanted="an open store", found="one that is not open", remedy="Await open() first.")
    )

"""Ledger and snapshots in Redis: fences compared in Lua, so that check and write are one step.

Everything lies under `<namespace>:*`. The number of Redis keys does not grow with batches:

- `:ledger` hash of names; `:ledger:fence` hash; `:ledger:lease` hash with a time to live
- `:snapshot:parts:<job>` and `:snapshot:written:<job>` hashes by part; `:snapshot:fences` hash by job

What Redis acknowledges is as durable as its append-only file: see `local.redis_config` for
what each `appendfsync` can lose. With Redis Cluster, give a namespace in braces.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

from drizzle_streams.model.ids import Generation, JobId
from drizzle_streams.model.snapshot import SnapshotPart
from drizzle_streams.stores import base
from drizzle_streams.stores.redis_link import Command, LinkBounds, Patience, RedisLink, script

PIPELINE_BYTES_MAX = 8 * 1024 * 1024
"""Snapshot bytes under way in one pipeline, so that neither side buffers a whole checkpoint."""

DELETES_PER_COMMAND_MAX = 1_000

T = TypeVar("T")

_DONE = -1
_RAISE = script("drizzle_streams.stores", "ledger_raise")
_WRITE = script("drizzle_streams.stores", "ledger_write")
_LEASE = script("drizzle_streams.stores", "ledger_lease")
_PUT = script("drizzle_streams.stores", "snapshot_put")


class RedisLedger:
    """The ledger in one Redis hash; see `base.Ledger`."""

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "drizzle",
        bounds: LinkBounds | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.link = RedisLink(url, bounds, patience)
        self._ledger = f"{namespace}:ledger"
        self._fence = f"{namespace}:ledger:fence"
        self._lease = f"{namespace}:ledger:lease"
        self._writer = uuid.uuid4().hex
        self._sequence = 0
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        await self.link.open()

    async def close(self) -> None:
        await self.link.close()

    async def raise_generation(
        self, at_least: int = 0, *, above: Generation | None = None, holder: str | None = None
    ) -> Generation:
        conditions = ("" if above is None else above, holder or "")
        head = (self._fence, self._lease, at_least, uuid.uuid4().hex)
        command: Command = ("EVAL", _RAISE, 2, *head, *conditions)
        ((raised, generation),) = await self.link.run("raising the generation", [command], patient=True)
        if not raised:
            raise base.not_raised(generation, above, holder)
        return Generation(generation)

    async def generation(self) -> Generation:
        (found,) = await self.link.run("reading the generation", [("HGET", self._fence, "generation")])
        return Generation(int(found or 0))

    async def write(self, generation: Generation, puts: Mapping[str, bytes], deletes: Sequence[str]) -> None:
        base.require_within(
            "Ledger write", base.ledger_write_bytes(puts, deletes), base.LEDGER_WRITE_BYTES_MAX
        )
        pairs = (part for name, value in puts.items() for part in (name, base.seal(value)))
        async with self._turn:  # one at a time: the order of calls is the order of effects
            self._sequence += 1
            head = (generation, self._writer, self._sequence, len(puts))
            command: Command = ("EVAL", _WRITE, 2, self._fence, self._ledger, *head, *pairs, *deletes)
            (fence,) = await self.link.run("writing the ledger", [command], patient=True)
        if fence != _DONE:
            raise base.fenced("Ledger write", generation, fence)

    async def read(self) -> dict[str, bytes]:
        (flat,) = await self.link.run("reading the ledger", [("HGETALL", self._ledger)], patient=True)
        return {name.decode(): base.unseal(name.decode(), value) for name, value in _pairs(flat)}

    async def acquire_lease(self, holder: str, ttl_ms: int, address: str = "") -> bool:
        return await self._leased("acquire", holder, ttl_ms, address)

    async def lease(self) -> base.Lease | None:
        commands: list[Command] = [
            ("HMGET", self._lease, "holder", "address", "term"),
            ("PTTL", self._lease),
        ]
        (holder, address, term), left_ms = await self.link.run("reading the lease", commands, patient=True)
        if holder is None or left_ms < 0:  # it ran out between the two
            return None
        return base.Lease(holder.decode(), address.decode(), int(term), left_ms)

    async def renew_lease(self, holder: str, ttl_ms: int) -> bool:
        return await self._leased("renew", holder, ttl_ms)

    async def release_lease(self, holder: str) -> None:
        await self._leased("release", holder, 0)

    async def _leased(self, verb: str, holder: str, ttl_ms: int, address: str = "") -> bool:
        command: Command = ("EVAL", _LEASE, 2, self._lease, self._fence, verb, holder, ttl_ms, address)
        patient = verb != "release"  # who lets go ends: the lease runs out by itself
        (granted,) = await self.link.run(f"to {verb} the lease", [command], patient=patient)
        return granted == 1


class RedisSnapshotStore:
    """Snapshot parts as fields of one Redis hash per job; see `base.SnapshotStore`."""

    def __init__(self, url: str, *, namespace: str = "drizzle", bounds: LinkBounds | None = None) -> None:
        self.link = RedisLink(url, bounds)
        self._prefix = f"{namespace}:snapshot"

    async def open(self) -> None:
        await self.link.open()

    async def close(self) -> None:
        await self.link.close()

    async def put(
        self, job: JobId, generation: Generation, parts: Sequence[tuple[str, bytes]]
    ) -> tuple[SnapshotPart, ...]:
        for name, data in parts:
            base.require_within(f"Snapshot part {name!r}", len(data), base.PART_BYTES_MAX)
        stored = await asyncio.to_thread(base.describe, job, parts)
        commands = [
            self._command(job, generation, part.key, data)
            for part, (_, data) in zip(stored, parts, strict=True)
        ]
        for chunk in _chunks(commands, [part.bytes for part in stored]):
            await self._put(job, generation, chunk)
        return stored

    async def get(self, parts: Sequence[SnapshotPart]) -> list[bytes]:
        found: list[bytes] = []
        for chunk in _chunks(parts, [part.bytes for part in parts]):
            commands: list[Command] = [("HGET", self._parts(base.job_of(p.key)), p.key) for p in chunk]
            replies = await self.link.run("reading snapshots", commands)
            found.extend(await asyncio.to_thread(list, map(base.verify, chunk, replies)))
        return found

    async def delete(self, keys: Sequence[str]) -> None:
        fields: dict[str, list[str]] = {}
        for key in keys:
            fields.setdefault(base.job_of(key), []).append(key)
        for quoted, names in fields.items():
            for first in range(0, len(names), DELETES_PER_COMMAND_MAX):
                some = names[first : first + DELETES_PER_COMMAND_MAX]
                hashes = (self._parts(quoted), self._written(quoted))
                await self.link.run("deleting snapshots", [("HDEL", name, *some) for name in hashes])

    async def fence(self, job: JobId, generation: Generation) -> None:
        await self.link.run("fencing snapshots", [self._command(job, generation)])  # a higher one is as good

    async def written_before(self, job: JobId, generation: Generation) -> tuple[str, ...]:
        command: Command = ("HGETALL", self._written(quote(job, safe="")))
        (flat,) = await self.link.run("listing snapshots", [command])
        return tuple(sorted(key.decode() for key, by in _pairs(flat) if int(by) < generation))

    async def _put(self, job: JobId, generation: Generation, commands: Sequence[Command]) -> None:
        fences = await self.link.run("writing snapshots", commands)
        if any(fence != _DONE for fence in fences):
            raise base.fenced(f"Snapshot of job {job!r}", generation, max(fences))

    def _command(self, job: JobId, generation: Generation, *part: str | bytes) -> Command:
        """Put one part (key, bytes); without a part, only raise the fence."""
        quoted = quote(job, safe="")
        keys = (f"{self._prefix}:fences", self._parts(quoted), self._written(quoted))
        return ("EVAL", _PUT, 3, *keys, quoted, generation, *part)

    def _parts(self, quoted_job: str) -> str:
        return f"{self._prefix}:parts:{quoted_job}"

    def _written(self, quoted_job: str) -> str:
        return f"{self._prefix}:written:{quoted_job}"


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Fields and values of a hash from a reply that has them in turn."""
    return zip(flat[::2], flat[1::2], strict=True)


def _chunks(items: Sequence[T], sizes_bytes: Sequence[int]) -> Iterator[list[T]]:
    """The items in order, in runs of at most `PIPELINE_BYTES_MAX` (or one item that is larger)."""
    chunk: list[T] = []
    chunk_bytes = 0
    for item, size_bytes in zip(items, sizes_bytes, strict=True):
        if chunk and chunk_bytes + size_bytes > PIPELINE_BYTES_MAX:
            yield chunk
            chunk, chunk_bytes = [], 0
        chunk.append(item)
        chunk_bytes += size_bytes
    if chunk:
        yield chunk

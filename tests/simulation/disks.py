"""What survives a crash in the simulated world: ledger, snapshots, source logs, sink.

Each checks, at the moment of the write, what may never happen: these checks are outside of
the machines, so no machine can talk itself out of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from drizzle_streams.core.machine import Persist, Put
from drizzle_streams.errors import FencedError
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.protocol.codec import decode_record, encode_record
from drizzle_streams.protocol.records import RECORD_KINDS, Record
from tests.simulation.values import Record as NumberRecord
from tests.simulation.values import Sums, by_group, for_partitions, sum_records


class BrokenPromiseError(AssertionError):
    """A checker caught the system doing what it promised never to do."""


@dataclass
class SimLedger:
    """Fenced records; kept as bytes so that every record also travels through the codec."""

    fence: int = 0
    records: dict[str, bytes] = field(default_factory=dict)

    def raise_generation(self) -> int:
        self.fence += 1
        return self.fence

    def write(self, generation: int, persist: Sequence[Persist]) -> None:
        if generation < self.fence:
            raise FencedError(f"generation {generation} writes after {self.fence}")
        for effect in persist:
            if isinstance(effect, Put):
                self.records[effect.key] = encode_record(effect.record)
            else:
                self.records.pop(effect.key, None)

    def read(self) -> dict[str, Record]:
        return {
            key: decode_record(RECORD_KINDS[key.rsplit(":", 1)[1]], data)
            for key, data in self.records.items()
        }


@dataclass
class SimSnapshots:
    """Snapshot parts by key, with the fence per run."""

    parts: dict[str, object] = field(default_factory=dict)
    fence: dict[str, int] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)

    def put(self, run: str, generation: int, key: str, value: object) -> bool:
        if generation < self.fence.get(run, 0):
            return False
        self.parts[key] = value
        return True

    def get(self, key: str) -> object | None:
        """None where the part is gone (an owner of a replaced generation may come too late) or damaged."""
        return None if key in self.damaged else self.parts.get(key)

    def clear(self, run: str) -> None:
        """A run has ended: whoever still stores a part of it is refused."""
        self.fence[run] = 1 << 60
        self.delete([key for key in self.parts if key.startswith(f"{run}/")])

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.parts.pop(key, None)


@dataclass
class SimSourceDisk:
    """One source's log and bounds. `logs[local]` holds records; trimmed ones become None."""

    partitions: int
    logs: list[list[NumberRecord]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    bounds: dict[str, dict[int, tuple[Bounds, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.logs = [[] for _ in range(self.partitions)]
        self.starts = [0] * self.partitions


@dataclass
class SimHistory:
    """The oracle: every bounds ever fixed, checked to be the same for ever, gap-free and in order."""

    disks: dict[str, SimSourceDisk]
    layout: tuple[str, ...] = ()
    since: tuple[int, ...] = ()
    fixed: dict[tuple[int, int], Bounds] = field(default_factory=dict)

    def fix(self, bounds: Sequence[Bounds]) -> None:
        for bound in bounds:
            known = self.fixed.setdefault((bound.batch, bound.partition), bound)
            if known != bound:
                raise BrokenPromiseError(f"a batch is the same for ever, but {known} became {bound}")
            if self.since and bound.batch < self.since[bound.partition]:
                raise BrokenPromiseError(f"{bound} is of a batch before its source joined")
            before = self.fixed.get((bound.batch - 1, bound.partition))
            if before is not None and before.end != bound.first:
                raise BrokenPromiseError(f"input between {before} and {bound} is skipped or doubled")

    def local(self, partition: int) -> tuple[str, int]:
        owner = self.layout[partition]
        return owner, sum(1 for other in self.layout[:partition] if other == owner)

    def records(self, batch: int) -> list[NumberRecord]:
        found: list[NumberRecord] = []
        for partition in range(len(self.layout)):
            if self.since and batch < self.since[partition]:
                continue
            bound = self.fixed[(batch, partition)]
            owner, local = self.local(partition)
            found += self.disks[owner].logs[local][bound.first : bound.end]
        return found


@dataclass
class SimSink:
    """An idempotent sink that checks every write against the oracle."""

    history: SimHistory
    tokens: dict[int, int] = field(default_factory=dict)
    rows: dict[int, Sums] = field(default_factory=dict)
    layouts: dict[int, int] = field(default_factory=dict)
    """Of how many partitions each batch was written."""
    writes: int = 0
    skipped: int = 0
    last_write_at: dict[int, float] = field(default_factory=dict)
    _expected: list[Sums] = field(default_factory=list)

    def write(self, batch: int, partition: int, of: int, sums: Sums, now: float) -> None:
        """`of`: how many partitions there are in the writer's eyes."""
        last = self.tokens.get(partition, -1)
        if batch <= last:
            self.skipped += 1
            return
        if self.layouts.setdefault(batch, of) != of:
            raise BrokenPromiseError(
                f"batch {batch} is written as {self.layouts[batch]} and as {of} partitions"
            )
        if batch != last + 1 and (partition < self.layouts.get(batch - 1, of) or self.written < batch - 1):
            raise BrokenPromiseError(f"partition {partition}: output of batch {batch} after {last}")
        expected = for_partitions(2, self.expected(batch), [partition], of)
        if sums != expected:
            raise BrokenPromiseError(
                f"partition {partition} of {of}, batch {batch}: wrote {sums}, the oracle says {expected}"
            )
        self.tokens[partition] = batch
        self.rows[partition] = sums
        self.writes += 1
        self.last_write_at[partition] = now

    @property
    def written(self) -> int:
        """The last batch whose output is here for every partition of its layout."""
        newest = max(self.layouts, default=-1)
        while newest >= 0 and any(self.tokens.get(p, -1) < newest for p in range(self.layouts[newest])):
            newest -= 1
        return newest

    @property
    def totals(self) -> Sums:
        """The newest sums of all partitions that there are."""
        found: Sums = {}
        for partition in range(self.layouts[max(self.layouts)] if self.layouts else 0):
            found |= self.rows.get(partition, {})
        return found

    def expected(self, batch: int) -> Sums:
        """Running sums per group after `batch`, recomputed from the fixed bounds."""
        while len(self._expected) <= batch:
            before = self._expected[-1] if self._expected else {}
            news = by_group(sum_records(self.history.records(len(self._expected))))
            self._expected.append(sum_records([*before.items(), *news.items()]))
        return self._expected[batch]

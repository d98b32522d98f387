"""The fragment store: what came from others for tasks that have not run yet.

Early arrivals are kept, launched or not; the machine bounds how early they may be. What has come
is let go when the machine says that every local task which reads it has run.

Bytes stay bytes here: blocks are decoded by the task that needs the rows. Entries are taken
apart when they come, since that checks their checksums and that they are the batch's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drizzle_streams.core.actions import Fragment
from drizzle_streams.engine.records import InputEntry
from drizzle_streams.errors import CorruptError, explain
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, JobId, PartitionId, StageId
from drizzle_streams.transport.entries import Entry, decode_entries

Input = dict[PartitionId, tuple[InputEntry, ...]]
"""A batch's records by stream partition; a partition without records has no entries."""


@dataclass(frozen=True, slots=True)
class _Kept:
    content: Input | tuple[bytes, ...]
    bytes: int


class FragmentStore:
    """All fragments of one life of a worker. `bytes` is what they hold."""

    def __init__(self) -> None:
        self.bytes = 0
        self.fragments = 0
        self._batches: dict[tuple[JobId, StageId], dict[BatchId, dict[Fragment, _Kept]]] = {}

    def put_input(self, fragment: Fragment, content: Input) -> None:
        """Keep the records of an offer."""
        size = sum(len(entry.payload) for entries in content.values() for entry in entries)
        self._put(fragment, _Kept(content, size))

    def put_blocks(self, fragment: Fragment, blocks: tuple[bytes, ...]) -> None:
        """Keep encoded blocks."""
        self._put(fragment, _Kept(blocks, sum(map(len, blocks))))

    def input(self, fragment: Fragment) -> Input | None:
        """The records of an offer, or None if they are not here."""
        kept = self._get(fragment)
        return kept.content if kept is not None and isinstance(kept.content, dict) else None

    def blocks(self, fragment: Fragment) -> tuple[bytes, ...] | None:
        """The encoded blocks of a fragment, or None if they are not here."""
        kept = self._get(fragment)
        return kept.content if kept is not None and isinstance(kept.content, tuple) else None

    def release(self, job: JobId, downstream: StageId, through: BatchId) -> None:
        """Let go of what a stage's tasks up to a batch have read."""
        batches = self._batches.get((job, downstream), {})
        for batch in [batch for batch in batches if batch <= through]:
            self._discount(batches.pop(batch))

    def forget(self, job: JobId) -> None:
        """Let go of everything of a job."""
        for key in [key for key in self._batches if key[0] == job]:
            for kept in self._batches.pop(key).values():
                self._discount(kept)

    def _get(self, fragment: Fragment) -> _Kept | None:
        batches = self._batches.get((fragment.job, fragment.downstream), {})
        return batches.get(fragment.batch, {}).get(fragment)

    def _put(self, fragment: Fragment, kept: _Kept) -> None:
        batches = self._batches.setdefault((fragment.job, fragment.downstream), {})
        batch = batches.setdefault(fragment.batch, {})
        before = batch.get(fragment)
        self.bytes += kept.bytes - (before.bytes if before else 0)
        self.fragments += before is None
        batch[fragment] = kept

    def _discount(self, batch: dict[Fragment, _Kept]) -> None:
        self.bytes -= sum(kept.bytes for kept in batch.values())
        self.fragments -= len(batch)


def input_of(bounds: Sequence[Bounds], data: bytes) -> Input:
    """Encoded entries of one batch, taken apart by the bounds they belong to; raises `CorruptError`."""
    return inputs_of([bounds], data)[0]


def inputs_of(batches: Sequence[Sequence[Bounds]], data: bytes) -> list[Input]:
    """Encoded entries, taken apart by batches and the bounds they belong to; raises `CorruptError`.

    They come in the order of the bounds. A source numbers partitions within its own log, so it
    is the bounds that say which partition of the stream an entry belongs to.
    """
    entries = iter(decode_entries(data))
    found = [{bound.partition: tuple(_within(bound, entries)) for bound in bounds} for bounds in batches]
    if (extra := next(entries, None)) is not None:
        raise _not_these(None, extra)
    return found


def _within(bound: Bounds, entries: Iterator[Entry]) -> Iterator[InputEntry]:
    offset: int = bound.first
    while offset < bound.end:
        entry = next(entries, None)
        if entry is None or entry.base_offset != offset or entry.end_offset > bound.end or not entry.records:
            raise _not_these(bound, entry)
        yield InputEntry(bound.partition, offset, entry.records, entry.format.word, entry.payload)
        offset = entry.end_offset


def _not_these(bound: Bounds | None, entry: Entry | None) -> CorruptError:
    return CorruptError(
        explain(
            "records of a batch",
            wanted="nothing more"
            if bound is None
            else f"[{bound.first}, {bound.end}) of partition {bound.partition}",
            found="their end" if entry is None else f"an entry [{entry.base_offset}, {entry.end_offset})",
            remedy="They are pulled from the source again; if it repeats, both must run one release.",
        )
    )

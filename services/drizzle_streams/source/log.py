"""The log of one stream on one source: append, bound, read, trim.

A post is appended as one entry per partition it goes to, bytes untouched. Offsets count
records, per partition, from 0, without a hole and for ever; `partition` is the number
within this source's own log. Posts that arrive while others are being written go out
together with the next group (`commit`). What can be seen from outside (`end_offset`,
`cut`, `read`, `on_appended`) has been written, so SIGKILL takes back nothing seen.

Who calls when:
- ingest: `answered`, `append`
- who seals batches: `cut` for each partition, then `await sync()`, then the bounds log,
  then the offer
- workers, through the service: `read_encoded`
- at a checkpoint: `trim`

Bounds: `budget_bytes` of entries that are not trimmed or are still being written (then
`BackPressureError`: nothing was taken). On the disk at most one segment more than the
slowest partition needs. In memory `cache_bytes`, and 20 bytes per entry.

Everything here runs on one event loop; files are touched on the threads of `Disk`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drizzle_streams.errors import BackPressureError, ProtocolError, explain
from drizzle_streams.source.arrivals import Arrivals
from drizzle_streams.source.cache import TailCache
from drizzle_streams.source.commit import FailureHandler, GroupCommit
from drizzle_streams.source.durability import Disk, Durability
from drizzle_streams.source.files import refused, sync_directory
from drizzle_streams.source.index import OffsetError, PartitionIndex, Place
from drizzle_streams.source.posts import Post, Receipt, encoded_size, place_posts, receipts
from drizzle_streams.source.producers import ProducerTable, Range, Sequenced
from drizzle_streams.source.recovery import Recovered, recover
from drizzle_streams.source.segments import (
    Segment,
    SegmentWriter,
    create_segment,
    damaged,
    delete_segments,
    read_places,
)
from drizzle_streams.transport.entries import Entry, decode_entries

MIB = 1024 * 1024
READ_BYTES_MAX = 256 * MIB
"""Most that one `read` may bring into memory."""

AppendedHandler = Callable[[str, int, int], None]
"""Called with (stream, partition, end offset) after records were written."""


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How a log is kept. `partitions` counts for new streams; a log that exists keeps its own."""

    partitions: int = 2
    durability: Durability = Durability.BATCH
    budget_bytes: int = 1024 * MIB
    segment_bytes: int = 16 * MIB
    cache_bytes: int = 16 * MIB


class StreamLog:
    """One stream's records on this source. Make it with `open`."""

    def __init__(
        self,
        directory: Path,
        settings: LogSettings,
        disk: Disk,
        recovered: Recovered,
        on_appended: AppendedHandler,
        on_failure: FailureHandler,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._disk = disk
        self._on_appended = on_appended
        self._segments = recovered.segments
        self._indexes = recovered.indexes
        self._producers = recovered.producers
        self._writer = SegmentWriter(recovered.segments[-1].path, recovered.size)
        self._address = recovered.segments[-1].address + recovered.size
        self._cache = TailCache(settings.cache_bytes)
        self._commit = GroupCommit(self._write_group, on_failure)
        self._writing: dict[Sequenced, asyncio.Future[Receipt]] = {}
        self._next_partition = 0
        self._synced = 0
        self.arrivals = Arrivals(time.monotonic)
        """The posts that are coming in."""
        self.stream = recovered.segments[0].stream
        self.cut_bytes = recovered.cut_bytes
        """Bytes of a torn write that opening the log cut off."""

    @classmethod
    async def open(
        cls,
        directory: Path,
        stream: str,
        settings: LogSettings,
        disk: Disk,
        *,
        on_appended: AppendedHandler,
        on_failure: FailureHandler,
    ) -> StreamLog:
        """Recover the log in `directory`, or begin one there. Raises `CorruptError`, `WriteRefusedError`."""
        recovered = await disk.write(_recover_or_create, directory, stream, settings)
        log = cls(directory, settings, disk, recovered, on_appended, on_failure)
        if settings.durability is not Durability.NONE:
            # What an earlier life wrote and could not force yet may be answered as a duplicate.
            await disk.write(log._writer.sync)
            log._synced = log._address
        return log

    # --- what there is ---------------------------------------------------------------------

    @property
    def partitions(self) -> int:
        """How many partitions this source has of the stream."""
        return len(self._indexes)

    @property
    def durability(self) -> Durability:
        """The promise behind an answer."""
        return self._settings.durability

    @property
    def budget_bytes(self) -> int:
        """What `live_bytes` and what waits to be written may come to."""
        return self._settings.budget_bytes

    @property
    def live_bytes(self) -> int:
        """Bytes of entries that are not trimmed."""
        return sum(index.bytes for index in self._indexes)

    @property
    def disk_bytes(self) -> int:
        """Bytes of all files."""
        return self._address - self._segments[0].address

    @property
    def cache_bytes(self) -> int:
        """Bytes of recent entries in memory."""
        return self._cache.bytes

    def first_offset(self, partition: int) -> int:
        """The oldest offset that can be read. After a restart it may be older than before."""
        return self._indexes[partition].first_offset

    def end_offset(self, partition: int) -> int:
        """The offset that the next record gets."""
        return self._indexes[partition].end_offset

    # --- appending -------------------------------------------------------------------------

    def next_partition(self) -> int:
        """Round robin, one step per call: where a post without a key goes."""
        self._next_partition = (self._next_partition + 1) % self.partitions
        return self._next_partition

    def answered(self, sequenced: Sequenced) -> Receipt | None:
        """The receipt of a post taken before; None if it is new. Raises `SequenceError`."""
        ranges = self._producers.find(sequenced)
        return None if ranges is None else Receipt(ranges, duplicate=True)

    async def append(self, post: Post) -> Receipt:
        """Take a post; returns when it is as durable as the setting says.

        Raises `BackPressureError` at the budget and `WriteRefusedError` when the disk is
        full (nothing was taken), `SequenceError`, or `StoreError` when the log is broken.
        """
        sequenced = post.sequenced
        if sequenced is None:
            return await asyncio.shield(self._submit(post))
        if known := self.answered(sequenced):
            return known
        if same := self._writing.get(sequenced):
            return Receipt((await asyncio.shield(same)).ranges, duplicate=True)
        receipt = self._writing[sequenced] = self._submit(post)
        receipt.add_done_callback(lambda _: self._writing.pop(sequenced))
        return await asyncio.shield(receipt)

    async def sync(self, then: Callable[[], None] | None = None) -> None:
        """Force what can be seen to the disk, if the setting wants that before a batch is offered.

        `then` runs behind it on the writing thread, without a way back to the event loop in between.
        Raises `StoreError` when the disk failed: the log is broken from then on, and `then` did not run;
        and what `then` raises.
        """
        wanted = self._address
        force = self._synced < wanted and self._fsyncs
        if not force and then is None:
            return
        failure = await self._disk.write(self._force, then, force=force)
        if failure is not None:
            raise self._commit.stop(failure) from failure
        if force:
            self._synced = max(self._synced, wanted)

    async def close(self) -> None:
        """Answer the posts that wait, then let the files go. The disk's threads stay."""
        await self._commit.close()
        await self._disk.write(self._writer.close, sync=self._fsyncs)

    # --- reading ---------------------------------------------------------------------------

    def cut(self, partition: int, first: int, records_max: int, bytes_max: int) -> int:
        """Where a batch ends that starts at `first`: whole entries within the bounds, one at least.

        Returns `first` when there is nothing behind it. Raises `OffsetError`.
        """
        return self._index(partition).cut(first, records_max, bytes_max)

    async def read(self, partition: int, first: int, end: int) -> list[Entry]:
        """The entries that are [first, end). Raises `OffsetError`, `CorruptError`."""
        return decode_entries(await self.read_encoded([Range(partition, first, end)], READ_BYTES_MAX))

    async def read_encoded(self, ranges: Sequence[Range], bytes_max: int) -> bytes:
        """The entries of each range, as `transport.entries` encodes them, in that order.

        Raises `OffsetError`, or `ProtocolError` for more than `bytes_max`.
        """
        places = [self._index(wanted.partition).places(wanted.first, wanted.end) for wanted in ranges]
        size = sum(place.size for some in places for place in some)
        if size > bytes_max:
            raise ProtocolError(
                explain(
                    f"records of stream {self.stream}",
                    wanted=f"at most {bytes_max} bytes at a time",
                    found=f"{size} bytes",
                    remedy="Ask for fewer batches or partitions at a time.",
                )
            )
        cached = self._cache.get(place for some in places for place in some)
        if cached is not None:
            return cached
        return await self._disk.read(_read_all, tuple(self._segments), places)

    # --- trimming --------------------------------------------------------------------------

    async def trim(self, before: Mapping[int, int]) -> None:
        """Nobody needs the records before these offsets, by partition, any more.

        The budget gets their bytes back at once; files go when no partition needs them.
        """
        for partition, offset in before.items():
            self._index(partition).trim(offset)
        live = [index.first_address for index in self._indexes]
        self._cache.drop_before(min((at for at in live if at is not None), default=self._address))
        count = 0
        while count + 1 < len(self._segments) and self._is_behind(self._segments[count + 1]):
            count += 1
        doomed, self._segments[:count] = self._segments[:count], []
        if doomed:
            await self._disk.write(delete_segments, doomed)

    def _is_behind(self, successor: Segment) -> bool:
        """All that lies before `successor` is trimmed."""
        starts = zip(self._indexes, successor.starts, strict=True)
        return all(start <= index.first_offset for index, start in starts)

    # --- inside ----------------------------------------------------------------------------

    def _force(self, then: Callable[[], None] | None, *, force: bool) -> OSError | None:
        """On the writing thread. A failure to force is returned: it must not be taken for one of `then`."""
        if force:
            try:
                self._writer.sync()
            except OSError as error:
                return error
        if then is not None:
            then()
        return None

    @property
    def _fsyncs(self) -> bool:
        return self._settings.durability is not Durability.NONE

    def _index(self, partition: int) -> PartitionIndex:
        if not 0 <= partition < len(self._indexes):
            raise OffsetError(
                explain(
                    f"stream {self.stream}",
                    wanted=f"a partition below {len(self._indexes)}",
                    found=str(partition),
                    remedy="Partitions are numbered within a source's own log.",
                )
            )
        return self._indexes[partition]

    def _submit(self, post: Post) -> asyncio.Future[Receipt]:
        size = encoded_size(post)
        held = self.live_bytes + self._commit.queued_bytes
        if held + size > self.budget_bytes:
            raise BackPressureError(
                explain(
                    f"stream {self.stream}",
                    wanted=f"room for {size} bytes within the log's budget of {self.budget_bytes}",
                    found=f"{held} bytes that a job still needs",
                    remedy="Nothing was taken: send again later. It goes on when jobs have caught up.",
                )
            )
        return self._commit.submit(post, size)

    async def _write_group(self, posts: list[Post]) -> list[Receipt]:
        await self._roll_when_full()
        entries = place_posts(posts, [index.end_offset for index in self._indexes])
        sync = self.durability is Durability.ALWAYS
        headers = await self._disk.write(self._writer.append, entries, sync=sync)
        for entry, header in zip(entries, headers, strict=True):
            place = Place(self._address, len(header) + len(entry.payload))
            self._indexes[entry.partition].add(place, entry.records)
            self._cache.put(place.address, header, entry.payload)
            self._address += place.size
        if sync:
            self._synced = self._address
        answers = receipts(posts, entries)
        for post, receipt in zip(posts, answers, strict=True):
            if post.sequenced is not None:
                self._producers.add(post.sequenced, receipt.ranges)
        for partition in sorted({entry.partition for entry in entries}):
            self._on_appended(self.stream, partition, self.end_offset(partition))
        return answers

    async def _roll_when_full(self) -> None:
        last = self._segments[-1]
        if self._address - last.address - last.head_bytes < self._settings.segment_bytes:
            return
        segment = await self._disk.write(
            self._writer.roll,
            self._directory,
            self.stream,
            self._address,
            [index.end_offset for index in self._indexes],
            self._producers.rows(),
            sync=self._fsyncs,
        )
        self._segments.append(segment)
        self._address += segment.head_bytes


def _recover_or_create(directory: Path, stream: str, settings: LogSettings) -> Recovered:
    tears_anywhere = settings.durability is Durability.NONE
    if recovered := recover(directory, tears_anywhere=tears_anywhere):
        first = recovered.segments[0]
        if first.stream != stream:
            raise damaged(first.path, wanted=f"stream {stream}", found=f"stream {first.stream}")
        return recovered
    try:
        directory.mkdir(parents=True, exist_ok=True)
        segment = create_segment(directory, stream, 0, [0] * settings.partitions, [])
        sync_directory(directory.parent)
    except OSError as error:
        raise refused(error) from error
    indexes = [PartitionIndex(partition, 0) for partition in range(settings.partitions)]
    return Recovered([segment], segment.head_bytes, indexes, ProducerTable(), 0)


def _read_all(segments: Sequence[Segment], places: Sequence[Sequence[Place]]) -> bytes:
    return b"".join(read_places(segments, some) for some in places)

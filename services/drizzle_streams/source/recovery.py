"""What a log holds after its process died: every complete post, and nothing else.

Entries are read from the oldest file on and checked: the checksum, the partition, and
that each continues where the one before ended. A post that was split into parts counts
when its last part is there. In the last file the first thing that does not check ends
the log, and the rest is cut off: a write that was torn by SIGKILL or a power failure,
never answered. (Were it answered and used, the bounds log would know of offsets beyond
the end: the service compares the two when it starts.)

In an older file a tear cannot come from a crash, because a file is forced to the disk
before the next one is born. It is a damaged disk, refused with its name. Only with
durability `none`, which never forces anything, the log ends at the first tear and
younger files are deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drizzle_streams.source.files import sync_directory, truncate
from drizzle_streams.source.index import PartitionIndex, Place
from drizzle_streams.source.producers import ProducerTable, Range, Row, Sequenced
from drizzle_streams.source.segments import Segment, damaged, read_head, segment_paths
from drizzle_streams.transport.entries import Entry, decode_entry


@dataclass(frozen=True, slots=True)
class Recovered:
    """A log, whole again; `size` is that of the last file. `cut_bytes` were torn and are gone."""

    segments: list[Segment]
    size: int
    indexes: list[PartitionIndex]
    producers: ProducerTable
    cut_bytes: int


def recover(directory: Path, *, tears_anywhere: bool) -> Recovered | None:
    """Read and mend the log in `directory`; None when there is none. Blocks.

    `tears_anywhere`: it was written with durability `none`.
    """
    for aside in directory.glob("*.tmp"):
        aside.unlink()
    paths = segment_paths(directory)
    if not paths:
        return None
    scan = _Scan(*read_head(paths[0]))
    for number, path in enumerate(paths):
        torn = scan.read(read_head(path)[0])
        if torn and number + 1 < len(paths) and not tears_anywhere:
            raise damaged(path, wanted="whole entries up to its end", found=f"{torn} bytes that are none")
        if torn:
            torn += _delete(paths[number + 1 :])
            truncate(path, scan.size)
            return scan.result(torn)
    return scan.result(0)


class _Scan:
    """Follows addresses and offsets through the files."""

    def __init__(self, first: Segment, remembered: Sequence[Row]) -> None:
        self._segments: list[Segment] = []
        self._address = first.address
        self._indexes = [PartitionIndex(p, start) for p, start in enumerate(first.starts)]
        self._producers = ProducerTable()
        for row in remembered:
            self._producers.add(*row)
        self.size = 0

    def result(self, cut_bytes: int) -> Recovered:
        """All that was found."""
        return Recovered(self._segments, self.size, self._indexes, self._producers, cut_bytes)

    def read(self, segment: Segment) -> int:
        """Take the complete posts of a file; returns the bytes behind the last of them."""
        self._must_follow(segment)
        self._segments.append(segment)
        view = memoryview(segment.path.read_bytes())
        self.size = position = segment.head_bytes
        post: list[tuple[Entry, Place]] = []
        while (found := decode_entry(view, position)) and self._continues(post, found[0]):
            entry, end = found
            post.append((entry, Place(segment.address + position, end - position)))
            position = end
            if len(post) == entry.parts:
                self._take(post)
                self.size = position
                post = []
        self._address = segment.address + self.size
        return len(view) - self.size

    def _must_follow(self, segment: Segment) -> None:
        ends = tuple(index.end_offset for index in self._indexes)
        if (segment.address, segment.starts) != (self._address, ends):
            raise damaged(
                segment.path,
                wanted=f"address {self._address} and offsets {ends}, where the file before it ends",
                found=f"address {segment.address} and offsets {segment.starts}",
            )

    def _continues(self, post: list[tuple[Entry, Place]], entry: Entry) -> bool:
        """Offsets without a hole, parts without a gap, a partition once per post."""
        return (
            entry.partition < len(self._indexes)
            and entry.base_offset == self._indexes[entry.partition].end_offset
            and entry.part == len(post)
            and all(entry.parts == other.parts and entry.partition != other.partition for other, _ in post)
        )

    def _take(self, post: Sequence[tuple[Entry, Place]]) -> None:
        for entry, place in post:
            self._indexes[entry.partition].add(place, entry.records)
        first, _ = post[0]
        if first.producer:
            ranges = tuple(Range(e.partition, e.base_offset, e.end_offset) for e, _ in post)
            self._producers.add(Sequenced(first.producer, first.sequence), ranges)


def _delete(paths: Sequence[Path]) -> int:
    """Delete files, the youngest first, so that a crash in between leaves no hole. Returns bytes."""
    deleted = 0
    for path in reversed(paths):
        deleted += path.stat().st_size
        path.unlink()
        sync_directory(path.parent)
    return deleted

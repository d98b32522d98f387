"""Segment files: the log of one stream as a row of append-only files, all partitions in one.

Why all partitions share the files: sealing a batch costs one fsync whatever the number
of partitions, a post that is split by a key is one write, and the files are written in
the order in which they are read. The index knows what belongs to whom.

A file is named by the address of its first byte and opens with a head that says which
stream it belongs to, which offset comes next in each partition, and what the producers
have posted so far. So both go on where they were although everything before has been
trimmed away. Behind the head lie entries (`transport.entries`), nothing else.

A file is born whole: its head is written aside, fsynced and renamed.

All functions here block: they run on the threads of `durability.Disk`.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from drizzle_streams.errors import CorruptError, explain
from drizzle_streams.source.files import AppendFile, refused, sync_directory, write_whole
from drizzle_streams.source.index import OffsetError, Place
from drizzle_streams.source.producers import Row, rows_from_json, rows_to_json
from drizzle_streams.transport.entries import Entry, encode_header

SUFFIX = ".segment"

_MAGIC = b"drizzle1"
_FRAME = struct.Struct("<8sII")


@dataclass(frozen=True, slots=True)
class Segment:
    """One file: `head_bytes` from `address`, then entries.

    `starts[p]` is the offset of the first record of partition p that is in it or behind it.
    """

    path: Path
    stream: str
    address: int
    starts: tuple[int, ...]
    head_bytes: int


def create_segment(
    directory: Path, stream: str, address: int, starts: Sequence[int], producers: Sequence[Row]
) -> Segment:
    """Make a file that holds its head and no entry, durably. Raises `OSError`."""
    said = {
        "stream": stream,
        "address": address,
        "starts": list(starts),
        "producers": rows_to_json(producers),
    }
    body = json.dumps(said).encode()
    path = directory / f"{address:020d}{SUFFIX}"
    write_whole(path, _FRAME.pack(_MAGIC, crc32(body), len(body)) + body)
    return Segment(path, stream, address, tuple(starts), _FRAME.size + len(body))


def read_head(path: Path) -> tuple[Segment, list[Row]]:
    """A file's head, and the producers it remembers. Raises `CorruptError`."""
    with path.open("rb") as file:
        framed = file.read(_FRAME.size)
        if len(framed) == _FRAME.size:
            magic, checksum, length = _FRAME.unpack(framed)
            body = file.read(length) if magic == _MAGIC else b""
            if magic == _MAGIC and crc32(body) == checksum:
                said: dict[str, Any] = json.loads(body)
                starts, head_bytes = tuple(said["starts"]), len(framed) + length
                segment = Segment(path, said["stream"], said["address"], starts, head_bytes)
                return segment, rows_from_json(said["producers"])
    raise damaged(path, wanted="the head of a segment", found="bytes that are none")


def segment_paths(directory: Path) -> list[Path]:
    """The segment files of a stream, oldest first."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def damaged(path: Path, *, wanted: str, found: str) -> CorruptError:
    """A file of the log is not what it must be."""
    return CorruptError(
        explain(
            f"segment {path}",
            wanted=wanted,
            found=found,
            remedy="The disk lost data: restore this directory from a copy, or move it away to begin anew.",
        )
    )


class SegmentWriter:
    """The growing end of a log. On the writing thread only."""

    def __init__(self, path: Path, size: int) -> None:
        self._file = AppendFile(path, size)

    def append(self, entries: Sequence[Entry], *, sync: bool) -> list[bytes]:
        """Write all entries behind one another, or none of them; returns their headers.

        Raises what `AppendFile.append` raises.
        """
        headers = [encode_header(entry) for entry in entries]
        pairs = zip(headers, entries, strict=True)
        self._file.append([piece for header, entry in pairs for piece in (header, entry.payload)], sync=sync)
        return headers

    def roll(
        self,
        directory: Path,
        stream: str,
        address: int,
        starts: Sequence[int],
        producers: Sequence[Row],
        *,
        sync: bool,
    ) -> Segment:
        """Go on in a new file; what the old one holds is forced to the disk first, if `sync`.

        Raises what `AppendFile.append` raises; then the old file is still the last.
        """
        if sync:
            self._file.sync()
        try:
            segment = create_segment(directory, stream, address, starts, producers)
            file = AppendFile(segment.path, segment.head_bytes)
        except OSError as error:
            raise refused(error) from error
        self._file.close()
        self._file = file
        return segment

    def sync(self) -> None:
        """Force what was appended to the disk. An `OSError` is final, see `durability`."""
        self._file.sync()

    def close(self, *, sync: bool) -> None:
        """Let the file go."""
        if sync:
            self._file.sync()
        self._file.close()


def delete_segments(segments: Sequence[Segment]) -> None:
    """Delete files, oldest first, so that a crash in between leaves no hole."""
    for segment in segments:
        segment.path.unlink()
        sync_directory(segment.path.parent)


def read_places(segments: Sequence[Segment], places: Sequence[Place]) -> bytes:
    """The encoded entries at `places` (ascending addresses), one behind the other.

    Raises `OffsetError` when a file has been trimmed away in the meantime.
    """
    pieces: list[bytes] = []
    for segment, runs in _by_segment(segments, places):
        try:
            descriptor = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise OffsetError(
                explain(
                    f"records in {segment.path.name}",
                    wanted="records that some job still needs",
                    found="trimmed ones",
                    remedy="Read from the stream's first offset on.",
                )
            ) from error
        try:
            pieces.extend(os.pread(descriptor, run.size, run.address - segment.address) for run in runs)
        finally:
            os.close(descriptor)
    return b"".join(pieces)


def _by_segment(segments: Sequence[Segment], places: Sequence[Place]) -> list[tuple[Segment, list[Place]]]:
    """Neighbouring places joined into runs, by the file they lie in."""
    found: list[tuple[Segment, list[Place]]] = []
    number = 0
    for place in places:
        while number + 1 < len(segments) and segments[number + 1].address <= place.address:
            number += 1
        if not found or found[-1][0] is not segments[number]:
            found.append((segments[number], [place]))
            continue
        runs = found[-1][1]
        if runs[-1].address + runs[-1].size == place.address:
            runs[-1] = Place(runs[-1].address, runs[-1].size + place.size)
        else:
            runs.append(place)
    return found

"""Chunks of files: read in the thread of the task that computes them, never kept.

What comes from the source says which chunk; here it becomes lines. Replays must read what the
first run read, so a file that is not as it was when the job was made fails its job, as a bad program
would: no retry mends that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from drizzle_streams.engine.records import CHUNK, END, UNCOUNTED, InputEntry
from drizzle_streams.errors import DrizzleError, explain
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.files import FilePart, FileRange, FileSet, chunk_at
from drizzle_streams.model.ids import PartitionId

LINE_BYTES_MAX = 16 * 1024 * 1024
"""Of one line: what begins in a chunk is read to its end, which must be somewhere."""

LOOK_BYTES = 64 * 1024
"""Read at a time to find where a line ends."""


class InputFileError(DrizzleError):
    """A file of the job's input is not what it was, or cannot be read."""


def named_chunks(bounds: Sequence[Bounds]) -> dict[PartitionId, tuple[InputEntry, ...]]:
    """What a batch has of files, by partition: names only, there is nothing to pull."""
    return {
        bound.partition: tuple(
            InputEntry(bound.partition, offset, 1, CHUNK, b"") for offset in range(bound.first, bound.end)
        )
        for bound in bounds
    }


class Chunks:
    """The chunks of a stream of files that has so many partitions."""

    def __init__(self, files: FileSet, partitions: int) -> None:
        self._files = files
        self._partitions = partitions
        self._count = files.chunks

    def placed(self, entries: Sequence[InputEntry]) -> list[InputEntry]:
        """The entries, those that end their partition as such."""
        return [
            InputEntry(entry.partition, entry.first_offset, 0, END, b"")
            if self._chunk(entry) >= self._count
            else entry
            for entry in entries
        ]

    def read(self, entry: InputEntry) -> InputEntry:
        """The entry with the lines of its chunk. Raises `InputFileError`. Blocks."""
        place = self._files.range_of(self._chunk(entry))
        return InputEntry(entry.partition, place.offset, UNCOUNTED, self._files.format, _lines(place))

    def _chunk(self, entry: InputEntry) -> int:
        return chunk_at(entry.partition, self._partitions, entry.first_offset)


def _lines(place: FileRange) -> bytes:
    """The lines that begin in a range, copied once."""
    file = place.file
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check_same(file, os.fstat(descriptor))
            first, end = (_line_from(descriptor, file, at) for at in (place.first, place.end))
            lines = os.pread(descriptor, end - first, first)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _other(file, error.strerror or str(error)) from error
    if len(lines) != end - first:
        raise _other(file, f"an end after {first + len(lines)} bytes")
    return lines


def _line_from(descriptor: int, file: FilePart, at: int) -> int:
    """Where the first line begins that does not begin before `at`: behind a newline, or with the file."""
    if not at:
        return 0
    seen = at - 1
    while seen < file.size:
        if seen - at > LINE_BYTES_MAX:
            raise _other(
                file,
                f"none in {LINE_BYTES_MAX} bytes after byte {at}",
                f"lines of at most {LINE_BYTES_MAX} bytes",
            )
        piece = os.pread(descriptor, LOOK_BYTES, seen)
        newline = piece.find(b"\n")
        if newline >= 0:
            return seen + newline + 1
        if not piece:
            raise _other(file, f"an end after {seen} bytes")
        seen += len(piece)
    return file.size


def _check_same(file: FilePart, status: os.stat_result) -> None:
    if (status.st_size, status.st_mtime_ns) == (file.size, file.modified_ns):
        return
    size = f"{status.st_size} bytes" if status.st_size != file.size else "of the same size, written to since"
    raise _other(file, size)


def _other(file: FilePart, found: str, wanted: str = "") -> InputFileError:
    return InputFileError(
        explain(
            f"input file {file.path}",
            wanted=wanted or f"{file.size} bytes, as when the job was submitted",
            found=found,
            remedy="Let files be while a job reads them, where every worker finds them; submit it again.",
        )
    )

"""Files as a stream: cut into chunks by their sizes alone, dealt out to the partitions in turn.

Files are laid end to end in the order of their names, each cut into chunks of `chunk_bytes`. A chunk
holds the lines that begin in it, so that nobody has to read a file to know what its chunks are. Chunk
c belongs to partition c modulo the partitions, which therefore walk through the files together:
event times of partitions stay close, and the watermark keeps up with all of them.

The offsets of such a stream's bounds count chunks within a partition. The one behind the last chunk
is the end of the input: it is part of a batch like any other, so a replay ends where the run did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CHUNK_BYTES_MAX = 8 * 1024 * 1024
"""Of a chunk: larger ones fall out of the processor's caches, smaller ones show a batch's fixed cost."""

CHUNK_BYTES_MIN = 256 * 1024
"""Of a chunk: small inputs are cut finer, so that all partitions have some."""

CHUNKS_WANTED = 64
"""In how many chunks an input is cut, where the bounds of their sizes allow it."""

CHUNKS_MAX = 1 << 40
"""Chunks of one input."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """One file, as it was when the job was made: `size` in bytes, `modified_ns` since the Unix epoch."""

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class FileRange:
    """The lines that begin in [first, end) of a file; `offset` is `first` in all files laid end to end."""

    file: FilePart
    first: int
    end: int
    offset: int


Format = Literal["ndjson", "lines"]
"""What a line is: an object of JSON, or text that is taken as it is."""


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of a stream, in the order in which they are read."""

    files: tuple[FilePart, ...]
    format: Format = "ndjson"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a chunk; the last one of a file has what is left."""
        return max(CHUNK_BYTES_MIN, min(CHUNK_BYTES_MAX, self.size // CHUNKS_WANTED))

    @property
    def chunks(self) -> int:
        """How many there are."""
        return sum(self._chunks_of(file) for file in self.files)

    def range_of(self, chunk: int) -> FileRange:
        """Where a chunk lies. Raises `IndexError` beyond the last."""
        size, before, offset = self.chunk_bytes, 0, 0
        for file in self.files:
            count = self._chunks_of(file)
            if chunk < before + count:
                first = (chunk - before) * size
                return FileRange(file, first, min(first + size, file.size), offset + first)
            before += count
            offset += file.size
        raise IndexError(f"chunk {chunk} of {before}")

    def _chunks_of(self, file: FilePart) -> int:
        return -(-file.size // self.chunk_bytes)


def chunk_at(partition: int, partitions: int, offset: int) -> int:
    """The chunk that is a partition's `offset`-th."""
    return offset * partitions + partition


def chunks_of(partition: int, partitions: int, chunks: int) -> int:
    """How many chunks a partition has."""
    return max(0, -(-(chunks - partition) // partitions))

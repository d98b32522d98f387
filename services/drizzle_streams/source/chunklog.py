"""What a source has of a stream of files: how many chunks each partition has, and that they end.

It holds no records and never opens a file: workers read them. It offers the chunks in turn, one of each
partition to a batch, with bounds on its disk as for any stream, so that a replay reads the same chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drizzle_streams.errors import explain
from drizzle_streams.model.files import chunks_of
from drizzle_streams.model.ids import PartitionId
from drizzle_streams.source.index import OffsetError


class ChunkLog:
    """Takes the place of a `StreamLog` in `runs.Reading`. Offsets count chunks; the last one is the end."""

    def __init__(self, partitions: Sequence[PartitionId], of: int, chunks: int) -> None:
        self._ends = [chunks_of(partition, of, chunks) + 1 for partition in sorted(partitions)]

    @property
    def partitions(self) -> int:
        """How many partitions it has."""
        return len(self._ends)

    def first_offset(self, partition: int) -> int:
        """The first chunk: files are not trimmed."""
        del partition
        return 0

    def end_offset(self, partition: int) -> int:
        """One beyond the end of the input."""
        return self._ends[partition]

    def cut(self, partition: int, first: int, records_max: int, bytes_max: int) -> int:
        """A batch has one chunk of each partition, whatever the bounds: its size is bounded itself."""
        del records_max, bytes_max
        if not 0 <= first <= self._ends[partition]:
            wanted = f"a chunk of {self._ends[partition]}"
            raise OffsetError(explain("files", wanted=wanted, found=str(first), remedy="Begin the job anew."))
        return min(first + 1, self._ends[partition])

    async def trim(self, before: Mapping[int, int]) -> None:
        """Files are their owner's to remove."""

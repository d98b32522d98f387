"""Where the entries of one partition lie: offset to place, in memory, 20 bytes per entry.

Three parallel arrays instead of objects, because a log may hold millions of entries
(a producer that posts one record at a time) and a source has 200 MB. An address counts
the bytes of all segments a stream ever had; it finds the file and the place in it.
What is trimmed leaves the index at once, although its segment may stay for a while.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from drizzle_streams.errors import StoreError, explain


class OffsetError(StoreError):
    """Offsets that were never given out, are trimmed, or cut an entry in two."""


@dataclass(frozen=True, slots=True)
class Place:
    """An encoded entry: `size` bytes from `address`."""

    address: int
    size: int


class PartitionIndex:
    """The entries of one partition that are not trimmed, dense in offsets, ascending."""

    def __init__(self, partition: int, end: int) -> None:
        self._partition = partition
        self._bases = array("Q")
        self._addresses = array("Q")
        self._sizes = array("I")
        self._end = end
        self._bytes = 0

    @property
    def first_offset(self) -> int:
        """The oldest offset that can be read; `end_offset` when there is none."""
        return self._bases[0] if self._bases else self._end

    @property
    def end_offset(self) -> int:
        """The offset behind the last record; the next record gets it."""
        return self._end

    @property
    def bytes(self) -> int:
        """Bytes of the entries held."""
        return self._bytes

    @property
    def first_address(self) -> int | None:
        """Where the oldest entry lies; None when there is none."""
        return self._addresses[0] if self._addresses else None

    def add(self, place: Place, records: int) -> None:
        """The next `records` offsets lie at `place`."""
        self._bases.append(self._end)
        self._addresses.append(place.address)
        self._sizes.append(place.size)
        self._end += records
        self._bytes += place.size

    def cut(self, first: int, records_max: int, bytes_max: int) -> int:
        """The end of the longest run of whole entries from `first` within the bounds.

        The first entry is taken even if it alone is beyond them; `first` when there is none.
        """
        position = self._position(first)
        if position == len(self._bases):
            return first
        taken = self._sizes[position]
        position += 1
        while position < len(self._bases):
            taken += self._sizes[position]
            if taken > bytes_max or self._end_of(position) - first > records_max:
                break
            position += 1
        return self._bases[position] if position < len(self._bases) else self._end

    def places(self, first: int, end: int) -> list[Place]:
        """The entries that are exactly [first, end), ascending. Raises `OffsetError`."""
        low, high = self._position(first), self._position(end)
        return [Place(self._addresses[i], self._sizes[i]) for i in range(low, high)]

    def trim(self, before: int) -> None:
        """Forget the entries that end at or before the offset `before`."""
        count = bisect_right(self._bases, before) - 1 if before < self._end else len(self._bases)
        if count > 0:
            self._bytes -= sum(self._sizes[:count])
            del self._bases[:count], self._addresses[:count], self._sizes[:count]

    def _end_of(self, position: int) -> int:
        return self._bases[position + 1] if position + 1 < len(self._bases) else self._end

    def _position(self, offset: int) -> int:
        """The number of the entry that starts at `offset`; the count of entries for the end."""
        if offset == self._end:
            return len(self._bases)
        position = bisect_left(self._bases, offset)
        if position == len(self._bases) or self._bases[position] != offset:
            raise OffsetError(
                explain(
                    f"offset {offset} of partition {self._partition}",
                    wanted=f"the start of an entry from {self.first_offset} on, or the end {self._end}",
                    found="none there",
                    remedy="Older records are trimmed once no job needs them; bounds lie between entries.",
                )
            )
        return position

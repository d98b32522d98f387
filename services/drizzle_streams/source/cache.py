"""The tail of the log in memory: what was just appended is what is read next.

A batch is read a few milliseconds after its records were posted, so nearly every read
is answered from here, without a thread and without the file. Bounded in bytes; the
oldest entry goes first, whatever partition it belongs to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from drizzle_streams.source.index import Place


class TailCache:
    """Encoded entries by address, at most `bytes_max` of them in total."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: OrderedDict[int, tuple[bytes, bytes]] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Bytes of the entries held."""
        return self._bytes

    def put(self, address: int, header: bytes, payload: bytes) -> None:
        """Hold an entry, as the two pieces it was written from."""
        self._entries[address] = (header, payload)
        self._bytes += len(header) + len(payload)
        while self._bytes > self._bytes_max:
            _, (old_header, old_payload) = self._entries.popitem(last=False)
            self._bytes -= len(old_header) + len(old_payload)

    def get(self, places: Iterable[Place]) -> bytes | None:
        """The entries at `places`, one behind the other; None unless all are held."""
        pieces: list[bytes] = []
        for place in places:
            entry = self._entries.get(place.address)
            if entry is None:
                return None
            pieces.extend(entry)
        return b"".join(pieces)

    def drop_before(self, address: int) -> None:
        """Let go of everything older: it is trimmed."""
        while self._entries and next(iter(self._entries)) < address:
            _, (header, payload) = self._entries.popitem(last=False)
            self._bytes -= len(header) + len(payload)

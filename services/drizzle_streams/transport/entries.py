"""Entries: the one binary form of stream input, on a source's disk and on the way to a worker.

An entry is what a producer posted, byte for byte, behind a header that says where
it lies in the stream. Because the form on the wire is the form on the disk, a
source serves input by copying a range of a file, and one checksum guards a record
block from the moment it was taken until a worker parses it.

Layout, little-endian:

    crc32 u32 | length u32 | base offset u64 | sequence u64 | records u32 |
    partition u16 | part u16 | parts u16 | format u8 | producer bytes u8 | producer | payload

`length` counts all that follows it; the checksum covers all that follows the
checksum. Offsets count records. `part` of `parts` numbers the entries that one
post was split into (one unless it is partitioned by a key): they lie side by side
in a log, so that a recovery can take or leave a post as a whole. A producer that
does not number its posts has an empty name and sequence 0.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

from drizzle_streams.errors import CorruptError, explain


class EntryFormat(IntEnum):
    """How an entry's payload is written; the number is what stands in a header."""

    NDJSON = 1
    ARROW = 2
    MSGPACK = 3

    @property
    def word(self) -> str:
        """The name that the engine uses: "ndjson", "arrow" or "msgpack"."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Entry:
    """A block of records of one stream partition: [base_offset, base_offset + records)."""

    partition: int
    base_offset: int
    records: int
    format: EntryFormat
    payload: bytes
    producer: str = ""
    sequence: int = 0
    part: int = 0
    parts: int = 1

    @property
    def end_offset(self) -> int:
        """The offset behind the last record."""
        return self.base_offset + self.records


_CHECKED = struct.Struct("<II")
_BODY = struct.Struct("<QQIHHHBB")
_HEADER_BYTES = _CHECKED.size + _BODY.size

PRODUCER_BYTES_MAX = 255
"""Longest producer name in a header (its length is one byte)."""


def entry_size(payload_bytes: int, producer: str) -> int:
    """Bytes of an encoded entry: what it takes on the disk and on the wire."""
    return _HEADER_BYTES + len(producer.encode()) + payload_bytes


def encode_header(entry: Entry) -> bytes:
    """Everything of an encoded entry that precedes its payload."""
    producer = entry.producer.encode()
    body = _BODY.pack(
        entry.base_offset,
        entry.sequence,
        entry.records,
        entry.partition,
        entry.part,
        entry.parts,
        entry.format,
        len(producer),
    )
    length = _BODY.size + len(producer) + len(entry.payload)
    head = length.to_bytes(4, "little") + body + producer
    return crc32(entry.payload, crc32(head)).to_bytes(4, "little") + head


def encode_entries(entries: Iterable[Entry]) -> bytes:
    """Entries one behind the other; the empty sequence is no bytes."""
    return b"".join(piece for entry in entries for piece in (encode_header(entry), entry.payload))


def decode_entries(data: bytes) -> list[Entry]:
    """All entries in `data`. Raises `CorruptError` unless it is whole entries with true checksums."""
    entries: list[Entry] = []
    position = 0
    view = memoryview(data)
    while position < len(data):
        found = decode_entry(view, position)
        if found is None:
            raise CorruptError(
                explain(
                    f"entry at byte {position} of {len(data)}",
                    wanted="a whole entry whose checksum is right",
                    found="something else",
                    remedy="Ask the source again; if it repeats, its disk has lost data.",
                )
            )
        entry, position = found
        entries.append(entry)
    return entries


def decode_entry(view: memoryview, position: int) -> tuple[Entry, int] | None:
    """The entry that starts at `position` and the position behind it; None if there is no valid one."""
    if len(view) - position < _HEADER_BYTES:
        return None
    checksum, length = _CHECKED.unpack_from(view, position)
    end = position + _CHECKED.size + length
    if length < _BODY.size or end > len(view) or crc32(view[position + 4 : end]) != checksum:
        return None
    base, sequence, records, partition, part, parts, number, name_bytes = _BODY.unpack_from(
        view, position + _CHECKED.size
    )
    start = position + _HEADER_BYTES + name_bytes
    try:
        producer = str(view[start - name_bytes : start], "utf-8")
        entry_format = EntryFormat(number)
    except ValueError:
        return None
    if start > end or part >= parts:
        return None
    payload = bytes(view[start:end])
    return Entry(partition, base, records, entry_format, payload, producer, sequence, part, parts), end

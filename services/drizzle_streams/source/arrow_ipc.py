"""What an Arrow IPC stream says about itself, checked before anything is decoded.

A body of 8 MB may say that it becomes 80 GB (compressed buffers, batches of a null
column), and a wrong length in it makes the decoder ask for memory that no machine has,
which ends the process: no error to catch. So every length that a decoder would believe
is checked here against what is there: messages, buffers, compressed sizes, and the
lengths of columns. Arrow's metadata are flatbuffers; the fields needed are read by
their place in the schema (format/Message.fbs).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_CONTINUATION = 0xFFFFFFFF
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3  # fields of Message
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = 0, 1, 2, 3  # fields of RecordBatch
_DATA = 1  # field of DictionaryBatch


class ArrowFormatError(ValueError):
    """The bytes are no Arrow IPC stream."""


class ArrowSize(NamedTuple):
    """Rows in all record batches, and bytes of all buffers once decompressed."""

    rows: int
    decoded_bytes: int


def arrow_size(body: bytes) -> ArrowSize:
    """Sum up the messages of a stream. Raises `ArrowFormatError`."""
    rows = decoded = position = 0
    try:
        while position < len(body):
            marker, metadata_bytes = struct.unpack_from("<Ii", body, position)
            position += 8
            if marker != _CONTINUATION or metadata_bytes < 0:
                raise ArrowFormatError(f"no message at byte {position - 8}")
            if metadata_bytes == 0:
                if position != len(body):
                    raise ArrowFormatError(f"{len(body) - position} bytes behind the end of the stream")
                break
            message = _Table.root(body, position)
            buffers = position + metadata_bytes
            position = buffers + message.integer(_BODY_LENGTH, "<q")
            if not buffers <= position <= len(body):
                raise ArrowFormatError("a message that is cut off")
            batch_rows, batch_bytes = _batch_size(message, body, buffers, position)
            rows += batch_rows
            decoded += batch_bytes
    except struct.error as error:
        raise ArrowFormatError("a message that is cut off") from error
    return ArrowSize(rows, decoded)


def _batch_size(message: _Table, body: bytes, start: int, end: int) -> ArrowSize:
    kind = message.integer(_HEADER_TYPE, "<B")
    if kind not in {_DICTIONARY_BATCH, _RECORD_BATCH}:
        return ArrowSize(0, 0)
    batch = message.table(_HEADER)
    if kind == _DICTIONARY_BATCH:
        batch = batch.table(_DATA)
    rows = batch.integer(_LENGTH, "<q")
    decoded = _decoded_bytes(batch, body[start:end])
    # A value takes a bit at least, unless it is null by its type.
    longest = 8 * decoded + max(rows, 0)
    for length, nulls in batch.pairs(_NODES):
        if not 0 <= nulls <= length <= longest:
            raise ArrowFormatError(f"a column of {length} values, {nulls} of them null, in {decoded} bytes")
    if rows < 0:
        raise ArrowFormatError(f"a batch of {rows} rows")
    return ArrowSize(rows if kind == _RECORD_BATCH else 0, decoded)


def _decoded_bytes(batch: _Table, buffers: bytes) -> int:
    """Bytes of a batch's buffers once decompressed."""
    compressed = batch.has(_COMPRESSION)
    decoded = 0
    for offset, length in batch.pairs(_BUFFERS):
        if offset < 0 or length < 0 or offset + length > len(buffers):
            raise ArrowFormatError(f"a buffer of {length} bytes at {offset} of {len(buffers)}")
        decoded += length
        if compressed and length > 0:
            # The first 8 bytes say the length once decompressed; -1: as it is.
            (said,) = struct.unpack_from("<q", buffers[: offset + length], offset)
            if said < -1:
                raise ArrowFormatError(f"a buffer that becomes {said} bytes")
            decoded += max(said, 0)
    return decoded


class _Table:
    """A flatbuffer table: fields by number, found through its vtable."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - self._read("<i", position)
        self._vtable_bytes = self._read("<H", self._vtable)

    @classmethod
    def root(cls, data: bytes, position: int) -> _Table:
        (offset,) = struct.unpack_from("<I", data, position)
        return cls(data, position + offset)

    def has(self, field: int) -> bool:
        return self._place(field) is not None

    def integer(self, field: int, form: str) -> int:
        """A number; 0 when it is left out, as flatbuffers do with defaults."""
        place = self._place(field)
        return 0 if place is None else self._read(form, place)

    def table(self, field: int) -> _Table:
        place = self._place(field)
        if place is None:
            raise ArrowFormatError("a message without its header")
        return _Table(self._data, place + self._read("<I", place))

    def pairs(self, field: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit numbers."""
        place = self._place(field)
        if place is None:
            return []
        start = place + self._read("<I", place)
        count = self._read("<I", start)
        if count > len(self._data) // 16:
            raise ArrowFormatError(f"a batch of {count} buffers")
        numbers = struct.unpack_from(f"<{2 * count}q", self._data, start + 4)
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def _place(self, field: int) -> int | None:
        slot = 4 + 2 * field
        if slot + 2 > self._vtable_bytes:
            return None
        offset = self._read("<H", self._vtable + slot)
        return self._position + offset if offset else None

    def _read(self, form: str, position: int) -> int:
        if position < 0:
            raise ArrowFormatError("a message that points outside of itself")
        number: int
        (number,) = struct.unpack_from(form, self._data, position)
        return number

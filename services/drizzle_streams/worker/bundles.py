"""Blocks on the way to another worker: the bytes that ride in a notification or answer a fetch.

Layouts, little-endian:

    share    crc32 u32 | blocks u16 | length u32 of each | the encoded blocks
    answer   next batch i64 | then per batch: batch i64 | sealed_at_ms f64 | length u32 | share

A share is what one worker has for another of one batch: a block per cohort that computed some
of the partitions, nearly always one. Its checksum is verified where bytes come in, so that
decoding can be left to the task which needs the rows.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from drizzle_streams.errors import CorruptError, explain
from drizzle_streams.model.ids import BatchId

_HEAD = struct.Struct("<IH")
_CHECKSUM_BYTES = 4
_LENGTH_BYTES = 4
_NEXT = struct.Struct("<q")
_BATCH = struct.Struct("<qdI")
_NO_MORE = -1


@dataclass(frozen=True, slots=True)
class Served:
    """A share of one batch and when the batch was sealed (cluster ms; 0 if not known)."""

    batch: BatchId
    sealed_at_ms: float
    share: bytes


def pack_share(blocks: Sequence[bytes]) -> bytes:
    """Encoded blocks as one share."""
    lengths = b"".join(len(block).to_bytes(_LENGTH_BYTES, "little") for block in blocks)
    body = len(blocks).to_bytes(2, "little") + lengths + b"".join(blocks)
    return crc32(body).to_bytes(_CHECKSUM_BYTES, "little") + body


def unpack_share(data: bytes) -> tuple[bytes, ...]:
    """The encoded blocks of a share; raises `CorruptError` for anything else."""
    if len(data) < _HEAD.size or crc32(memoryview(data)[_CHECKSUM_BYTES:]) != _HEAD.unpack_from(data)[0]:
        raise _damaged("share", f"{len(data)} bytes that do not fit their checksum")
    count = _HEAD.unpack_from(data)[1]
    position = _HEAD.size + count * _LENGTH_BYTES
    if position > len(data):
        raise _damaged("share", f"{count} blocks announced in {len(data)} bytes")
    blocks: list[bytes] = []
    for (length,) in struct.iter_unpack("<I", data[_HEAD.size : position]):
        blocks.append(data[position : position + length])
        position += length
    if position != len(data):
        raise _damaged("share", f"{len(data)} bytes where {position} were announced")
    return tuple(blocks)


def pack_answer(served: Sequence[Served], following: BatchId | None) -> bytes:
    """Shares of several batches; `following` is the batch to ask on from, None at the end."""
    parts = [_NEXT.pack(_NO_MORE if following is None else following)]
    for one in served:
        parts += (_BATCH.pack(one.batch, one.sealed_at_ms, len(one.share)), one.share)
    return b"".join(parts)


def unpack_answer(data: bytes) -> tuple[tuple[Served, ...], BatchId | None]:
    """The reverse of `pack_answer`; raises `CorruptError`. Shares are not looked into."""
    if len(data) < _NEXT.size:
        raise _damaged("answer", f"{len(data)} bytes")
    (following,) = _NEXT.unpack_from(data)
    position = _NEXT.size
    served: list[Served] = []
    while position < len(data):
        if len(data) - position < _BATCH.size:
            raise _damaged("answer", "a batch that is cut off")
        batch, sealed_at_ms, length = _BATCH.unpack_from(data, position)
        position += _BATCH.size
        if len(data) - position < length:
            raise _damaged("answer", "a share that is cut off")
        served.append(Served(BatchId(batch), sealed_at_ms, data[position : position + length]))
        position += length
    return tuple(served), None if following == _NO_MORE else BatchId(following)


def _damaged(thing: str, found: str) -> CorruptError:
    return CorruptError(
        explain(
            f"{thing} of blocks",
            wanted="whole bytes with a true checksum",
            found=found,
            remedy="Fetch it again; if it repeats, both workers must run one release.",
        )
    )

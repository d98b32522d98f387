"""Frames as bytes, and blocks: what a task of one stage gives to the stage behind it.

The only file that knows Arrow IPC. Layout of an encoded frame:

    header bytes u32, little-endian | header (MessagePack map) | Arrow IPC stream

The stream is absent when the frame has no rows. The same frame and header always give the
same bytes: maps are written in the order of their making, nothing is compressed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import msgpack
import polars as pl

from drizzle_streams.engine.buffers import written
from drizzle_streams.engine.columns import KEY_GROUP
from drizzle_streams.engine.failures import POLARS_ERRORS
from drizzle_streams.engine.series import search_sorted
from drizzle_streams.engine.watermark import Marks
from drizzle_streams.errors import CorruptError, explain

_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Block:
    """Shuffle output of one task: rows sorted by key group, and the marks of its upstream partitions.

    `frame` is None when there are no rows; the marks say so for every partition all the same.
    `passed`: where the task's stage has no time of its own, the marks that came to it; they belong to
    every cut of the block.
    """

    frame: pl.DataFrame | None
    marks: Marks
    passed: Marks | None = None

    @property
    def rows(self) -> int:
        """How many rows the block has."""
        return 0 if self.frame is None else self.frame.height

    @property
    def shown(self) -> Marks:
        """The marks that tell how far event time has come."""
        return self.marks if self.passed is None else self.passed


def slice_block(block: Block, ranges: Sequence[tuple[int, int]]) -> Block:
    """The rows whose key group lies in one of the half-open ranges; marks kept. Slices, no copy."""
    if block.frame is None:
        return block
    key_groups = block.frame.get_column(KEY_GROUP)
    if len(ranges) == 1 and ranges[0][0] <= key_groups[0] and key_groups[-1] < ranges[0][1]:
        return block
    bounds = pl.Series([edge for pair in sorted(ranges) for edge in pair], dtype=pl.UInt32)
    edges = cast("list[int]", search_sorted(key_groups.cast(pl.UInt32), bounds).to_list())
    pieces = [
        block.frame.slice(first, end - first)
        for first, end in zip(edges[::2], edges[1::2], strict=True)
        if end > first
    ]
    if not pieces:
        return replace(block, frame=None)
    return replace(block, frame=pieces[0] if len(pieces) == 1 else pl.concat(pieces))


def encode_block(block: Block) -> bytes:
    """The block as bytes."""
    header = {"m": [list(mark) for mark in block.marks]}
    if block.passed is not None:
        header["p"] = [list(mark) for mark in block.passed]
    return encode_frame(header, block.frame)


def decode_block(data: bytes) -> Block:
    """The reverse of `encode_block`; raises `CorruptError` for other bytes."""
    header, frame = decode_frame(data)
    try:
        marks = _marks(header["m"])
        passed = _marks(header["p"]) if "p" in header else None
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged("block", repr(error)) from error
    return Block(frame, marks, passed)


def _marks(given: Any) -> Marks:
    return tuple((int(partition), None if mark is None else int(mark)) for partition, mark in given)


def encode_frame(header: Mapping[str, object], frame: pl.DataFrame | None) -> bytes:
    """A header and a frame as bytes; a frame without rows is left out. Adds the rows as "r"."""
    packed = msgpack.packb({**header, "r": 0 if frame is None else frame.height})
    head = len(packed).to_bytes(_LENGTH_BYTES, "little") + packed
    return head if frame is None or not frame.height else written(head, frame)


def decode_frame(data: bytes) -> tuple[dict[str, Any], pl.DataFrame | None]:
    """The reverse of `encode_frame`; raises `CorruptError` for other bytes."""
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < start or start == _LENGTH_BYTES:
        raise _damaged("frame", f"{len(data)} bytes with a header up to byte {start}")
    try:
        header: Any = msgpack.unpackb(data[_LENGTH_BYTES:start])
        frame = pl.read_ipc_stream(data[start:]) if len(data) > start else None
    except (ValueError, msgpack.UnpackException, OSError, *POLARS_ERRORS) as error:
        raise _damaged("frame", repr(error)) from error
    if not isinstance(header, dict):
        raise _damaged("frame", f"a header that is a {type(header).__name__}")
    found = cast("dict[str, Any]", header)
    rows = 0 if frame is None else frame.height
    if found.get("r") != rows:
        raise _damaged(f"frame of {found.get('r')!r} rows", f"{rows} rows")
    return found, frame


def _damaged(thing: str, found: str) -> CorruptError:
    remedy = "The bytes were cut or are not ours; fetch or build them again."
    return CorruptError(explain(thing, wanted="an encoded frame", found=found[:200], remedy=remedy))

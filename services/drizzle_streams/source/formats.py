"""What a body must be to be taken: cheap checks here, every record on the worker.

- NDJSON: one record per line, kept as posted. Lines are not parsed: a bad one goes to
  the dead letters when its batch is computed. Refused is only what is no NDJSON of
  objects at all, i.e. neither the first nor the last line is `{…}` (a JSON array,
  pretty-printed JSON, CSV, text). Empty lines are dropped, a last line without its
  newline gets one, so that payloads can be put behind one another.
- Arrow IPC stream: decoded once, since one bad byte would spoil all its records.
- MessagePack: a row of maps. Each is stepped over, not built.

A body that is refused is refused as a whole: nothing of it was taken.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import msgpack
import polars as pl

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.source.arrow_ipc import ArrowFormatError, arrow_size
from drizzle_streams.transport.entries import EntryFormat

RECORDS_MAX = 1_000_000
"""Records in one post."""
DECODED_BYTES_MAX = 128 * 1024 * 1024
"""What an Arrow body may become once decompressed."""

CONTENT_TYPES = {
    "application/x-ndjson": EntryFormat.NDJSON,
    "application/vnd.apache.arrow.stream": EntryFormat.ARROW,
    "application/msgpack": EntryFormat.MSGPACK,
}


class FormatError(ProtocolError):
    """A body is not what its content type says."""


class Body(NamedTuple):
    """A body that may be taken: what is kept of it, and how many records that is."""

    payload: bytes
    records: int


def check_body(entry_format: EntryFormat, body: bytes) -> Body:
    """Check a body and count its records. Raises `FormatError`. CPU only; a thread's work when large."""
    if not body:
        raise bad_body("records", "an empty body")
    match entry_format:
        case EntryFormat.NDJSON:
            checked = _check_ndjson(body)
        case EntryFormat.ARROW:
            checked = _check_arrow(body)
        case EntryFormat.MSGPACK:
            checked = _check_msgpack(body)
    if checked.records > RECORDS_MAX:
        raise bad_body(f"at most {RECORDS_MAX} records", f"{checked.records}")
    if checked.records == 0:
        raise bad_body("records", "none")
    return checked


def bad_body(wanted: str, found: str) -> FormatError:
    """Word what is wrong with a body."""
    return FormatError(
        explain("body", wanted=wanted, found=found, remedy="Nothing was taken: correct the body or its type.")
    )


def map_starts(body: bytes) -> list[int]:
    """Where each map of a row of MessagePack maps begins, and the end. Raises `FormatError`."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=len(body))
    unpacker.feed(body)
    starts = [0]
    try:
        while starts[-1] < len(body):
            if not _opens_map(body[starts[-1]]):
                raise bad_body("MessagePack maps", f"another type at byte {starts[-1]}")
            unpacker.skip()
            starts.append(unpacker.tell())
    except msgpack.OutOfData as error:
        raise bad_body("whole MessagePack maps", f"one that is cut off at byte {starts[-1]}") from error
    except (ValueError, msgpack.UnpackException) as error:
        raise bad_body("MessagePack maps", f"something else at byte {starts[-1]} ({error})") from error
    return starts


def _opens_map(byte: int) -> bool:
    return 0x80 <= byte <= 0x8F or byte in {0xDE, 0xDF}


def _check_ndjson(body: bytes) -> Body:
    payload = body if body.endswith(b"\n") else body + b"\n"
    if _has_empty_line(payload):
        payload = b"".join(line + b"\n" for line in payload.split(b"\n") if line.strip())
    if not payload:
        return Body(payload, 0)
    first = payload[: payload.index(b"\n")]
    last = payload[payload.rfind(b"\n", 0, -1) + 1 :]
    if not _is_object(first) and not _is_object(last):
        raise bad_body("NDJSON, one {…} per line", f"a body that begins with {first[:40]!r}")
    return Body(payload, payload.count(b"\n"))


def _has_empty_line(payload: bytes) -> bool:
    if payload.startswith((b"\n", b"\r\n")) or b"\n\n" in payload:
        return True
    # One byte is found 50 times faster than three, and it is seldom there.
    return b"\r" in payload and b"\n\r\n" in payload


def _is_object(line: bytes) -> bool:
    line = line.strip()
    return line.startswith(b"{") and line.endswith(b"}")


def _check_arrow(body: bytes) -> Body:
    try:
        size = arrow_size(body)
    except ArrowFormatError as error:
        raise bad_body("an Arrow IPC stream", str(error)) from error
    if size.decoded_bytes > DECODED_BYTES_MAX:
        raise bad_body(f"at most {DECODED_BYTES_MAX} bytes once decompressed", f"{size.decoded_bytes}")
    if 0 < size.rows <= RECORDS_MAX and read_arrow(body).height != size.rows:
        raise bad_body(f"the {size.rows} rows that it announces", "another number")
    return Body(body, size.rows)


def read_arrow(body: bytes) -> pl.DataFrame:
    """Decode an Arrow IPC stream. Raises `FormatError`."""
    try:
        return pl.read_ipc_stream(io.BytesIO(body))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        raise bad_body("an Arrow IPC stream", f"one that cannot be decoded ({str(error)[:200]})") from error


def _check_msgpack(body: bytes) -> Body:
    return Body(body, len(map_starts(body)) - 1)

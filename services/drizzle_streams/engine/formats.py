"""Reading payloads: NDJSON, Arrow IPC streams, MessagePack maps, text; only the columns the program needs.

The fast path reads all payloads of a format in one call. Only when that fails, or gives
another number of rows than was posted, `salvage` looks at single records. Both use the
same reader on the same bytes, so a record is good or bad whatever it is read together with.

MessagePack records are rewritten as JSON lines and then read like them: one set of rules.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, cast

import msgpack
import polars as pl

from drizzle_streams.engine.conversion import read_type
from drizzle_streams.engine.failures import POLARS_ERRORS
from drizzle_streams.engine.lines import ARRAY_BYTES_MAX, read_as_array
from drizzle_streams.engine.records import UNCOUNTED, DeadLetter, InputEntry, dead_letter
from drizzle_streams.engine.salvage import good_lines

Schema = Mapping[str, pl.DataType]

_BLANK: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive good records of an entry: `rows` from record `number` of entry `entry` on."""

    entry: InputEntry
    number: int
    rows: int


@dataclass(frozen=True, slots=True)
class Read:
    """Rows in the order of `spans`, in the types they were read in, and the records left out."""

    frame: pl.DataFrame
    spans: list[Span]
    dead: list[DeadLetter]


def read_entries(entries: Sequence[InputEntry], schema: Schema) -> Read:
    """Read entries of one format."""
    kind = entries[0].format
    if kind == "ndjson":
        return _read_ndjson(entries, schema)
    read = {"arrow": _read_arrow, "msgpack": _read_msgpack, "lines": _read_text}[kind]
    parts = [read(e, schema) for e in entries]
    return Read(
        pl.concat([part.frame for part in parts], how="vertical_relaxed"),
        [span for part in parts for span in part.spans],
        [letter for part in parts for letter in part.dead],
    )


def record_bytes(entry: InputEntry, numbers: Sequence[int]) -> list[bytes]:
    """Some records of an entry as bytes to show: lines of JSON. For dead letters only: slow."""
    if entry.format == "ndjson":
        lines = split_lines(entry.payload)
    elif entry.format == "arrow":
        frame = pl.read_ipc_stream(entry.payload)
        return [json.dumps(frame.row(number, named=True), default=repr).encode() for number in numbers]
    else:
        lines = [json.dumps(record, default=repr).encode() for record in _unpack(entry.payload)[0]]
    return [lines[number] for number in numbers]


def split_lines(payload: bytes) -> list[bytes]:
    """The records of an NDJSON payload: lines that hold more than white space."""
    return [line for line in payload.split(b"\n") if line.strip(_BLANK)]


def _read_ndjson(entries: Sequence[InputEntry], schema: Schema) -> Read:
    payload = entries[0].payload
    if len(entries) > 1:
        payload = b"\n".join(e.payload.removesuffix(b"\n") for e in entries)  # no blank lines between them
    try:
        frame = read_lines(payload, schema)
    except POLARS_ERRORS:
        frame = None
    if frame is not None and entries[0].records == UNCOUNTED:
        return Read(frame, [Span(entries[0], 0, frame.height)], [])
    if frame is not None and frame.height == sum(e.records for e in entries):
        return Read(frame, [Span(e, 0, e.records) for e in entries], [])
    parts = [_salvage(e, split_lines(e.payload), schema) for e in entries]
    return Read(
        pl.concat([part.frame for part in parts]),
        [span for part in parts for span in part.spans],
        [letter for part in parts for letter in part.dead],
    )


def read_lines(payload: bytes, schema: Schema) -> pl.DataFrame:
    """Lines of JSON objects as text columns (nested ones as declared). Raises if any line is bad."""
    types = {name: read_type(dtype) for name, dtype in schema.items()}
    if not payload or payload.isspace():  # looks at one byte, usually; the reader refuses what is empty
        return pl.DataFrame(schema=types)
    short = len(payload) <= ARRAY_BYTES_MAX and all(dtype == pl.String for dtype in types.values())
    frame = read_as_array(payload, types) if short else None
    return pl.read_ndjson(payload, schema=types) if frame is None else frame


def _salvage(entry: InputEntry, lines: Sequence[bytes], schema: Schema) -> Read:
    frame, reasons = good_lines(lines, lambda some: read_lines(b"\n".join(some), schema))
    dead = [dead_letter(entry, number, reason, lines[number]) for number, reason in reasons.items()]
    return Read(frame, _spans_between(entry, len(lines), sorted(reasons)), dead)


def _spans_between(entry: InputEntry, records: int, bad: Sequence[int]) -> list[Span]:
    """The stretches of records that lie between the bad ones."""
    edges = [-1, *bad, records]
    return [Span(entry, left + 1, right - left - 1) for left, right in pairwise(edges) if right - left > 1]


def _read_arrow(entry: InputEntry, schema: Schema) -> Read:
    try:
        frame = pl.read_ipc_stream(entry.payload)
    except (*POLARS_ERRORS, OSError) as error:
        reason = f"not an Arrow IPC stream: {error}"
        letters = [
            dead_letter(entry, number, reason, b"" if number else entry.payload)
            for number in range(entry.records)
        ]
        return Read(read_lines(b"", schema), [], letters)
    missing = [name for name in schema if name not in frame.columns]
    chosen = frame.select([name for name in schema if name not in missing])
    nulls = [pl.Series(name, [None], dtype=schema[name]).new_from_index(0, frame.height) for name in missing]
    return Read(chosen.hstack(nulls).select(list(schema)), [Span(entry, 0, frame.height)], [])


def _read_msgpack(entry: InputEntry, schema: Schema) -> Read:
    records, broken = _unpack(entry.payload)
    lines = [_as_line(record, schema) for record in records]
    bad = {number: line for number, line in enumerate(lines) if not isinstance(line, bytes)}
    good = [line for line in lines if isinstance(line, bytes)]
    places = [number for number in range(len(lines)) if number not in bad]
    frame, reasons = good_lines(good, lambda some: read_lines(b"\n".join(some), schema))
    all_bad = {places[at]: reason for at, reason in reasons.items()} | {n: str(e) for n, e in bad.items()}
    shown = [json.dumps(record, default=repr).encode() for record in records]
    dead = [dead_letter(entry, number, all_bad[number], shown[number]) for number in sorted(all_bad)]
    dead += [dead_letter(entry, number, broken, b"") for number in range(len(lines), entry.records)]
    return Read(frame, _spans_between(entry, len(lines), sorted(all_bad)), dead)


def _read_text(entry: InputEntry, schema: Schema) -> Read:
    """Lines as they are, the only column; one that is not UTF-8 is a bad record."""
    (name,) = schema
    try:
        frame = pl.read_lines(entry.payload, name=name)
    except POLARS_ERRORS:
        return _salvage_text(entry, name)
    return Read(frame, [Span(entry, 0, frame.height)], [])


def _salvage_text(entry: InputEntry, name: str) -> Read:
    lines = entry.payload.removesuffix(b"\n").split(b"\n")
    texts: list[str] = []
    reasons: dict[int, str] = {}
    for number, line in enumerate(lines):
        try:
            texts.append(line.removesuffix(b"\r").decode())
        except UnicodeDecodeError as error:
            reasons[number] = f"not UTF-8: {error}"
    dead = [dead_letter(entry, number, reason, lines[number]) for number, reason in reasons.items()]
    frame = pl.DataFrame([pl.Series(name, texts, dtype=pl.String)])
    return Read(frame, _spans_between(entry, len(lines), list(reasons)), dead)


def _unpack(payload: bytes) -> tuple[list[Any], str]:
    """The records up to where the payload breaks off, and why it does."""
    unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=max(len(payload), 1), timestamp=3)
    unpacker.feed(payload)
    records: list[Any] = []
    try:
        records.extend(unpacker)
    except (ValueError, msgpack.UnpackException) as error:
        return records, f"not MessagePack: {error!r}"
    return records, "not MessagePack: the payload ends inside a record"


def _as_line(record: Any, schema: Schema) -> bytes | str:
    """A record as a line of JSON with the needed columns; a string says why it cannot be one."""
    if not isinstance(record, dict):
        return f"not a map: {type(record).__name__}"
    given = cast("dict[Any, Any]", record)
    try:
        return json.dumps({name: given.get(name) for name in schema}, default=_plain, allow_nan=True).encode()
    except (TypeError, ValueError) as error:
        return f"cannot be read: {error}"


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"a value of type {type(value).__name__}")

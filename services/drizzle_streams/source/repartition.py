"""Splitting a body by a key: the same key always goes to the same partition of a stream.

The partition is the stable hash (xxhash64) of the key's text, modulo the number of
partitions, whatever the format: 17 and "17" go together, in NDJSON, Arrow and
MessagePack alike. Records without the key (and lines that are no JSON) share the hash
of the empty text. The format stays as it was, and the order within a partition too.

CPU only, and vectorised where the format allows: runs in a thread.
"""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from typing import Any

import msgpack
import polars as pl
import polars_hash

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.source.formats import Body, bad_body, map_starts, read_arrow
from drizzle_streams.source.posts import Part
from drizzle_streams.transport.entries import EntryFormat

_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .:-]{0,99}")


def check_key(key: str) -> str:
    """`key` if it may name a column to partition by, else a `ProtocolError`."""
    if _KEY.fullmatch(key):
        return key
    raise ProtocolError(
        explain(
            "key column",
            wanted="1 to 100 letters, digits, '_', '.', ':', '-' or spaces",
            found=repr(key[:100]),
            remedy="Rename the column, or leave out Drizzle-Key.",
        )
    )


def split_by_key(entry_format: EntryFormat, body: Body, key: str, partitions: int) -> tuple[Part, ...]:
    """The records by partition, partitions ascending, none empty. Raises `FormatError`."""
    match entry_format:
        case EntryFormat.NDJSON:
            return _split_ndjson(body, key, partitions)
        case EntryFormat.ARROW:
            return _split_arrow(body, key, partitions)
        case EntryFormat.MSGPACK:
            return _split_msgpack(body, key, partitions)


def _split_ndjson(body: Body, key: str, partitions: int) -> tuple[Part, ...]:
    lines = [line + b"\n" for line in body.payload.split(b"\n")[:-1]]
    texts = body.payload.decode("utf-8", "replace").split("\n")[:-1]
    keys = pl.Series(texts, dtype=pl.String).str.json_path_match(f"$['{key}']")
    return _gather(lines, keys, partitions)


def _split_msgpack(body: Body, key: str, partitions: int) -> tuple[Part, ...]:
    starts = map_starts(body.payload)
    records = [body.payload[start:end] for start, end in pairwise(starts)]
    try:
        keys = [
            _text(msgpack.unpackb(record, strict_map_key=False, unicode_errors="replace").get(key))
            for record in records
        ]
    except (ValueError, TypeError) as error:
        raise bad_body("MessagePack maps from names to values", f"another one ({error})") from error
    return _gather(records, pl.Series(keys, dtype=pl.String), partitions)


def _split_arrow(body: Body, key: str, partitions: int) -> tuple[Part, ...]:
    frame = read_arrow(body.payload)
    if key not in frame.columns:
        raise bad_body(f"a column {key!r} (Drizzle-Key)", f"columns {', '.join(frame.columns)[:200]}")
    numbers = _partition_numbers(_texts(frame[key]), partitions)
    parts: list[Part] = []
    for partition in numbers.unique().sort():
        some = frame.filter(numbers == partition)
        encoded = io.BytesIO()
        some.write_ipc_stream(encoded)
        parts.append(Part(partition, some.height, encoded.getvalue()))
    return tuple(parts)


def _gather(records: list[bytes], keys: pl.Series, partitions: int) -> tuple[Part, ...]:
    gathered: dict[int, list[bytes]] = {}
    for record, partition in zip(records, _partition_numbers(keys, partitions), strict=True):
        gathered.setdefault(partition, []).append(record)
    return tuple(Part(p, len(some), b"".join(some)) for p, some in sorted(gathered.items()))


def _partition_numbers(keys: pl.Series, partitions: int) -> pl.Series:
    hashed = polars_hash.col("key").nchash.xxhash64()
    frame = keys.fill_null("").alias("key").to_frame()
    return frame.select((hashed % partitions).cast(pl.UInt16)).to_series()


def _texts(column: pl.Series) -> pl.Series:
    """An Arrow column as text. Raises `FormatError` for what has none."""
    try:
        if not column.dtype.is_nested():
            return column.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        raise bad_body(
            f"text or numbers in column {column.name!r} (Drizzle-Key)", str(error)[:200]
        ) from error
    raise bad_body(f"text or numbers in column {column.name!r} (Drizzle-Key)", str(column.dtype))


def _text(value: Any) -> str | None:
    """A key as the text that NDJSON would show for it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return json.dumps(value, default=str)

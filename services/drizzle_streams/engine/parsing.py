"""From entries of a log to one frame: the columns a program needs, in a fixed order of rows.

Rules:
- Rows are ordered by partition, then offset, so the rows of a partition are one slice and
  nothing depends on which partitions are read in the same call.
- Every row knows its partition (`PARTITION`), and its offset (`OFFSET`) where the program needs it.
- A record that cannot be read, or lacks its event time, becomes a dead letter; the others stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import polars as pl

from drizzle_streams.engine import eager, program
from drizzle_streams.engine.columns import OFFSET, PARTITION
from drizzle_streams.engine.conversion import convert
from drizzle_streams.engine.formats import Read, Span, read_entries, record_bytes
from drizzle_streams.engine.records import CHUNK, DeadLetter, InputEntry, dead_letter
from drizzle_streams.engine.series import constant

ALONE_BYTES_MIN: Final = 2 * 1024 * 1024
"""Payloads from this size on are not joined with others: a call's fixed cost is little beside them."""

Load = Callable[[InputEntry], InputEntry]
"""Reads a chunk: the entry with its lines."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """Rows of a batch; `lengths` gives (partition, rows) in the order of the rows."""

    frame: pl.DataFrame
    lengths: tuple[tuple[int, int], ...]
    dead: tuple[DeadLetter, ...]
    records: int


class Parser:
    """Reads the entries of one stream for one program. Thread-safe: holds no state."""

    def __init__(self, read: program.Read, *, with_offsets: bool) -> None:
        self._schema = {name: _instance(dtype) for name, dtype in read.schema.items()}
        self._event_time = read.event_time
        self._with_offsets = with_offsets

    def parse(self, entries: Sequence[InputEntry], load: Load | None = None) -> Parsed:
        """Parse entries of any partitions and formats; `load` reads those that are chunks, one at a time."""
        ordered = sorted((e for e in entries if e.records), key=lambda e: (e.partition, e.first_offset))
        parts = [self._loaded(group, load) for group in _together(ordered)]
        spans = [span for part in parts for span in part.spans]
        dead = [letter for part in parts for letter in part.dead]
        if len(parts) == 1:
            frame = parts[0].frame
        else:
            frame = pl.concat([pl.DataFrame(schema=self._schema), *(part.frame for part in parts)])
        placed = frame.hstack([_partitions(spans), *([_offsets(spans)] if self._with_offsets else [])])
        dead.sort(key=lambda letter: (letter.partition, letter.offset))
        records = sum(span.rows for span in spans) + len(dead)
        return Parsed(placed, _lengths(spans), tuple(dead), records)

    def _loaded(self, entries: list[InputEntry], load: Load | None) -> Read:
        """Entries of one format; of a chunk nothing is kept but its rows, so the next finds warm memory."""
        if load is None or entries[0].format != CHUNK:
            return self._read(entries)
        entry = load(entries[0])
        read = self._read([entry])
        light = replace(entry, payload=b"")
        return Read(read.frame, [replace(span, entry=light) for span in read.spans], read.dead)

    def _read(self, entries: Sequence[InputEntry]) -> Read:
        """Entries of one format in the declared types, without the records that do not convert."""
        raw = read_entries(entries, self._schema)
        columns = [convert(raw.frame.get_column(name), dtype) for name, dtype in self._schema.items()]
        reasons: dict[int, str] = {}
        for before, after in zip(raw.frame.get_columns(), columns, strict=True):
            if after.null_count() != before.null_count():
                self._explain_lost(before, after, reasons)
            if after.name == self._event_time and after.null_count():
                for row in _rows_where(after.is_null()):
                    reasons.setdefault(row, f"column {after.name!r}: the event time is missing")
        frame = eager.framed(columns)
        if not reasons:
            return Read(frame, raw.spans, raw.dead)
        return _without(Read(frame, raw.spans, raw.dead), reasons)

    def _explain_lost(self, before: pl.Series, after: pl.Series, reasons: dict[int, str]) -> None:
        wanted = self._schema[before.name]
        for row in _rows_where(after.is_null() & before.is_not_null()):
            found = str(before[row])[:80]
            reasons.setdefault(row, f"column {before.name!r}: wanted {wanted}, found {found!r}")


def _together(entries: Sequence[InputEntry]) -> Iterator[list[InputEntry]]:
    """Entries to read in one call: neighbours of one format. Large ones are read alone, to be copied less."""
    held: list[InputEntry] = []
    for entry in entries:
        large = entry.format == CHUNK or len(entry.payload) >= ALONE_BYTES_MIN
        if held and (large or held[-1].format != entry.format):
            yield held
            held = []
        held.append(entry)
        if large:
            yield held
            held = []
    if held:
        yield held


def _without(read: Read, reasons: dict[int, str]) -> Read:
    """Leave out the rows that have a reason against them; each becomes a dead letter."""
    spans: list[Span] = []
    bad: dict[int, dict[int, str]] = defaultdict(dict)
    entries: dict[int, InputEntry] = {}
    first = 0
    for span in read.spans:
        kept = span.number
        for row in sorted(row for row in reasons if first <= row < first + span.rows):
            number = span.number + row - first
            bad[id(span.entry)][number] = reasons[row]
            entries[id(span.entry)] = span.entry
            if number > kept:
                spans.append(Span(span.entry, kept, number - kept))
            kept = number + 1
        if span.number + span.rows > kept:
            spans.append(Span(span.entry, kept, span.number + span.rows - kept))
        first += span.rows
    dead = list(read.dead)
    for key, numbers in bad.items():
        shown = record_bytes(entries[key], list(numbers))
        dead += [
            dead_letter(entries[key], n, numbers[n], record) for n, record in zip(numbers, shown, strict=True)
        ]
    kept_rows = pl.Series([row not in reasons for row in range(read.frame.height)], dtype=pl.Boolean)
    return Read(read.frame.filter(kept_rows), spans, dead)


def _rows_where(mask: pl.Series) -> list[int]:
    return cast("list[int]", mask.arg_true().to_list())


def _instance(dtype: pl.DataType | type[pl.DataType]) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype


def _lengths(spans: Sequence[Span]) -> tuple[tuple[int, int], ...]:
    found: dict[int, int] = {}
    for span in spans:
        found[span.entry.partition] = found.get(span.entry.partition, 0) + span.rows
    return tuple(found.items())


def _partitions(spans: Sequence[Span]) -> pl.Series:
    parts = [constant(PARTITION, partition, rows, pl.UInt16()) for partition, rows in _lengths(spans)]
    return eager.joined(parts) if parts else pl.Series(PARTITION, [], dtype=pl.UInt16)


def _offsets(spans: Sequence[Span]) -> pl.Series:
    parts = [_offset_range(span) for span in spans]
    return eager.joined(parts) if parts else pl.Series(OFFSET, [], dtype=pl.Int64)


def _offset_range(span: Span) -> pl.Series:
    first = span.entry.first_offset + span.number
    return pl.int_range(first, first + span.rows, eager=True).alias(OFFSET)

"""Input as it comes from a log, and what becomes of records that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEAD_LETTER_BYTES_MAX: Final = 4_096
"""How much of a bad record a dead letter keeps."""

DEAD_LETTER_REASON_MAX: Final = 500
"""Longest reason, in characters."""


@dataclass(frozen=True, slots=True)
class InputEntry:
    """Records [first_offset, first_offset + records) of a stream partition, as they were posted.

    `format` is "ndjson", "arrow" (an Arrow IPC stream) or "msgpack" (maps, one after the other).
    A record of NDJSON is a line that holds more than white space. "lines" are text, every line a record; only
    files have them. "chunk" stands for chunks of files that
    have yet to be read, and "end" for the end of a partition's input; they have no payload.
    """

    partition: int
    first_offset: int
    records: int
    format: str
    payload: bytes


CHUNK: Final = "chunk"
END: Final = "end"

UNCOUNTED: Final = -1
"""For `records` of lines that nobody has counted: what has a line of its own, as the reader finds it. The
line reader takes a line for one record or refuses it, so there is nothing to compare with. Read alone."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that cannot be read, and why; `record` holds its first bytes."""

    partition: int
    offset: int
    reason: str
    record: bytes


def dead_letter(entry: InputEntry, number: int, reason: str, record: bytes) -> DeadLetter:
    """The dead letter of the entry's record with that number, counted from 0."""
    first_line = reason.strip().split("\n", 1)[0]
    return DeadLetter(
        entry.partition,
        entry.first_offset + number,
        first_line[:DEAD_LETTER_REASON_MAX],
        record[:DEAD_LETTER_BYTES_MAX],
    )

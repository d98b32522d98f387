"""Batches as a test writes them, as the entries of a source's log.

A DataFrame goes in as an Arrow stream, dicts and NDJSON bytes as lines of JSON, which is what a source
takes, so that a test sees the conversions and the dead letters that a cluster would give.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

import polars as pl

from drizzle_streams.engine.records import InputEntry
from drizzle_streams.errors import BuildError, explain

Records = pl.DataFrame | Sequence[Mapping[str, Any]] | bytes
"""Records of a batch: a DataFrame, a list of dicts, or lines of JSON."""

_Rows = pl.DataFrame | list[bytes]
"""A frame, or lines of JSON: what can be counted and cut."""


class Log:
    """The log of a stream in memory: entries per batch, offsets that count records per partition."""

    def __init__(self, partitions: int) -> None:
        self._offsets = [0] * partitions
        self._dealt = 0
        self._batches: dict[int, list[InputEntry]] = {}

    def append(self, batch: int, records: Records | Mapping[int, Records]) -> None:
        """Make a batch of records: those of each partition, or records dealt out one by one in turn."""
        if isinstance(records, Mapping):
            given = {partition: _rows(some, batch) for partition, some in records.items()}
        else:
            given = self._dealt_out(_rows(records, batch))
        entries: list[InputEntry] = []
        for partition, rows in given.items():
            if not isinstance(partition, int) or not 0 <= partition < len(self._offsets):
                raise BuildError(
                    explain(
                        f"batch {batch}",
                        wanted=f"partitions 0 to {len(self._offsets) - 1} of the stream",
                        found=repr(partition),
                        remedy="Give run(..., stream_partitions=) more of them; a record goes in a list.",
                    )
                )
            entries.extend(self._entry(partition, rows))
        self._batches[batch] = entries

    def entries(self, batch: int, partitions: Sequence[int]) -> list[InputEntry]:
        """What a batch takes from these partitions: the same whenever it is asked for."""
        return [entry for entry in self._batches[batch] if entry.partition in partitions]

    def trim(self, batch: int) -> None:
        """Forget the batches up to and with this one."""
        self._batches = {number: entries for number, entries in self._batches.items() if number > batch}

    def _dealt_out(self, rows: _Rows) -> dict[int, _Rows]:
        partitions = len(self._offsets)
        first, self._dealt = self._dealt, self._dealt + len(rows)
        return {(first + turn) % partitions: rows[turn::partitions] for turn in range(partitions)}

    def _entry(self, partition: int, rows: _Rows) -> list[InputEntry]:
        if not len(rows):
            return []
        first = self._offsets[partition]
        self._offsets[partition] += len(rows)
        if isinstance(rows, pl.DataFrame):
            payload = rows.write_ipc_stream(None, compat_level=pl.CompatLevel.newest()).getvalue()
            return [InputEntry(partition, first, rows.height, "arrow", payload)]
        return [InputEntry(partition, first, len(rows), "ndjson", b"\n".join(rows))]


def _rows(records: Records, batch: int) -> _Rows:
    if isinstance(records, pl.DataFrame):
        return records
    if isinstance(records, bytes):
        return [line for line in records.split(b"\n") if line.strip()]
    if isinstance(records, Sequence) and not isinstance(records, str):
        return [_line(record, batch) for record in records]
    raise _unknown(records, batch)


def _line(record: object, batch: int) -> bytes:
    if not isinstance(record, Mapping):
        raise _unknown(record, batch)
    return json.dumps(dict(record), default=_plain).encode()


def _plain(value: object) -> str:
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value)


def _unknown(found: object, batch: int) -> BuildError:
    return BuildError(
        explain(
            f"batch {batch}",
            wanted="a DataFrame, a list of dicts, lines of JSON as bytes, or {partition: these}",
            found=f"{type(found).__name__} {str(found)[:60]!r}",
            remedy="An empty batch is [].",
        )
    )

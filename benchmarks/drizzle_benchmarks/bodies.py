"""Bodies of posts, ready made: the same events in each format that sources take."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import msgpack
import polars as pl

from drizzle_loadgen.events import Workload

BODIES = 8
"""Different ones, posted in turn."""
START_MS = 1_700_000_000_000
RATE = 100_000
CONTENT_TYPES = {
    "ndjson": "application/x-ndjson",
    "arrow": "application/vnd.apache.arrow.stream",
    "msgpack": "application/msgpack",
}


@dataclass(frozen=True, slots=True)
class Posted:
    """One body and its number of events."""

    body: bytes
    events: int


def bodies(name: str, events: int) -> list[Posted]:
    """Some bodies of so many events each; `name` is a key of `CONTENT_TYPES`."""
    workload = Workload(seed=0, start_ms=START_MS, rate=RATE)
    return [Posted(_body(name, lines), events) for lines in workload.blocks(0, BODIES * events, events)]


def _body(name: str, lines: bytes) -> bytes:
    if name == "ndjson":
        return lines
    if name == "arrow":
        sink = io.BytesIO()
        pl.read_ndjson(lines).write_ipc_stream(sink)
        return sink.getvalue()
    return b"".join(msgpack.packb(json.loads(line)) for line in lines.splitlines())

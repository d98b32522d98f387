"""State as bytes: full, or what has changed since an earlier snapshot.

A snapshot is a list of parts, applied in order; later parts win. Every part carries the batch
and the clock, so that the last part says how far the whole has come: what the clock closes is
left out when restoring, and a window never needs to be written as gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import polars as pl

from drizzle_streams.engine.frames import decode_frame, encode_frame
from drizzle_streams.engine.watermark import Clock, Reading
from drizzle_streams.errors import CorruptError, explain

PART_BYTES: Final = 8 * 1024 * 1024
"""About how large a part may get."""

_VERSION: Final = 1


def encode_parts(batch: int, clock: Clock, frames: Iterable[pl.DataFrame]) -> Iterator[bytes]:
    """Parts of a snapshot at a batch; of the frames, later ones win. At least one part.

    Each is encoded when it is asked for, so that nobody needs to have memory for all of them.
    """
    header = {
        "v": _VERSION,
        "b": batch,
        "w": clock.watermark,
        "c": [[p, reading.highest, reading.silent] for p, reading in clock.readings.items()],
    }
    filled = [frame for frame in frames if frame.height]
    if not filled:
        yield encode_frame(header, None)
    for frame in filled:
        for piece in _pieces(frame):
            yield encode_frame(header, piece)


def decode_parts(
    batch: int, clock: Clock, schema: pl.Schema, parts: Sequence[bytes]
) -> tuple[Clock, list[pl.DataFrame]]:
    """The clock and the frames of a snapshot; `clock` gives the settings.

    Raises `CorruptError` if the parts are not a snapshot of that batch with that schema.
    """
    decoded = [decode_frame(part) for part in parts]
    headers = [_checked(header) for header, _ in decoded]
    if not headers or headers[-1]["b"] != batch:
        found = f"one of batch {headers[-1]['b']}" if headers else "no part"
        raise _damaged(f"a snapshot of batch {batch}", found)
    frames = [frame for _, frame in decoded if frame is not None]
    for frame in frames:
        if frame.schema != schema:
            raise _damaged(f"columns {schema}", str(frame.schema))
    readings = {int(p): Reading(highest, int(silent)) for p, highest, silent in headers[-1]["c"]}
    return replace(clock, readings=readings, watermark=headers[-1]["w"]), frames


def _pieces(frame: pl.DataFrame) -> Iterable[pl.DataFrame]:
    bytes_per_row = max(1, int(frame.estimated_size()) // max(1, frame.height))
    return frame.iter_slices(max(1, PART_BYTES // bytes_per_row))


def _checked(header: dict[str, Any]) -> dict[str, Any]:
    if header.get("v") != _VERSION or not {"b", "w", "c"} <= header.keys():
        raise _damaged(f"a snapshot part of version {_VERSION}", f"one of version {header.get('v')!r}")
    return header


def _damaged(wanted: str, found: str) -> CorruptError:
    remedy = "Restore from another checkpoint, or restart the job without one."
    return CorruptError(explain("snapshot", wanted=wanted, found=found[:300], remedy=remedy))

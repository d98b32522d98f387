"""State as bytes: full, or what has changed since an earlier snapshot.

A snapshot is a list of parts, applied in order; later parts win. Every part carries the batch
and the clock, so that the last part says how far the whole has come: what the clock closes is
left out when restoring, and a window never needs to be written as gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import polars as pl

from drizzle_streams.engine.frames import decode_frame, encode_frame
from drizzle_streams.engine.state import Layout, StageState, newest_groups, state_of
from drizzle_streams.engine.watermark import Clock, Reading
from drizzle_streams.errors import CorruptError, explain

PART_BYTES: Final = 8 * 1024 * 1024
"""About how large a part may get."""

_VERSION: Final = 1


def snapshot_since(state: StageState, batch: int | None) -> tuple[bool, list[bytes]]:
    """(is_full, parts): the parts to append to the snapshot taken at `batch`, or a full snapshot.

    Full when `batch` is None, when what changed since is not known any more, or when the
    changes are not smaller than the state. There is at least one part: it holds the clock.
    """
    frames = None if batch is None else state.changes.since(batch)
    if frames is not None and sum(frame.height for frame in frames) <= sum(run.rows for run in state.runs):
        groups = state.layout.plan.groups
        return False, _parts(state, [newest_groups(frames[::-1], groups)] if frames else [])
    return True, _parts(state, [run.frame for run in reversed(state.runs)])


def restore(layout: Layout, partitions: Sequence[int], batch: int, parts: Sequence[bytes]) -> StageState:
    """The state of `partitions` at `batch`; raises `CorruptError` if the parts are no snapshot of it."""
    decoded = [decode_frame(part) for part in parts]
    headers = [_checked(header) for header, _ in decoded]
    if not headers or headers[-1]["b"] != batch:
        found = f"one of batch {headers[-1]['b']}" if headers else "no part"
        raise _damaged(f"a snapshot of batch {batch}", found)
    spec = layout.plan.spec
    readings = {int(p): Reading(highest, int(silent)) for p, highest, silent in headers[-1]["c"]}
    clock = Clock(spec.max_delay_ms, spec.idle_batches, readings, headers[-1]["w"])
    frames = [frame for _, frame in decoded if frame is not None]
    if frames and frames[0].schema != layout.plan.no_groups.schema:
        raise _damaged(f"columns {layout.plan.no_groups.schema}", str(frames[0].schema))
    groups = newest_groups(frames[::-1], layout.plan.groups) if frames else layout.plan.no_groups
    return state_of(layout, partitions, batch, clock, groups)


def _parts(state: StageState, frames: Iterable[pl.DataFrame]) -> list[bytes]:
    clock = state.clock
    header = {
        "v": _VERSION,
        "b": state.version,
        "w": clock.watermark,
        "c": [[p, reading.highest, reading.silent] for p, reading in clock.readings.items()],
    }
    parts = [encode_frame(header, piece) for frame in frames for piece in _pieces(frame)]
    return parts or [encode_frame(header, None)]


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

"""State from the parts of a snapshot; what is in order already is not sorted again.

A full snapshot is the runs of a state, oldest first, each cut into parts; after it come changes, small and
newest last. So neighbours that follow on each other become the run that they were, and a state may have
several: newer groups hide older ones, as ever. Only what is small beside the runs before it is made one,
or every batch would look through as many runs as there are changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import polars as pl

from drizzle_streams.engine.columns import WINDOW_START
from drizzle_streams.engine.layout import Layout
from drizzle_streams.engine.runs import Run, newest_groups, run_of
from drizzle_streams.engine.snapshot import decode_parts
from drizzle_streams.engine.state import StageState, counts_of, empty_state, windows_of
from drizzle_streams.engine.windows import SLOT

APART_TIMES = 2
"""A run that has so many times the groups of all newer ones together stays a run of its own."""


def restore(layout: Layout, partitions: Sequence[int], batch: int, parts: Sequence[bytes]) -> StageState:
    """The state of `partitions` at `batch`; raises `CorruptError` if the parts are no snapshot of it."""
    clock, frames = decode_parts(batch, layout.new_clock(), layout.plan.no_groups.schema, parts)
    wanted, bound = layout.owned(partitions), layout.late_bound(clock)
    if bound is not None:
        wanted &= pl.col(WINDOW_START) >= bound
    stretches = [_only(pl.concat(stretch), wanted) for stretch in _stretches(frames)]
    filled = [stretch for stretch in reversed(stretches) if stretch.height]
    runs = tuple(_run(frame, layout) for frame in _gathered(filled, layout.plan.groups))
    blank = replace(empty_state(layout, partitions, batch), clock=clock)
    return replace(blank, runs=runs, counts=counts_of(runs, layout))


def _stretches(frames: Sequence[pl.DataFrame]) -> Iterator[list[pl.DataFrame]]:
    """Frames that are in order of their slots, one behind the other; a slot does not go on in the next."""
    held: list[pl.DataFrame] = []
    for frame in map(_in_order, frames):
        if held and held[-1].get_column(SLOT)[-1] >= frame.get_column(SLOT)[0]:
            yield held
            held = []
        held.append(frame)
    if held:
        yield held


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    return frame if frame.get_column(SLOT).is_sorted() else frame.sort(SLOT)


def _only(frame: pl.DataFrame, wanted: pl.Expr) -> pl.DataFrame:
    """The rows that are wanted; mostly all of them, and then nothing is copied."""
    mask = frame.select(wanted).to_series()
    return frame if mask.all() else frame.filter(mask)


def _gathered(frames: Sequence[pl.DataFrame], groups: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Frames, newest first, as fewer: none is small beside all that are newer."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        if held and frame.height >= APART_TIMES * sum(one.height for one in held):
            yield _merged(held, groups)
            held = []
        held.append(frame)
    if held:
        yield _merged(held, groups)


def _merged(frames: Sequence[pl.DataFrame], groups: Sequence[str]) -> pl.DataFrame:
    return frames[0] if len(frames) == 1 else newest_groups(frames, groups)


def _run(frame: pl.DataFrame, layout: Layout) -> Run:
    return run_of(frame, windows_of(frame, layout))

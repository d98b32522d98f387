"""The marks of a batch: how far its rows show event time to have come, partition by partition."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from drizzle_streams.engine import eager
from drizzle_streams.engine.columns import PARTITION
from drizzle_streams.engine.series import largest
from drizzle_streams.engine.watermark import Marks
from drizzle_streams.engine.windows import event_time_ms


def marks_of(
    frame: pl.DataFrame,
    time: str | None,
    lengths: Sequence[tuple[int, int]] | None,
    partitions: Sequence[int],
) -> Marks:
    """The highest event time of each partition; `lengths` if the rows of each are known to be neighbours."""
    highest: dict[int, int | None] = dict.fromkeys(sorted(partitions))
    if time is not None and frame.height:
        if lengths is None:
            expr = event_time_ms(time, frame.schema[time])
            highest.update(frame.group_by(PARTITION).agg(expr.max()).iter_rows())
        else:
            times = frame.get_column(time)
            if times.dtype != pl.Int64:
                times = eager.column(frame, event_time_ms(time, times.dtype))
            first = 0
            for partition, rows in lengths:
                highest[partition] = largest(times.slice(first, rows))
                first += rows
    return tuple(sorted(highest.items()))

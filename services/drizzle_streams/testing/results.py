"""What a run gave: the rows a store would hold at the end, and what came batch by batch."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from drizzle_streams.engine.accumulators import RECORDS
from drizzle_streams.engine.columns import is_reserved
from drizzle_streams.engine.records import DeadLetter


@dataclass(frozen=True)
class BatchResult:
    """What one batch gave. `at_ms` is its virtual time: when it was sealed, from the start of the run.

    `late` holds records that came after their window closed, as groups of their own: columns as in `rows`
    before any step behind the aggregation, and `records`, how many each stands for, in sum `late_records`.
    """

    batch: int
    at_ms: float
    rows: pl.DataFrame
    late: pl.DataFrame
    late_records: int
    dead_letters: tuple[DeadLetter, ...]


@dataclass(frozen=True)
class Result:
    """What a run gave.

    `rows`: what a store would hold at the end: of rows with the same keys (and window) the last one, sorted
    by window and keys; for a job without keys, all rows in order.
    `batches`: what came batch by batch, updates included.
    `late`, `late_records`, `dead_letters`: of all batches.
    `written_again`: rows that a recovery wrote a second time, and the sink skipped.
    """

    rows: pl.DataFrame
    batches: tuple[BatchResult, ...]
    late: pl.DataFrame
    late_records: int
    dead_letters: tuple[DeadLetter, ...]
    written_again: int


def late_groups(late: pl.DataFrame) -> pl.DataFrame:
    """Late groups as a person reads them: the engine's count as `records`, its other columns left out."""
    kept = [name for name in late.columns if not is_reserved(name) and name != "records"]
    return late.select(*kept, pl.col(RECORDS).alias("records"))


def together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Frames of one or several stages as one."""
    filled = [frame for frame in frames if frame.height]
    return pl.concat(filled, how="diagonal_relaxed") if filled else pl.DataFrame()

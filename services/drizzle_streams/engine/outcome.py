"""What a batch of a stage gives, and what is seen of it on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import polars as pl

from drizzle_streams.engine.accumulators import RECORDS
from drizzle_streams.engine.closing import Closed
from drizzle_streams.engine.frames import Block
from drizzle_streams.engine.records import DeadLetter
from drizzle_streams.engine.series import total
from drizzle_streams.model.ids import StageId
from drizzle_streams.model.replanning import FilterSeen, StageChoice, StageSeen


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a batch of a stage gives.

    `blocks`: for the next stage, if there is one. `rows`: for the sink, if there is one, with
    `KEY_GROUP` (stages that merge) or `PARTITION` (stages that read) beside the user's columns.
    `late`: groups of rows that came after their window closed, or had no event time, as
    results of their own with `RECORDS`, the number of records each stands for, in sum `late_records`.
    """

    blocks: Block | None
    rows: pl.DataFrame | None
    late: pl.DataFrame | None = None
    late_records: int = 0
    dead_letters: tuple[DeadLetter, ...] = ()
    records_in: int = 0
    rows_out: int = 0
    seen: StageSeen | None = None

    def with_late(self, late: pl.DataFrame) -> StageOutput:
        """The same with late groups, before those that it has."""
        records = self.late_records + total(late.get_column(RECORDS))
        frame = late if self.late is None else pl.concat([late, self.late], how="diagonal_relaxed")
        return replace(self, late=frame, late_records=records)


@dataclass(slots=True)
class Ran:
    """How a batch is run, and what is seen of it on the way. `closed` is what was there to aggregate."""

    choice: StageChoice | None
    order: list[int] | None
    filters: list[FilterSeen] = field(default_factory=list[FilterSeen])
    merged_rows: int = 0
    merged_groups: int = 0
    closed: Closed | None = None

    @property
    def partial(self) -> bool:
        """Whether to aggregate before the shuffle."""
        return self.choice is None or self.choice.partial

    def seen(self, stage: StageId, side: tuple[int, int]) -> StageSeen:
        """What the batch was like: counts that were there anyway.

        `side`: rows and bytes of tables held whole. Where there was nothing to aggregate, nothing was
        left unaggregated.
        """
        closed = self.closed
        return StageSeen(
            stage=stage,
            batches=1,
            partial=closed is None or RECORDS in closed.frame.columns,
            rows=0 if closed is None else closed.rows,
            shuffled=0 if closed is None else closed.frame.height,
            merged_rows=self.merged_rows,
            merged_groups=self.merged_groups,
            filters=tuple(self.filters),
            side_rows=side[0],
            side_bytes=side[1],
        )

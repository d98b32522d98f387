"""What may differ from one group to the next in how a stage is computed, and what was seen of it.

A choice never changes results, only what they cost; so replay may run under another one than the
first run did, and still all workers run a batch under the same one. What is decided, and why, is
`core.replanning`; what it means is `engine.execute`. See docs/design/replanning.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from drizzle_streams.model.ids import BatchId, StageId

JOIN_BROADCAST_BYTES_MAX: Final = 8 << 20
"""Bytes of a joined table that a worker may hold beyond its share; a table above it may be shuffled."""


@dataclass(frozen=True, slots=True)
class StageChoice:
    """How a stage runs. `partial`: aggregate before the shuffle; `filters`: their steps, in the order to run.

    `broadcast`: the join that may be shuffled is made here, with the whole table, and not by the stage
    behind this one. A stage without a choice, or with None, runs as it was compiled.
    """

    stage: StageId
    partial: bool = True
    filters: tuple[int, ...] = ()
    broadcast: bool | None = None


@dataclass(frozen=True, slots=True)
class ChosenFrom:
    """These choices hold from batch `first` on, until others do."""

    first: BatchId
    choices: tuple[StageChoice, ...]


@dataclass(frozen=True, slots=True)
class FilterSeen:
    """A filter that may change places: its step, the run of neighbours it is in, rows before and after it."""

    step: int
    run: int
    rows_in: int
    rows_out: int


@dataclass(frozen=True, slots=True)
class StageSeen:
    """What some batches of a stage were like, summed up over them.

    `rows` reached the shuffle and `shuffled` went through it, fewer where `partial` aggregated them
    first. `merged_rows` came unaggregated into a stage that merges, as `merged_groups` of them.
    `side_rows`, `side_bytes`: of the static tables that every worker holds whole for the stage. `join_rows`,
    `join_bytes`: of the table of its join that may be shuffled, and `broadcast`, whether it was not; where
    there is no such join, or the job says how it is made, zero and None.
    """

    stage: StageId
    batches: int = 0
    partial: bool = True
    rows: int = 0
    shuffled: int = 0
    merged_rows: int = 0
    merged_groups: int = 0
    filters: tuple[FilterSeen, ...] = ()
    side_rows: int = 0
    side_bytes: int = 0
    join_rows: int = 0
    join_bytes: int = 0
    broadcast: bool | None = None


def choice_at(chosen: tuple[ChosenFrom, ...], batch: BatchId, stage: StageId) -> StageChoice | None:
    """The choice that a stage runs a batch under; None: as compiled. `chosen` is in order."""
    held = next((one for one in reversed(chosen) if one.first <= batch), None)
    return None if held is None else next((one for one in held.choices if one.stage == stage), None)


def added(before: StageSeen | None, seen: StageSeen) -> StageSeen:
    """Two observations of a stage as one; one under another choice, or of another shape, starts afresh."""
    if before is None or before.partial != seen.partial or not _alike(before, seen):
        return seen
    return StageSeen(
        seen.stage,
        before.batches + seen.batches,
        seen.partial,
        before.rows + seen.rows,
        before.shuffled + seen.shuffled,
        before.merged_rows + seen.merged_rows,
        before.merged_groups + seen.merged_groups,
        tuple(
            FilterSeen(b.step, b.run, a.rows_in + b.rows_in, a.rows_out + b.rows_out)
            for a, b in zip(before.filters, seen.filters, strict=True)
        ),
        seen.side_rows,
        seen.side_bytes,
        seen.join_rows,
        seen.join_bytes,
        seen.broadcast,
    )


def _alike(before: StageSeen, seen: StageSeen) -> bool:
    """Whether the join was made in the same stage and filters ran in the same order: rows depend on both."""
    same = [one.step for one in before.filters] == [one.step for one in seen.filters]
    return same and before.broadcast is seen.broadcast

"""Re-planning between groups: what was seen of the last batches decides how the next ones are computed.

Asked once per group, when it is launched; the choices ride in its launch message, so all workers
agree from the same batch on, and in the ledger's `GroupRecord`, so a new coordinator goes on with
them. `chosen` goes back to the newest checkpoint: a batch that is replayed runs as it ran first.

Rules, each with a gap between doing and undoing, and patience that doubles with every change:
- Aggregating before the shuffle stops where it leaves more than `OFF_ABOVE` of the rows, and comes
  back where less than `ON_BELOW` of the rows would be left.
- Neighbouring filters that cannot fail go by what they let through, the least first, where that
  saves a share of `GAIN_MIN` of their work.
- A table that may be shuffled is broadcast where a worker would hold no more of it beyond its share
  than `JOIN_BROADCAST_BYTES_MAX`: on one worker always, and the less the more workers there are.

The number of partitions of a shuffle changes with the workers, and at boundaries only: see
`core.resizing`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from operator import mul

from drizzle_streams.core.story import Story
from drizzle_streams.model.ids import NO_BATCH, BatchId, StageId
from drizzle_streams.model.job import JobSpec, Scheduling
from drizzle_streams.model.replanning import (
    JOIN_BROADCAST_BYTES_MAX,
    ChosenFrom,
    FilterSeen,
    StageChoice,
    StageSeen,
    added,
)
from drizzle_streams.protocol.records import GroupRecord

OFF_ABOVE = 0.9
"""Rows left by partial aggregation, as a share: above it the aggregation costs more than it saves."""
ON_BELOW = 0.7
"""Share of rows that aggregation behind the shuffle leaves; below it it would have paid before it."""
GAIN_MIN = 0.2
"""Share of the filters' work that another order has to save."""
BROADCAST_AGAIN = 0.8
"""Share of `JOIN_BROADCAST_BYTES_MAX` below which a shuffled table is broadcast."""
BATCHES_MIN = 40
"""Batches (of any worker) that must have been seen under a choice before it is judged."""
ROWS_MIN = 1_000
"""Rows that must have been seen, too: a share of few rows says nothing."""
PATIENCE_MAX = 64
"""Changes of a stage each double what must be seen before the next, up to so many times as much."""
CHOSEN_MAX = 32
"""Sets of choices since the older checkpoint; at the bound nothing changes until one is committed."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a stage runs as it does: what is decided, how, and the measured figure behind it."""

    what: str
    how: str
    why: str


@dataclass(slots=True)
class Replanning:
    """The choices for one job."""

    spec: JobSpec
    story: Story
    chosen: tuple[ChosenFrom, ...] = ()
    seen: dict[StageId, StageSeen] = field(default_factory=dict[StageId, StageSeen])
    changes: dict[StageId, int] = field(default_factory=dict[StageId, int])
    launched: BatchId = NO_BATCH
    workers: int = 1

    @property
    def replans(self) -> int:
        """How often the plan of a stage was changed."""
        return sum(self.changes.values())

    def restore(self, group: GroupRecord) -> None:
        """A new coordinator goes on with the choices of the newest group."""
        self.chosen, self.launched = group.chosen, group.last

    def heard(self, reports: tuple[StageSeen, ...]) -> None:
        """What some batches of a worker were like."""
        if self.spec.replanning:
            for seen in reports:
                self.seen[seen.stage] = added(self.seen.get(seen.stage), seen)

    def planned(self, group: GroupRecord, committed: BatchId, now: float, workers: int) -> GroupRecord:
        """The group that is due on so many workers, with the choices that hold from its first batch on."""
        self.workers = max(1, workers)
        if not self.spec.replanning or self.spec.scheduling is not Scheduling.GROUP:
            return group
        newest = self.chosen[-1] if self.chosen else None
        present = {choice.stage: choice for choice in (newest.choices if newest else ())}
        # Of what a cut took back, somebody who has not heard of it may have begun: that stays as it was.
        free = len(self.chosen) < CHOSEN_MAX and self.launched < group.first
        self.launched = max(self.launched, group.last)
        wanted = {**present, **(self._changed(present, now) if free else {})}
        if wanted != present:
            self.chosen += (ChosenFrom(group.first, tuple(wanted[stage] for stage in sorted(wanted))),)
        self.chosen = _since(self.chosen, committed)
        return replace(group, chosen=self.chosen)

    def _changed(self, present: dict[StageId, StageChoice], now: float) -> dict[StageId, StageChoice]:
        found: dict[StageId, StageChoice] = {}
        for stage in self.spec.stages:
            before = present.get(stage.stage, StageChoice(stage.stage))
            after = replace(
                before,
                partial=self._partial(before),
                filters=self._filters(before),
                broadcast=self._broadcast(before),
            )
            if after != before and self._patient(stage.stage):
                found[stage.stage] = after
                self.changes[stage.stage] = self.changes.get(stage.stage, 0) + 1
                text = f"stage {stage.stage}: " + "; ".join(
                    f"{r.what} {r.how}, {r.why}" for r in self.reasons(after)
                )
                self.story.tell(now, "Replanned", text, self.spec.job)
                self.seen.pop(stage.stage, None)
                for below in self.spec.downstream(stage.stage):
                    self.seen.pop(below.stage, None)
        return found

    def _patient(self, stage: StageId) -> bool:
        """Whether enough was seen since the last change."""
        seen = self.seen.get(stage)
        wanted = BATCHES_MIN * min(PATIENCE_MAX, 2 ** self.changes.get(stage, 0))
        return seen is not None and seen.batches >= wanted

    # --- the rules ------------------------------------------------------------------------

    def left(self, stage: StageId) -> float | None:
        """The share of rows that aggregation leaves, before the shuffle or behind it; None: not known."""
        seen = self.seen.get(stage)
        if seen is None:
            return None
        if seen.partial:
            return seen.shuffled / seen.rows if seen.rows >= ROWS_MIN else None
        below = [self.seen[one.stage] for one in self.spec.downstream(stage) if one.stage in self.seen]
        rows = sum(one.merged_rows for one in below)
        return sum(one.merged_groups for one in below) / rows if rows >= ROWS_MIN else None

    def _partial(self, before: StageChoice) -> bool:
        left = self.left(before.stage)
        if left is None or not self._aggregates(before.stage):
            return before.partial
        return left <= OFF_ABOVE if before.partial else left < ON_BELOW

    def _aggregates(self, stage: StageId) -> bool:
        """Whether an aggregation follows; behind a stage that joins it is that one's."""
        return any(below.stateful for below in self.spec.downstream(stage))

    def _broadcast(self, before: StageChoice) -> bool | None:
        """Where the join is made; as it is while the choice was not seen at work."""
        seen = self.seen.get(before.stage)
        if seen is None or not seen.join_bytes:
            return before.broadcast
        beyond = _beyond_share(seen.join_bytes, self.workers)
        bound = JOIN_BROADCAST_BYTES_MAX * (1.0 if seen.broadcast else BROADCAST_AGAIN)
        wanted = beyond <= bound
        return before.broadcast if wanted is seen.broadcast else wanted

    def _filters(self, before: StageChoice) -> tuple[int, ...]:
        seen = self.seen.get(before.stage)
        if seen is None or not seen.filters:
            return before.filters
        order: list[int] = []
        for run in dict.fromkeys(one.run for one in seen.filters):
            order += _order([one for one in seen.filters if one.run == run])
        changed = order != [one.step for one in seen.filters]
        return tuple(order) if changed else before.filters

    # --- for people -----------------------------------------------------------------------

    def choice(self, stage: StageId) -> StageChoice:
        """How the newest group runs a stage."""
        newest = self.chosen[-1].choices if self.chosen else ()
        return next((one for one in newest if one.stage == stage), StageChoice(stage))

    def reasons(self, choice: StageChoice) -> tuple[Reason, ...]:
        """Why a stage runs so: everything that can be decided about it, with its figures."""
        stage, seen = self.spec.stage(choice.stage), self.seen.get(choice.stage)
        found: list[Reason] = []
        if self._aggregates(choice.stage):
            left = self.left(choice.stage)
            why = "not measured yet" if left is None else f"it leaves {left:.0%} of the rows"
            how = "before the shuffle and after it" if choice.partial else "only after the shuffle"
            found.append(Reason("aggregates", how, why))
        if seen is not None and seen.filters:
            let = ", ".join(f"{one.step}: {_share(one):.0%}" for one in seen.filters)
            order = choice.filters or tuple(one.step for one in seen.filters)
            found.append(Reason("filters", f"in the order {list(order)}", f"each lets through {let}"))
        if seen is not None and seen.side_rows:
            size = f"{seen.side_rows:,} rows, {seen.side_bytes:,} bytes"
            found.append(
                Reason("join", "broadcast", f"{size}; so small a table always is, or the job says so")
            )
        if seen is not None and seen.join_bytes:
            found.append(self._join_reason(seen, choice))
        if stage.stream is None:
            least = stage.partitions_least
            why = f"by the number of workers; {least} at least" if least else "the job says so"
            found.append(Reason("partitions", str(stage.partitions), why))
        return tuple(found)

    def _join_reason(self, seen: StageSeen, choice: StageChoice) -> Reason:
        size = f"{seen.join_rows:,} rows, {seen.join_bytes:,} bytes"
        beyond = _beyond_share(seen.join_bytes, self.workers)
        why = (
            f"{size}: whole, each of {self.workers} workers would hold {beyond:,} bytes beyond its share; "
            f"{JOIN_BROADCAST_BYTES_MAX:,} may be"
            if self.workers > 1
            else f"{size}: the only worker holds the whole table anyway"
        )
        broadcast = seen.broadcast if choice.broadcast is None else choice.broadcast
        return Reason("join", "broadcast" if broadcast else "shuffled", why)


def _beyond_share(table_bytes: int, workers: int) -> int:
    """Bytes that a worker holds of a whole table beyond what it would of one spread over all."""
    return table_bytes - table_bytes // workers


def _since(chosen: tuple[ChosenFrom, ...], committed: BatchId) -> tuple[ChosenFrom, ...]:
    """Without what only batches behind the checkpoint ran under."""
    behind = [number for number, one in enumerate(chosen) if one.first <= committed + 1]
    return chosen[behind[-1] :] if behind else chosen


def _order(run: Sequence[FilterSeen]) -> list[int]:
    """The order in which neighbouring filters should run: as they do, unless another saves enough."""
    present = [one.step for one in run]
    if any(one.rows_in < ROWS_MIN // 10 for one in run) or run[0].rows_in < ROWS_MIN:
        return present
    best = sorted(run, key=_share)
    saves = 1.0 - _work(best) / _work(run)
    return [one.step for one in best] if saves >= GAIN_MIN else present


def _work(run: Sequence[FilterSeen]) -> float:
    """Rows looked at by filters in that order, per row that comes to the first."""
    return math.fsum(accumulate((1.0, *(_share(one) for one in run[:-1])), mul))


def _share(one: FilterSeen) -> float:
    return one.rows_out / one.rows_in if one.rows_in else 1.0

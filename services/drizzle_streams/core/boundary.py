"""Group boundaries on demand: the running group is cut so that owners may change (Drizzle, section 3.3).

A planned move (a worker joined, a worker leaves, the plan changes) need not wait for the end of
the group, and it need not replay anything. It takes three steps:

1. *Cut*: the group ends with the highest batch that has begun anywhere. Workers and sources take
   back what was launched beyond it; owners store their state when they have done it.
2. *Stand*: everybody stands at that batch, it is done, and its checkpoint is committed.
3. *Move*: a new generation is planned from just that checkpoint, so that moved partitions begin with
   the batch after it, like those that stay. State comes from the former owner, or from the checkpoint.

A cut that comes late hurts nobody: who has gone further says so, and the cut follows. If nothing
moves for `STAND_S_MAX` the boundary is given up, groups go on, and it is tried again later. What is
lost without notice does not come this way: a recovery begins at once, at whatever batch it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from drizzle_streams.core.planner import interval_of
from drizzle_streams.core.progress import Progress
from drizzle_streams.core.window import in_flight_max
from drizzle_streams.model.ids import BatchId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.protocol.records import GroupRecord

CUT_NOTICE_MS = 20.0
"""What a cut takes to reach everybody: a batch that is due within it counts as begun."""

CUT_GAIN_BATCHES = 2
"""A group's own end that is nearer than this is waited for: a cut would gain less than it costs."""

STAND_S_MAX = 1.0
"""A boundary towards which nothing has moved for so long is given up."""

RETRY_S = 1.0
"""How long after a boundary that was given up the next one is tried."""


@dataclass(slots=True)
class Boundary:
    """A boundary on its way: why, at which batch, since when, and when something last moved towards it."""

    reason: str
    batch: BatchId
    since: float
    moved_at: float
    stands: tuple[BatchId, BatchId]

    @property
    def deadline(self) -> float:
        """When it is given up if nothing moves."""
        return self.moved_at + STAND_S_MAX

    def note(self, progress: Progress, now: float) -> None:
        """Look whether something moved."""
        stands = _stands(progress)
        if stands != self.stands:
            self.stands, self.moved_at = stands, now


def boundary_for(reason: str, batch: BatchId, progress: Progress, now: float) -> Boundary:
    """A boundary that begins now."""
    return Boundary(reason, batch, now, now, _stands(progress))


def cut_at(spec: JobSpec, group: GroupRecord, progress: Progress, now_ms: float) -> BatchId:
    """Where the running group can end soonest: the last batch that has begun, or the group's own end."""
    passed_ms = now_ms + CUT_NOTICE_MS - group.starts_at_ms
    due = group.first - 1 + math.floor(passed_ms / interval_of(spec, group))
    # A source that has no credit is behind its schedule, by as much as its slowest reader.
    read = [min(progress.held[stage.stage]) for stage in spec.stages if stage.stream is not None]
    window = in_flight_max(spec.batch_interval_ms)
    begun = min([due, *(batch + window for batch in read)])
    last = max(begun, furthest(progress))
    return group.last if group.last - last < CUT_GAIN_BATCHES else BatchId(last)


def furthest(progress: Progress) -> BatchId:
    """The last batch that some present owner has done."""
    return progress.furthest(progress.held)


def cut_group(group: GroupRecord, last: BatchId, interval_ms: float) -> GroupRecord:
    """The same group, ending with `last`, which may lie before its first batch: groups are pipelined."""
    first = BatchId(min(group.first, last))
    starts_at_ms = group.starts_at_ms - (group.first - first) * interval_ms
    return replace(group, first=first, last=last, starts_at_ms=starts_at_ms)


def _stands(progress: Progress) -> tuple[BatchId, BatchId]:
    return progress.frontier, progress.held_by_all

"""When the next group starts and how long it is: the coordinator's whole work in steady state.

One launch message per node and group, described by ranges, so neither its size nor its cost
grows with the group (section 3.1). Groups are pipelined: the next one is planned, persisted
and sent while the current one runs, so there is no stall at the boundary. A job may do without
(`pipelined`), to show what that is worth.
"""

from __future__ import annotations

import math

from drizzle_streams.model.ids import BatchId, GroupId
from drizzle_streams.model.job import JobSpec, Scheduling
from drizzle_streams.protocol.records import GroupRecord

PLAN_AHEAD_MS = 300.0
"""A group is planned this long before the one before it ends: covers a slow ledger and a slow link."""


def next_group(
    spec: JobSpec, last: GroupRecord | None, frontier: BatchId, now_ms: float
) -> GroupRecord | None:
    """The group to launch now, or None while enough is launched.

    Its first batch is sealed one interval after `starts_at_ms`. A job that fell behind does not
    run after its schedule: the next batch takes what has piled up.
    """
    if last is None:
        return GroupRecord(GroupId(0), BatchId(0), BatchId(_size(spec) - 1), now_ms)
    if last.last - frontier > math.ceil(plan_ahead_ms(spec) / interval_of(spec, last)):
        return None
    interval = interval_of(spec, last)
    ends_at_ms = last.starts_at_ms + (last.last - last.first + 1) * interval
    starts_at_ms = max(ends_at_ms, now_ms - interval)
    first = BatchId(last.last + 1)
    return GroupRecord(GroupId(last.group + 1), first, BatchId(first + _size(spec) - 1), starts_at_ms)


def _size(spec: JobSpec) -> int:
    return spec.group_size if spec.scheduling is Scheduling.GROUP else 1


def plan_ahead_ms(spec: JobSpec) -> float:
    """How long before a group ends the next one is planned: not at all where nobody looks ahead."""
    return PLAN_AHEAD_MS if spec.scheduling is Scheduling.GROUP and spec.pipelined else 0.0


def interval_of(spec: JobSpec, group: GroupRecord | None) -> float:
    """Milliseconds from one batch of a group to the next."""
    return spec.batch_interval_ms if group is None else group.interval_ms or spec.batch_interval_ms

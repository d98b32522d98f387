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

SEAL_AFTER_MS = 1.0
"""Batches end so long after full multiples of their interval, in which what was due by then is on its way:
a window that ends at such a multiple is whole in the batch that ends next, whenever the job began. Sources
wait a little longer for posts that are coming in (`POSTS_AWAITED_MS` of `core.source_job`)."""
PLAN_AHEAD_MS = 300.0
"""A group is planned this long before the one before it ends: covers a slow ledger and a slow link."""


def next_group(
    spec: JobSpec, last: GroupRecord | None, frontier: BatchId, now_ms: float
) -> GroupRecord | None:
    """The group to launch now, or None while enough is launched.

    Its first batch is sealed one interval after `starts_at_ms`. A job that fell behind does not
    run after its schedule: the next batch takes what has piled up, and those after it end when others do.
    """
    if last is None:
        return GroupRecord(GroupId(0), BatchId(0), BatchId(_size(spec) - 1), _in_step(spec, now_ms))
    interval = interval_of(spec, last)
    if frontier < launches_next(spec, last.last, interval):
        return None
    ends_at_ms = last.starts_at_ms + (last.last - last.first + 1) * interval
    starts_at_ms = max(ends_at_ms, _in_step(spec, now_ms - interval))
    first = BatchId(last.last + 1)
    return GroupRecord(GroupId(last.group + 1), first, BatchId(first + _size(spec) - 1), starts_at_ms)


def launches_next(spec: JobSpec, last: BatchId, interval_ms: float) -> BatchId:
    """The batch whose end everywhere has the group launched that follows the one ending with `last`."""
    return BatchId(last - math.ceil(plan_ahead_ms(spec) / interval_ms))


def _in_step(spec: JobSpec, at_ms: float) -> float:
    """The last moment up to `at_ms` at which a batch may end; any, where the interval is being chosen."""
    if spec.interval_auto:
        return at_ms
    interval = spec.batch_interval_ms
    after = min(SEAL_AFTER_MS, interval / 4)
    return math.floor((at_ms - after) / interval) * interval + after


def _size(spec: JobSpec) -> int:
    return spec.group_size if spec.scheduling is Scheduling.GROUP else 1


def plan_ahead_ms(spec: JobSpec) -> float:
    """How long before a group ends the next one is planned: not at all where nobody looks ahead."""
    return PLAN_AHEAD_MS if spec.scheduling is Scheduling.GROUP and spec.pipelined else 0.0


def interval_of(spec: JobSpec, group: GroupRecord | None) -> float:
    """Milliseconds from one batch of a group to the next."""
    return spec.batch_interval_ms if group is None else group.interval_ms or spec.batch_interval_ms

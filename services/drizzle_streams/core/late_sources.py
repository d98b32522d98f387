"""Sources that join while a job runs: their partitions are in the plan from a given batch on.

A new generation takes them in. Their partitions get the next numbers of the stages that read posted
streams, and a *first batch* behind everything that was ever launched. So nobody can have computed a
batch without them of which they are a part, cut groups included, and batches before it never contain
them: not in the first run, and not in a replay that falls back behind the join. From there on they are
partitions like any other. What a source took before it joined waits in its log and is read first,
whatever the job's `start_from`: it was posted while the job ran.

Streams of files are left as they are: their chunks are dealt out over the partitions that they had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from drizzle_streams.model.ids import BatchId, PartitionId, SourceId, StageId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.placement import StreamLayout

FirstBatches = Mapping[tuple[StageId, PartitionId], BatchId]
"""(stage, partition) -> the first batch that it is part of, for those that joined later than the job."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A job with more partitions than before, and whose logs they are."""

    spec: JobSpec
    layouts: tuple[StreamLayout, ...]
    newcomers: tuple[SourceId, ...]


def unread(
    spec: JobSpec, layouts: Sequence[StreamLayout], sources: Sequence[tuple[SourceId, int]]
) -> tuple[tuple[SourceId, int], ...]:
    """The sources (with their partitions per stream) that the job could read and does not."""
    posted = _posted(spec)
    known = {owner for layout in layouts if layout.stream in posted for owner in layout.owners}
    return tuple((source, size) for source, size in sources if posted and source not in known)


def take_in(
    spec: JobSpec,
    layouts: Sequence[StreamLayout],
    sources: Sequence[tuple[SourceId, int]],
    launched: BatchId,
) -> Joined | None:
    """The job with what is unread, from the batch after everything `launched`; None if there is nothing."""
    new = unread(spec, layouts, sources)
    if not new:
        return None
    posted = _posted(spec)
    owners = tuple(source for source, size in new for _ in range(size))
    grown = tuple(_grown(each, owners, launched) if each.stream in posted else each for each in layouts)
    partitions = {layout.stream: len(layout.owners) for layout in grown}
    stages = tuple(
        replace(stage, partitions=partitions[stage.stream]) if stage.stream in posted else stage
        for stage in spec.stages
    )
    return Joined(replace(spec, stages=stages), grown, tuple(source for source, _ in new))


def _posted(spec: JobSpec) -> frozenset[str]:
    return frozenset(s.stream for s in spec.stages if s.stream is not None and s.chunks is None)


def _grown(layout: StreamLayout, owners: tuple[SourceId, ...], launched: BatchId) -> StreamLayout:
    before = tuple(layout.first_batch(PartitionId(p)) for p in range(len(layout.owners)))
    since = (*before, *(BatchId(launched + 1) for _ in owners))
    return StreamLayout(layout.stream, (*layout.owners, *owners), since)


def first_batches(spec: JobSpec, layouts: Sequence[StreamLayout]) -> FirstBatches:
    """Of every partition that joined later; empty for a job whose sources were all there at first."""
    by_stream = {layout.stream: layout for layout in layouts}
    return {
        (stage.stage, PartitionId(p)): first
        for stage in spec.stages
        if stage.stream is not None and stage.stream in by_stream
        for p, first in enumerate(by_stream[stage.stream].since)
        if first
    }


def begun(needed: Sequence[Sequence[BatchId]], firsts: FirstBatches) -> tuple[tuple[BatchId, ...], ...]:
    """`needed` of those that have computed something: who has yet to begin says nothing about progress."""
    return tuple(
        tuple(b for p, b in enumerate(row) if b > firsts.get((StageId(stage), PartitionId(p)), -1))
        for stage, row in enumerate(needed)
    )


@dataclass(frozen=True, slots=True)
class Awaited:
    """Whose blocks a stage's batch awaits: partitions of its upstream stages that are in the plan then."""

    whole: tuple[tuple[StageId, int], ...]
    since: tuple[tuple[BatchId, ...], ...]
    whole_from: BatchId

    def at(self, batch: BatchId) -> tuple[tuple[StageId, int], ...]:
        """(upstream stage, how many of its partitions, from 0 on): later ones have higher numbers."""
        if batch >= self.whole_from:
            return self.whole
        return tuple(
            (stage, count if not since else sum(first <= batch for first in since))
            for (stage, count), since in zip(self.whole, self.since, strict=True)
        )


def awaited(spec: JobSpec, layouts: Mapping[str, StreamLayout]) -> list[Awaited]:
    """By stage."""
    found: list[Awaited] = []
    for stage in spec.stages:
        whole = tuple((upstream, spec.stages[upstream].partitions) for upstream in stage.inputs)
        streams = [spec.stages[upstream].stream for upstream in stage.inputs]
        since = tuple(layouts[s].since if s is not None and s in layouts else () for s in streams)
        last = max((first for firsts in since for first in firsts), default=BatchId(0))
        found.append(Awaited(whole, since, last))
    return found

"""Whether what a peer says names stages and partitions that a job has, as one generation has it.

The codec lets in only well-formed messages. A broken or foreign release can still name what a job does
not have, and so can a peer that has heard of another number of partitions (`core.resizing`).
"""

from __future__ import annotations

from drizzle_streams.core.offered import well_formed
from drizzle_streams.model.ids import PartitionId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.protocol.messages import BlocksReady, Offer


def fits(message: Offer | BlocksReady, spec: JobSpec) -> bool:
    """Whether an offer or a notification names stages and partitions that the job has."""
    match message:
        case Offer(stage=stage, bounds=bounds):
            read = _stage(spec, stage)
            named = tuple(bound.partition for bound in bounds)
            reads = read is not None and read.stream is not None and _has(read, named)
            return reads and well_formed(message)
        case BlocksReady(stage=stage, downstream=below):
            given, taking = _stage(spec, stage), _stage(spec, below)
            return (
                given is not None
                and taking is not None
                and given.stage in taking.inputs
                and _has(given, message.partitions)
                and _has(taking, message.wanted)
                and len(message.sealed_at_ms) == message.last - message.first + 1 > 0
            )


def _stage(spec: JobSpec, stage: int) -> StageSpec | None:
    return spec.stages[stage] if 0 <= stage < len(spec.stages) else None


def _has(stage: StageSpec, partitions: tuple[PartitionId, ...]) -> bool:
    return bool(partitions) and min(partitions) >= 0 and max(partitions) < stage.partitions

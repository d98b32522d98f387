"""What the coordinator remembers: one record per kind and job, small, replaced whole.

Keys are `job:{id}:{kind}`. Together they are enough to recover a job after the coordinator
died: what it is, who owned what, what was launched, the last checkpoint, and where blocks
lay (shuffle metadata).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from drizzle_streams.model.ids import NO_BATCH, BatchId, Generation, GroupId, JobId, WorkerId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.model.replanning import ChosenFrom
from drizzle_streams.model.snapshot import Checkpoint
from drizzle_streams.protocol.parts import Available


class JobPhase(StrEnum):
    """Where a job is in its life. WAITING: not enough members; STOPPING: finishing what is launched."""

    WAITING = "waiting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """The job itself; `detail` says why it failed or stopped."""

    spec: JobSpec
    phase: JobPhase
    layouts: tuple[StreamLayout, ...]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Relief:
    """What a slow worker has behind it (`core.stragglers`): times in cluster seconds, None: never.

    `relieved_at`: since when it has no partitions. `penance_s`: how long without a stall earns them back.
    """

    worker: WorkerId
    relieved_at: float | None
    reinstated_at: float | None
    spared_until: float
    penance_s: float


@dataclass(frozen=True, slots=True)
class AssignRecord:
    """The newest generation of a job, who owns what in it, and who is (or was) relieved as a straggler."""

    generation: Generation
    placement: Placement
    relief: tuple[Relief, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """The newest group launched, and how stages run since the newest checkpoint.

    `granted`: the last batch that any group was launched with, whatever was cut since. `interval_ms`: from
    one of its batches to the next; 0: the job's.
    """

    group: GroupId
    first: BatchId
    last: BatchId
    starts_at_ms: float
    chosen: tuple[ChosenFrom, ...] = ()
    granted: BatchId = NO_BATCH
    interval_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """The newest committed checkpoint, and the one before it: what there is to fall back to."""

    checkpoint: Checkpoint
    previous: Checkpoint


@dataclass(frozen=True, slots=True)
class BlocksRecord:
    """Shuffle metadata: which worker holds blocks of which batches, as of the newest checkpoint."""

    held: tuple[Available, ...]


Record = JobRecord | AssignRecord | GroupRecord | CheckpointRecord | BlocksRecord


def job_key(job: JobId, kind: str) -> str:
    """The ledger key of one of a job's records; `kind` is spec, assign, group, checkpoint or blocks."""
    return f"job:{job}:{kind}"


RECORD_KINDS: dict[str, type[Record]] = {
    "spec": JobRecord,
    "assign": AssignRecord,
    "group": GroupRecord,
    "checkpoint": CheckpointRecord,
    "blocks": BlocksRecord,
}

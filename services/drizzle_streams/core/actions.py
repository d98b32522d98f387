"""Everything a machine can have done outside itself: one closed set per service.

Each action that takes time names the events it ends in; the others are tells, done at once
and in order by whoever performs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    BatchId,
    CohortId,
    Generation,
    JobId,
    NodeId,
    Offset,
    PartitionId,
    SourceId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.replanning import StageChoice
from drizzle_streams.model.snapshot import SnapshotRef
from drizzle_streams.model.task import TaskKey
from drizzle_streams.protocol.parts import Former

INPUT = StageId(-1)
"""The upstream "stage" of a stage that reads a stream."""

# --- any service --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LearnPeer:
    """Tell: `node` answers at `address`."""

    node: NodeId
    address: str


# --- worker -------------------------------------------------------------------------------


class Fragment(NamedTuple):
    """Names data at a worker: what `sender` has for `wanted` partitions of `downstream`, one batch.

    For input offers `stage` is INPUT and `wanted` equals `partitions`. A tuple, since a worker makes one of
    each batch for each worker above it.
    """

    job: JobId
    downstream: StageId
    stage: StageId
    batch: BatchId
    sender: NodeId
    partitions: tuple[PartitionId, ...]
    wanted: tuple[PartitionId, ...]


class Piece(NamedTuple):
    """The part of a fragment that a task takes: rows from `partitions` for `wanted`."""

    fragment: Fragment
    partitions: tuple[PartitionId, ...]
    wanted: tuple[PartitionId, ...]


@dataclass(frozen=True, slots=True)
class LoadProgram:
    """Get the user's program of a job. Ends in ProgramLoaded or ProgramFailed."""

    spec: JobSpec


@dataclass(frozen=True, slots=True)
class OpenCohort:
    """Make state for partitions at `batch`: from former owners that have it, else from snapshots.

    Ends in CohortOpened, CohortFailed or CohortDamaged.
    """

    job: JobId
    stage: StageId
    cohort: CohortId
    partitions: tuple[PartitionId, ...]
    batch: BatchId
    snapshots: tuple[SnapshotRef, ...]
    formers: tuple[Former, ...] = ()


@dataclass(frozen=True, slots=True)
class KeepPartitions:
    """Tell: the cohort keeps only these partitions (none: it is closed).

    The state of the others is kept aside until a checkpoint lies behind it: their new owner may ask.
    """

    job: JobId
    stage: StageId
    cohort: CohortId
    partitions: tuple[PartitionId, ...]


@dataclass(frozen=True, slots=True)
class LayOut:
    """Tell: stages have other numbers of partitions from here on."""

    job: JobId
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class MergeCohorts:
    """Tell: `other` stands at the same batch and becomes part of `cohort`."""

    job: JobId
    stage: StageId
    cohort: CohortId
    other: CohortId


@dataclass(frozen=True, slots=True)
class RunTask:
    """Compute a batch for a cohort. Ends in TaskFinished or TaskCrashed.

    `replayed`: it was done before, so how late it is now says nothing.
    """

    key: TaskKey
    partitions: tuple[PartitionId, ...]
    pieces: tuple[Piece, ...]
    sealed_at_ms: float
    choice: StageChoice | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class WriteOutput:
    """Write the rows of computed batches to the sink. Ends in OutputWritten or OutputFailed."""

    job: JobId
    stage: StageId
    cohort: CohortId
    first: BatchId
    last: BatchId


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Store the state at a batch. Ends in SnapshotTaken or SnapshotFailed."""

    job: JobId
    stage: StageId
    cohort: CohortId
    batch: BatchId


@dataclass(frozen=True, slots=True)
class FetchBlocks:
    """Pull blocks of batches first..last from `sender`. Ends in BlocksFetched or FetchFailed."""

    job: JobId
    downstream: StageId
    stage: StageId
    sender: WorkerId
    partitions: tuple[PartitionId, ...]
    wanted: tuple[PartitionId, ...]
    first: BatchId
    last: BatchId


@dataclass(frozen=True, slots=True)
class FetchInput:
    """Pull the records of a sealed batch from a source. Ends in InputFetched or InputFetchFailed."""

    fragment: Fragment
    source: SourceId
    bounds: tuple[Bounds, ...]
    sealed_at_ms: float


@dataclass(frozen=True, slots=True)
class ReleaseFragments:
    """Tell: every local task of `downstream` up to `through` has run; their inputs can go."""

    job: JobId
    downstream: StageId
    through: BatchId


@dataclass(frozen=True, slots=True)
class DropBlocks:
    """Tell: blocks up to `through` lie behind the checkpoint and can go."""

    job: JobId
    through: BatchId


@dataclass(frozen=True, slots=True)
class ForgetJob:
    """Tell: the job has ended here; `reason` is for people."""

    job: JobId
    reason: str


@dataclass(frozen=True, slots=True)
class Rejoin:
    """Tell: this life is over (declared lost); start a new one under a new id."""

    reason: str


@dataclass(frozen=True, slots=True)
class Depart:
    """Tell: nothing here is needed any more, or nobody could take it over; end, without a next life."""

    reason: str


# --- source -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SealBatches:
    """Fix and persist the bounds of batches first..last, together. Ends in BatchesSealed or SealFailed.

    `firsts` are (partition, first offset, or None to start a log where the job starts);
    a batch takes at most `records_max` records of each partition. They may wait for `waits_s` for posts
    that are coming in.
    """

    job: JobId
    stage: StageId
    stream: StreamId
    first: BatchId
    last: BatchId
    firsts: tuple[tuple[PartitionId, Offset | None], ...]
    records_max: int
    waits_s: float = 0.0


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Tell: the log of a stream and the bounds of this run must be open, for these partitions.

    `start_from` (earliest or latest) says where a run without bounds begins to read. `chunks`: there is
    no log, the stream is files, cut into so many, for `of` partitions on all sources.
    """

    job: JobId
    born: Generation
    stage: StageId
    stream: StreamId
    partitions: tuple[PartitionId, ...]
    start_from: str
    chunks: int | None = None
    of: int = 0


@dataclass(frozen=True, slots=True)
class TrimInput:
    """Tell: the job needs no input before these offsets and no bounds up to `through`."""

    job: JobId
    stage: StageId
    stream: StreamId
    through: BatchId
    before: tuple[tuple[PartitionId, Offset], ...]


@dataclass(frozen=True, slots=True)
class ReleaseInput:
    """Tell: that run of the job has ended; its bounds can go."""

    job: JobId
    born: Generation


# --- coordinator --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RaiseGeneration:
    """Take the next generation from the ledger's fence. Ends in GenerationRaised."""

    reason: str


@dataclass(frozen=True, slots=True)
class FenceSnapshots:
    """Tell: from now on snapshots of older generations of the job are refused."""

    job: JobId


@dataclass(frozen=True, slots=True)
class DeleteSnapshots:
    """Tell: no checkpoint needs these keys any more."""

    job: JobId
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForgetProgram:
    """Tell: the job's program is no longer needed."""

    job: JobId


Start = (
    LearnPeer
    | LoadProgram
    | OpenCohort
    | KeepPartitions
    | LayOut
    | MergeCohorts
    | RunTask
    | WriteOutput
    | TakeSnapshot
    | FetchBlocks
    | FetchInput
    | ReleaseFragments
    | DropBlocks
    | ForgetJob
    | Rejoin
    | Depart
    | SealBatches
    | OpenStream
    | TrimInput
    | ReleaseInput
    | RaiseGeneration
    | FenceSnapshots
    | DeleteSnapshots
    | ForgetProgram
)

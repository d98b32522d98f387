"""The values that stand inside messages: what several of them say in the same way.

As messages they are frozen, describe ranges instead of lists, and travel by the same codec.
"""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.model.ids import NO_BATCH, BatchId, Generation, JobId, PartitionId, StageId, WorkerId
from drizzle_streams.model.snapshot import SnapshotRef


@dataclass(frozen=True, slots=True)
class Done:
    """Batches first..last (inclusive) of some partitions of a stage are done."""

    stage: StageId
    partitions: tuple[PartitionId, ...]
    first: BatchId
    last: BatchId


@dataclass(frozen=True, slots=True)
class JobHolding:
    """What a worker holds of a job: `done[i].last` is the version it stands at."""

    job: JobId
    generation: Generation
    done: tuple[Done, ...]


@dataclass(frozen=True, slots=True)
class SourceHolding:
    """How far a source has sealed a job's batches (the last sealed batch)."""

    job: JobId
    sealed: BatchId


@dataclass(frozen=True, slots=True)
class Available:
    """Blocks of an upstream stage that `worker` holds: one line of a pre-filled dependency list."""

    stage: StageId
    partitions: tuple[PartitionId, ...]
    worker: WorkerId
    first: BatchId
    last: BatchId


@dataclass(frozen=True, slots=True)
class Former:
    """A living worker that owned partitions before: their state at the boundary may be had from it.

    `of`: how many partitions the stage had then; 0 means as many as it has.
    """

    worker: WorkerId
    partitions: tuple[PartitionId, ...]
    of: int = 0


@dataclass(frozen=True, slots=True)
class Adoption:
    """Partitions that their owner takes over: restore, then replay from `first` (section 3.3).

    State comes from its `formers` where they still have just that version, else from `snapshots`.
    Former owners are known to have `done` all of them up to there: a replay of that is no news to anybody.
    """

    stage: StageId
    partitions: tuple[PartitionId, ...]
    first: BatchId
    snapshots: tuple[SnapshotRef, ...]
    available: tuple[Available, ...]
    formers: tuple[Former, ...]
    done: BatchId = NO_BATCH


@dataclass(frozen=True, slots=True)
class Missing:
    """Upstream partitions of a stage from which nothing has come for a batch."""

    stage: StageId
    partitions: tuple[PartitionId, ...]


@dataclass(frozen=True, slots=True)
class BatchLatencies:
    """Of batches from `first` on, the time from sealed to done on one worker, and when they were sealed.

    In ms, and in ms of cluster time. Columns of one length: a report tells of dozens of batches, and many
    workers tell of the same ones.
    """

    first: BatchId
    milliseconds: tuple[float, ...]
    sealed_at_ms: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Copies:
    """Copies of straggling tasks: started; first with the result; second with it."""

    started: int
    won: int
    wasted: int


NO_COPIES = Copies(0, 0, 0)


@dataclass(frozen=True, slots=True)
class TaskLateness:
    """How long after a batch was sealed a stage's task of it ended on one worker."""

    stage: StageId
    batch: BatchId
    milliseconds: float

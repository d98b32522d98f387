"""Tasks and what they end in: values, so that a user's failure never unwinds a worker (law 10)."""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.model.ids import BatchId, CohortId, JobId, PartitionId, StageId


@dataclass(frozen=True, slots=True)
class TaskKey:
    """One task: a batch of one stage for one cohort, computed in one vectorised call.

    A cohort is the set of a stage's partitions that a worker holds at the same version.
    """

    job: JobId
    stage: StageId
    cohort: CohortId
    batch: BatchId


@dataclass(frozen=True, slots=True)
class TaskError:
    """A failure of the user's program: what it said and where."""

    kind: str
    message: str
    traceback: str
    stage: StageId
    batch: BatchId
    partitions: tuple[PartitionId, ...]

"""Everything that can happen to a machine: one closed set per service.

Whatever an action starts ends in exactly one of these.
"""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.core.actions import FetchBlocks, FetchInput
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import BatchId, CohortId, GroupId, JobId, NodeId, StageId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.replanning import StageSeen
from drizzle_streams.model.snapshot import SnapshotRef
from drizzle_streams.model.task import TaskError, TaskKey
from drizzle_streams.protocol.messages import Envelope, Message

# --- any service --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnvelopeArrived:
    """A frame was decoded; `carried[i]` says whether item i brought its payload along."""

    envelope: Envelope
    carried: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Received:
    """One message, in order, once per link session; the role's view of an envelope.

    `more`: the next one of the same envelope follows at once, so looking at what can be done now may wait.
    """

    sender: NodeId
    message: Message
    carried: bool
    more: bool = False


@dataclass(frozen=True, slots=True)
class PeerRestarted:
    """A node of a stable id speaks from a new life: what it was told before is gone."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class LinkOverflowed:
    """What waited for a silent node passed its bound and was dropped."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class PeerUnreachable:
    """A dial failed or a connection broke. Evidence, not a verdict (law 6)."""

    node: NodeId


# --- worker -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProgramLoaded:
    """The job's program is ready to run."""

    job: JobId


@dataclass(frozen=True, slots=True)
class ProgramFailed:
    """The job's program cannot be had or does not load."""

    job: JobId
    error: TaskError


@dataclass(frozen=True, slots=True)
class CohortOpened:
    """State is restored and the cohort can run."""

    job: JobId
    stage: StageId
    cohort: CohortId


@dataclass(frozen=True, slots=True)
class CohortFailed:
    """State could not be restored."""

    job: JobId
    stage: StageId
    cohort: CohortId
    error: TaskError


@dataclass(frozen=True, slots=True)
class CohortDamaged:
    """The snapshot that a cohort was to open with is damaged, or parts of it are missing."""

    job: JobId
    stage: StageId
    cohort: CohortId
    batch: BatchId
    reason: str


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """A batch of a cohort is computed; its blocks are held, its rows wait for WriteOutput."""

    key: TaskKey
    seen: StageSeen | None = None


@dataclass(frozen=True, slots=True)
class TaskCrashed:
    """The user's program raised."""

    key: TaskKey
    error: TaskError


@dataclass(frozen=True, slots=True)
class OutputWritten:
    """The sink holds the rows of all batches up to `last`."""

    job: JobId
    stage: StageId
    cohort: CohortId
    last: BatchId


@dataclass(frozen=True, slots=True)
class OutputFailed:
    """The sink refused within its bounds of retries."""

    job: JobId
    stage: StageId
    cohort: CohortId
    error: TaskError


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """A snapshot is durable; encoding and storing it took `seconds`."""

    job: JobId
    stage: StageId
    cohort: CohortId
    snapshot: SnapshotRef
    seconds: float


@dataclass(frozen=True, slots=True)
class SnapshotFailed:
    """A snapshot could not be stored; the next one will be tried."""

    job: JobId
    stage: StageId
    cohort: CohortId
    batch: BatchId
    reason: str


@dataclass(frozen=True, slots=True)
class BlocksFetched:
    """Blocks arrived; `batches` are those the other side held, with when they were sealed."""

    fetch: FetchBlocks
    batches: tuple[tuple[BatchId, float], ...]


@dataclass(frozen=True, slots=True)
class FetchFailed:
    """Blocks could not be pulled."""

    fetch: FetchBlocks
    reason: str


@dataclass(frozen=True, slots=True)
class InputFetched:
    """The records of an offer arrived."""

    fetch: FetchInput


@dataclass(frozen=True, slots=True)
class InputFetchFailed:
    """The records of an offer could not be pulled."""

    fetch: FetchInput
    reason: str


@dataclass(frozen=True, slots=True)
class MemoryPressed:
    """Blocks and fragments have reached their bound, or (`pressed` false) there is room again."""

    pressed: bool


@dataclass(frozen=True, slots=True)
class LeaveRequested:
    """This worker is asked to stop: it goes when its partitions have moved."""


# --- source -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchesSealed:
    """The bounds of batches first..last are durable, in their order; `backlog` records lie behind them.

    `ended`: nothing will follow.
    """

    job: JobId
    stage: StageId
    first: BatchId
    last: BatchId
    bounds: tuple[Bounds, ...]
    backlog: int
    ended: bool = False


@dataclass(frozen=True, slots=True)
class SealFailed:
    """Bounds of batches from `first` on could not be fixed (yet)."""

    job: JobId
    stage: StageId
    first: BatchId
    reason: str


# --- coordinator --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GenerationRaised:
    """The ledger's fence moved: this generation is ours alone."""

    generation: int


@dataclass(frozen=True, slots=True)
class JobSubmitted:
    """A user submitted a job; its program is stored."""

    spec: JobSpec


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A user wants a job stopped after what is launched."""

    job: JobId


@dataclass(frozen=True, slots=True)
class NodeExited:
    """A supervisor saw a process end: it may be judged at once (law 6)."""

    node: NodeId


@dataclass(frozen=True, slots=True)
class LaunchMeasured:
    """The turn that launched a group took so long: deciding, and then ledger, encoding and sending."""

    job: JobId
    group: GroupId
    plan_s: float
    carry_out_s: float


Event = (
    EnvelopeArrived
    | Received
    | PeerRestarted
    | LinkOverflowed
    | PeerUnreachable
    | ProgramLoaded
    | ProgramFailed
    | CohortOpened
    | CohortFailed
    | CohortDamaged
    | TaskFinished
    | TaskCrashed
    | OutputWritten
    | OutputFailed
    | SnapshotTaken
    | SnapshotFailed
    | BlocksFetched
    | FetchFailed
    | InputFetched
    | InputFetchFailed
    | MemoryPressed
    | LeaveRequested
    | BatchesSealed
    | SealFailed
    | GenerationRaised
    | JobSubmitted
    | StopRequested
    | NodeExited
    | LaunchMeasured
)

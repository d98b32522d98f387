"""Every message between services: frozen values, a closed union, one codec.

Rules (design law 3): a message names (job, generation) and whatever of group, batch, stage
and partition applies; older generations are refused; applying a message twice is harmless.
Ranges, not lists: a message's size does not grow with the group (Drizzle, section 3.1).
Payloads (records, blocks) never stand in a message: the driver attaches them beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    BatchId,
    Generation,
    GroupId,
    JobId,
    NodeId,
    PartitionId,
    SourceId,
    StageId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.model.replanning import ChosenFrom, StageSeen
from drizzle_streams.model.snapshot import SnapshotRef
from drizzle_streams.model.task import TaskError
from drizzle_streams.protocol.parts import (
    NO_COPIES,
    Adoption,
    Available,
    BatchLatencies,
    Copies,
    Done,
    JobHolding,
    Missing,
    SourceHolding,
    TaskLateness,
)

# --- to the coordinator -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerHello:
    """A worker introduces itself and says what it holds; repeated until welcomed.

    `leaving`: it was asked to stop, and goes when its partitions have moved.
    """

    worker: WorkerId
    address: str
    slots: int
    jobs: tuple[JobHolding, ...]
    leaving: bool


@dataclass(frozen=True, slots=True)
class SourceHello:
    """A source introduces its log and says how far it has sealed."""

    source: SourceId
    address: str
    partitions: int
    jobs: tuple[SourceHolding, ...]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Renews a lease. `busy` is the share of slot time spent in tasks since the last one (0..1).

    `stalled_ms` is the longest time since then in which the node did not run although it wanted to.
    """

    node: NodeId
    busy: float
    stalled_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class DoneReport:
    """Finished tasks, coalesced, asynchronous (section 3.2 step 3); `whole` replaces what was known."""

    job: JobId
    generation: Generation
    worker: WorkerId
    done: tuple[Done, ...]
    latencies: tuple[BatchLatencies, ...]
    whole: bool
    tasks: tuple[TaskLateness, ...] = ()
    seen: tuple[StageSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class SealedReport:
    """A source sealed batches up to `batch`; `backlog` records wait behind it.

    `copies` of straggling tasks since the source started. `ended`: no record will ever follow.
    """

    job: JobId
    generation: Generation
    source: SourceId
    batch: BatchId
    records: int
    backlog: int
    copies: Copies = NO_COPIES
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Halted:
    """A source obeys a cut: it has sealed up to `sealed`, and seals nothing beyond that and `last`.

    So it stays until the next launch. Said only when no batch beyond is being sealed, and only of jobs whose
    partitions may be split or merged.
    """

    job: JobId
    generation: Generation
    source: SourceId
    group: GroupId
    last: BatchId
    sealed: BatchId


@dataclass(frozen=True, slots=True)
class SnapshotStored:
    """A snapshot is durable in the snapshot store; encoding and storing it took `seconds`."""

    job: JobId
    generation: Generation
    worker: WorkerId
    snapshot: SnapshotRef
    seconds: float


@dataclass(frozen=True, slots=True)
class SnapshotDamaged:
    """State of these partitions at `batch` cannot be restored: a part is missing or not what was stored."""

    job: JobId
    generation: Generation
    worker: WorkerId
    stage: StageId
    partitions: tuple[PartitionId, ...]
    batch: BatchId
    reason: str


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """The user's program failed: the job must fail, not the worker (law 10)."""

    job: JobId
    generation: Generation
    worker: WorkerId
    error: TaskError


@dataclass(frozen=True, slots=True)
class Prepared:
    """The job's program is loaded, or has failed to: nothing more is gained by waiting."""

    job: JobId
    generation: Generation
    worker: WorkerId


@dataclass(frozen=True, slots=True)
class PeerSuspected:
    """A send or fetch to `peer` failed; only the coordinator judges (law 6)."""

    node: NodeId
    peer: NodeId


@dataclass(frozen=True, slots=True)
class Overdue:
    """A task waits too long: "who still owes me what?" (section 3.3, the repair path)."""

    job: JobId
    generation: Generation
    worker: WorkerId
    stage: StageId
    batch: BatchId
    missing: tuple[Missing, ...]


# --- from the coordinator -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Welcome:
    """The node is a member while it renews its lease within `lease_ms`."""

    generation: Generation
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The node was declared lost or speaks an old generation: it must start a new life."""

    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a node answers."""

    node: NodeId
    address: str


@dataclass(frozen=True, slots=True)
class Peers:
    """Where members answer; precedes any message that needs it."""

    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True)
class Assign:
    """A new generation of a job: who owns what from now on, and from which batch each is needed.

    `needed[stage][partition]` is the first batch which that partition's owner has yet to compute:
    upstream owners announce their retained blocks from there, sources offer again from there.
    """

    spec: JobSpec
    generation: Generation
    layouts: tuple[StreamLayout, ...]
    placement: Placement
    needed: tuple[tuple[BatchId, ...], ...]
    committed: BatchId
    adoptions: tuple[Adoption, ...]


@dataclass(frozen=True, slots=True)
class Prepare:
    """A worker that has no share of a job yet is about to get one: load its program, then answer."""

    spec: JobSpec
    generation: Generation


@dataclass(frozen=True, slots=True)
class Launch:
    """A group: batches first..last of every stage, pre-scheduled, one message per node (section 3.1).

    Batch b is sealed at `starts_at_ms` + (b - first + 1) x interval, cluster time. `chosen`: how
    stages run, from which batch on.
    """

    job: JobId
    generation: Generation
    group: GroupId
    first: BatchId
    last: BatchId
    starts_at_ms: float
    interval_ms: float
    snapshot_every: int
    chosen: tuple[ChosenFrom, ...] = ()


@dataclass(frozen=True, slots=True)
class Cut:
    """The running group ends with batch `last`: what was launched beyond it is taken back.

    State is stored at `last`, so that owners may change there and nothing is replayed. The next
    launch lifts it. A later cut of the same group may name a later batch: someone was ahead.
    """

    job: JobId
    generation: Generation
    group: GroupId
    last: BatchId


@dataclass(frozen=True, slots=True)
class Farewell:
    """Nothing that is needed is held here any more: a worker that is leaving may go."""

    generation: Generation
    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """The last word of a worker that was asked to stop: its life is over, and no lease need be waited for."""

    worker: WorkerId
    reason: str


@dataclass(frozen=True, slots=True)
class LaunchStage:
    """Barrier mode only: one stage of one batch, with where its blocks lie (Spark's way)."""

    job: JobId
    generation: Generation
    stage: StageId
    batch: BatchId
    snapshot_every: int
    available: tuple[Available, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """Two checkpoints are durable, of `batch` and `newest`: drop what only batches up to `batch` need."""

    job: JobId
    generation: Generation
    batch: BatchId
    newest: BatchId


@dataclass(frozen=True, slots=True)
class Reannounce:
    """Answer to `Overdue`, sent to who owes: announce (or offer) again from `first` to `to`."""

    job: JobId
    generation: Generation
    stage: StageId
    partitions: tuple[PartitionId, ...]
    first: BatchId
    to: WorkerId


@dataclass(frozen=True, slots=True)
class StopJob:
    """The job has ended: forget it."""

    job: JobId
    generation: Generation
    reason: str


# --- between sources and workers ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """Sealed batches of some stream partitions, for their owner; records ride along or are pulled.

    They are those from `first` on, as many as there are times of sealing (cluster time), each with bounds of
    the same partitions. `copy`: for somebody else, because the owner is late with it (`core.speculation`).
    """

    job: JobId
    generation: Generation
    source: SourceId
    stage: StageId
    first: BatchId
    sealed_at_ms: tuple[float, ...]
    bounds: tuple[Bounds, ...]
    copy: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """The offered batch has been computed: credit for the source to seal further, if by its owner.

    `held_ms`: so long it was held back (`core.later`). Of a stage at the end of a chain: how far it is, to
    all sources, see `core.below`.
    """

    job: JobId
    generation: Generation
    worker: WorkerId
    stage: StageId
    partitions: tuple[PartitionId, ...]
    batch: BatchId
    held_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class BlocksReady:
    """Blocks of batches first..last lie at `worker`, for those downstream partitions (section 3.2).

    `downstream` is the stage that awaits them and `wanted` its partitions that are covered; `sealed_at_ms`
    says of each batch when it was sealed, cluster time, 0 where that is not known.
    """

    job: JobId
    generation: Generation
    worker: WorkerId
    stage: StageId
    partitions: tuple[PartitionId, ...]
    downstream: StageId
    wanted: tuple[PartitionId, ...]
    first: BatchId
    last: BatchId
    sealed_at_ms: tuple[float, ...]


Message = (
    WorkerHello
    | SourceHello
    | Heartbeat
    | DoneReport
    | SealedReport
    | SnapshotStored
    | SnapshotDamaged
    | TaskFailed
    | PeerSuspected
    | Overdue
    | Welcome
    | Refused
    | Peers
    | Assign
    | Launch
    | LaunchStage
    | Committed
    | Reannounce
    | StopJob
    | Offer
    | Taken
    | BlocksReady
    | Cut
    | Farewell
    | Left
    | Prepare
    | Prepared
    | Halted
)


@dataclass(frozen=True, slots=True)
class Item:
    """One message in an envelope; `seq` 0 is sent once and never repeated (heartbeats)."""

    seq: int
    message: Message


@dataclass(frozen=True, slots=True)
class Envelope:
    """What one node says to another at once, with the book-keeping of the link (core/outbox).

    `session` and `stream` name the sender's life and its numbering; `ack_*` say up to where
    the numbering of the other side has been received.
    """

    sender: NodeId
    session: int
    stream: int
    ack_session: int
    ack_stream: int
    ack: int
    items: tuple[Item, ...]

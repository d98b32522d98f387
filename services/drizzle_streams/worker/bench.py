"""What the operations of one life of a worker share: stores, threads, links, counters.

A life owns its bench. Everything on it is used on the event loop only, except for what runs in
`threads`, which gets values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from drizzle_streams.core.events import Event, MemoryPressed
from drizzle_streams.core.story import Story
from drizzle_streams.core.worker import Worker
from drizzle_streams.model.ids import Generation, JobId, NodeId
from drizzle_streams.protocol.tokens import Keyring
from drizzle_streams.runtime.clock import Clock
from drizzle_streams.stores.base import SnapshotStore
from drizzle_streams.telemetry.metrics import WorkerMetrics
from drizzle_streams.transport.base import Address, Transport
from drizzle_streams.transport.tasks import OwnedTasks
from drizzle_streams.worker.blocks import BlockStore
from drizzle_streams.worker.counters import WorkerCounters
from drizzle_streams.worker.deadletters import DeadLetters
from drizzle_streams.worker.fragments import FragmentStore
from drizzle_streams.worker.threads import Threads

ROOM_SHARE = 0.75
"""There is room again when so much of the bound is held, so that it is not told back and forth."""


def unwired(event: Event) -> None:
    """`post` until a driver is there: an event that nobody handles is a fault."""
    raise RuntimeError(f"{type(event).__name__} came before the driver")


@dataclass(slots=True, kw_only=True)
class Bench:
    """`role` is read, never told anything; events go through `post`.

    `held_bytes_max` bounds the blocks; together with the fragments it is when the bench is `full`.
    `outage_s_max`: how long sinks and restores wait for a store that is away.
    """

    role: Worker
    clock: Clock
    transport: Transport
    tasks: OwnedTasks
    threads: Threads
    snapshots: SnapshotStore
    letters: DeadLetters
    metrics: WorkerMetrics
    redis_url: str
    ring: Keyring
    held_bytes_max: int
    outage_s_max: float = 600.0
    rejoin: Callable[[str], None]
    depart: Callable[[str], None]
    blocks: BlockStore = field(init=False)
    fragments: FragmentStore = field(default_factory=FragmentStore)
    pressed: bool = False
    counters: WorkerCounters = field(default_factory=WorkerCounters)
    story: Story = field(default_factory=Story)
    post: Callable[[Event], None] = unwired
    addresses: Mapping[NodeId, Address] = field(default_factory=dict[NodeId, Address])

    def __post_init__(self) -> None:
        self.blocks = BlockStore()

    def weigh(self) -> None:
        """Tell the machine when the bound is reached, and when there is room again."""
        held = self.blocks.bytes + self.fragments.bytes
        pressed = held >= self.held_bytes_max * (ROOM_SHARE if self.pressed else 1.0)
        if pressed != self.pressed:
            self.pressed = pressed
            self.post(MemoryPressed(pressed))

    @property
    def full(self) -> bool:
        """Whether blocks and fragments have reached their bound: nothing is taken in that need not be."""
        return self.blocks.bytes + self.fragments.bytes >= self.held_bytes_max

    def generation(self, job: JobId) -> Generation:
        """The generation of a job as the machine knows it; 0 for a job it does not."""
        known = self.role.jobs.get(job)
        return Generation(0) if known is None else known.generation

    def tell(self, kind: str, text: str, job: str = "") -> None:
        """Add a line to this worker's story."""
        self.story.tell(self.clock.now(), kind, text, job)

"""A cohort: the partitions of a stage that a worker holds at the same version.

All of them are computed in one vectorised call, in batch order. In steady state a stage has
one cohort per worker. Partitions adopted in recovery start as a cohort of their own that
replays while the others go on, and join the main cohort when both stand at the same batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from drizzle_streams.core.arrivals import mask_of
from drizzle_streams.model.ids import NO_BATCH, BatchId, CohortId, PartitionId, StageId


@dataclass(slots=True)
class Cohort:
    """`computed` is the version it stands at, `done` the last batch whose output is durable.

    `stored` is the last batch at which its state was to be stored.
    """

    cohort: CohortId
    stage: StageId
    partitions: tuple[PartitionId, ...]
    computed: BatchId
    done: BatchId
    reported: BatchId
    open: bool
    waiting_since: float
    patience_s: float = 0.0
    """How long it waits at least before it asks for what is overdue."""
    running: bool = False
    writing: bool = False
    stored: BatchId = NO_BATCH
    done_before: BatchId = NO_BATCH
    """What others have done of it: a batch is as late as it was then, however often it is computed."""
    mask: int = 0
    sealed_at_ms: dict[BatchId, float] = field(default_factory=dict[BatchId, float])

    def __post_init__(self) -> None:
        self.mask = mask_of(self.partitions)

    @property
    def next(self) -> BatchId:
        """The batch it computes next."""
        return BatchId(self.computed + 1)

    def overdue_at(self, timeout_s: float) -> float:
        """When to ask who owes what the next batch awaits.

        Deadlines and their ends are this same sum: with a difference, rounding could leave a deadline due
        and the cohort not, and the worker would spin.
        """
        return self.waiting_since + max(timeout_s, self.patience_s)

    def asks(self, now: float, timeout_s: float, timeout_s_max: float) -> None:
        """It asks now, and waits twice as long before it asks again.

        Asking makes others say again what may be on its way: where all is slow, that makes it slower.
        """
        self.patience_s = min(2 * max(timeout_s, self.patience_s), timeout_s_max)
        self.waiting_since = now

    def came(self, now: float) -> None:
        """A batch is computed, and the wait for the next begins; patience shrinks as waits do."""
        if now - self.waiting_since < self.patience_s / 4:
            self.patience_s /= 2
        self.waiting_since = now

    @property
    def settled(self) -> bool:
        """Nothing of it is under way: it may be merged."""
        return self.open and not self.running and not self.writing and self.done == self.computed

    def keep(self, partitions: tuple[PartitionId, ...]) -> None:
        """Give up the other partitions."""
        self.partitions = partitions
        self.mask = mask_of(partitions)

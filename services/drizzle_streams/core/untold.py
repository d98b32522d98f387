"""Announcements that are held back to be made as ranges: what a worker has finished and not yet told.

Each batch of a stage is announced to every worker below, so with many workers announcing costs more than
computing. Where the next batch can start at once, because its input is here, those below have no use for
this one alone, if they are told before they could have had both. So it is held until

- the next batch cannot start at once: then everything held is told with this one, in the same turn,
- or `RUN_BATCHES_MAX` batches are held,
- or the driver has handled what waited for it: a deadline that is always due, so nothing waits for a task
  that takes its time, nor for a clock.

Credit for the source waits for the same moment: the last batch of a range speaks for all of them.

Without a backlog nothing is held, and nobody hears of a batch later than before. A new generation drops what
is held: it announces what lies here anew (`JobBlocks._announce_all`), to owners that may be others.
"""

from __future__ import annotations

from drizzle_streams.core.retained import Run, run_of
from drizzle_streams.core.window import IN_FLIGHT_MAX
from drizzle_streams.model.ids import BatchId, PartitionId, StageId

RUN_BATCHES_MAX = IN_FLIGHT_MAX
"""Batches that one message speaks of, at most, where what it names is to ride along."""


class Untold:
    """What one job's tasks on one worker have finished and not yet announced, as runs of batches."""

    def __init__(self) -> None:
        self._runs: dict[tuple[StageId, tuple[PartitionId, ...]], tuple[BatchId, list[float]]] = {}

    def __bool__(self) -> bool:
        return bool(self._runs)

    def add(
        self,
        stage: StageId,
        partitions: tuple[PartitionId, ...],
        batch: BatchId,
        sealed_at_ms: float,
        *,
        more: bool,
    ) -> tuple[Run, ...]:
        """A batch is finished; what is to be told now. `more`: the next one can start at once."""
        key = (stage, partitions)
        held = self._runs.pop(key, None)
        told: tuple[Run, ...] = ()
        if held is not None and held[0] + len(held[1]) != batch:
            told, held = (run_of(partitions, *held),), None
        first, sealed = (batch, [sealed_at_ms]) if held is None else (held[0], [*held[1], sealed_at_ms])
        if not more or len(sealed) >= RUN_BATCHES_MAX:
            return (*told, run_of(partitions, first, sealed))
        self._runs[key] = (first, sealed)
        return told

    def take(self) -> list[tuple[StageId, Run]]:
        """Everything held, which is no longer."""
        runs, self._runs = self._runs, {}
        return [(stage, run_of(partitions, *held)) for (stage, partitions), held in runs.items()]

    def drop(self) -> None:
        """What lies here is announced anew."""
        self._runs = {}

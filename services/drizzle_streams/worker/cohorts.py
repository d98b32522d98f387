"""A cohort as the worker holds it: state at one version, rows that wait for the sink.

`chain` orders the operations on it. Everything here is touched on the event loop only; threads
get values and give values back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from drizzle_streams.engine.compaction import Compacted, Compaction
from drizzle_streams.engine.state import StageState
from drizzle_streams.model.ids import BatchId, CohortId, StageId
from drizzle_streams.worker.chains import Chain
from drizzle_streams.worker.outputs import PartitionRows
from drizzle_streams.worker.snapshots import SnapshotLine


@dataclass(frozen=True, slots=True)
class Output:
    """Rows of one computed batch that the sink has not taken; sealed at 0: not to be timed."""

    rows: Sequence[PartitionRows]
    sealed_at_ms: float


@dataclass(slots=True)
class Cohort:
    """`state` is None for a stage that reads or joins.

    `merged` is a background merge that the next task takes in.
    `snapshots` is the chain of storing, beside the one of computing; `line` knows what is stored.
    """

    cohort: CohortId
    stage: StageId
    chain: Chain
    snapshots: Chain
    line: SnapshotLine
    state: StageState | None = None
    outputs: dict[BatchId, Output] = field(default_factory=dict[BatchId, Output])
    merging: bool = False
    merged: tuple[Compaction, Compacted] | None = None
    writing: asyncio.Task[None] | None = None
    """The last write of its rows."""

    def take_outputs(self, first: BatchId, last: BatchId) -> list[tuple[BatchId, Output]]:
        """The rows of batches first..last, in order; they are the caller's from now on."""
        batches = sorted(batch for batch in self.outputs if first <= batch <= last)
        return [(batch, self.outputs.pop(batch)) for batch in batches]

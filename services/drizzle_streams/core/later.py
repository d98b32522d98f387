"""Credit that can wait: sources hear that a task is done when the batch is likely to be through.

A source needs credit only where it is at its bound, batches later (`core.window`). Said at once it comes
at the worst moment: while a batch is on its way from task to task, all processors are wanted, and writing
and reading that word takes as long as an announcement. So it is said when a share of the interval is over
since the batch was sealed; at once, where that is over already.

What sources conclude from credit stays right: it says for how long it was held (`Taken.held_ms`), which
needs no clock but one's own. Nor does a clock that runs behind the source's hold it for longer. Later credit
of the same partitions stands for earlier one.
"""

from __future__ import annotations

from dataclasses import replace

from drizzle_streams.model.ids import NodeId, PartitionId, StageId
from drizzle_streams.protocol.messages import Taken

LATER_SHARE = 0.3
"""Of the interval: so long after it was sealed a batch is through, where nothing is wrong."""

LATER_MS_MAX = 15.0
"""And at most so long: well before a task counts as late (`core.stragglers`)."""


class Later:
    """What one job on one worker has yet to say to sources; times in cluster seconds."""

    def __init__(self) -> None:
        self._held: dict[tuple[NodeId, StageId, tuple[PartitionId, ...]], tuple[float, float, Taken]] = {}
        """Until when, since when, and what."""

    def hold(self, source: NodeId, taken: Taken, now: float, until: float) -> None:
        """Say it then; what was held of the same partitions is never said."""
        self._held[source, taken.stage, taken.partitions] = (until, now, taken)

    def next_deadline(self) -> float | None:
        """When something is to be said."""
        return min((until for until, _, _ in self._held.values()), default=None)

    def due(self, now: float) -> list[tuple[NodeId, Taken]]:
        """What is to be said now; it is no longer held."""
        found = [key for key, (until, _, _) in self._held.items() if until <= now]
        said: list[tuple[NodeId, Taken]] = []
        for key in found:
            _, since, taken = self._held.pop(key)
            said.append((key[0], replace(taken, held_ms=(now - since) * 1000.0)))
        return said

    def drop(self) -> None:
        """A new generation says anew how far it is."""
        self._held.clear()


def said_at(sealed_at_ms: float, interval_ms: float, now: float) -> float:
    """When credit is said for a batch that was sealed then, by the source's clock, in a job like that."""
    later_ms = min(LATER_MS_MAX, LATER_SHARE * interval_ms)
    return min((sealed_at_ms + later_ms) / 1000.0, now + later_ms / 1000.0)

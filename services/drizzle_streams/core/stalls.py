"""How long this process did not run although it wanted to: stopped, starved, or busy with itself.

A machine asks to be woken every `PULSE_S`; by how much that comes late is a stall. A worker that holds
partitions is judged by what its batches show; one that holds none has only this to show.
"""

from __future__ import annotations

from dataclasses import dataclass

PULSE_S = 0.05
"""As often as batches come: a stall that hurts one of them is seen. Twenty wakings cost 1 ms a second."""


@dataclass(slots=True)
class StallWatch:
    """`due`: when it wants to be looked at, cluster time in seconds; None before it is started."""

    due: float | None = None
    worst_s: float = 0.0

    def look(self, now: float) -> None:
        """Something runs: note how late that is, if it is."""
        if self.due is None:
            self.due = now + PULSE_S
        elif now >= self.due:
            self.worst_s = max(self.worst_s, now - self.due)
            self.due = now + PULSE_S

    def take_ms(self) -> float:
        """The longest stall since this was last asked, in milliseconds."""
        worst, self.worst_s = self.worst_s, 0.0
        return worst * 1000.0

"""What workers were measured to process of a stream: how large a batch may be, how much may wait.

No controller is tuned here. A source knows when it offered a batch and when its workers had computed it;
records over the time in which there was something to compute is the rate that they can do (DS2's
useful time). While workers keep up that is less than they could, never less than what arrives. From
it follow two bounds, so that an overload ends in back-pressure and not in ever larger batches:

- A batch takes what `WORK_S_MAX` of work is, so a backlog is worked off in batches of bounded size; less
  where more batches may be under way (`core.window`), so that all of them are no more work.
- What waits in the log is at most what is worked off in `backlog_s_max`. Beyond it producers are told
  to wait, and for how long. Before anything is measured only the log's budget holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from drizzle_streams.core.tuning.estimates import Smoothed
from drizzle_streams.core.window import IN_FLIGHT_MIN
from drizzle_streams.model.ids import BatchId

WORK_S_MAX = 0.5
"""Work of one batch, in seconds at the measured rate."""

BATCH_RECORDS_MIN = 10_000
"""Records of a partition that a batch may hold in any case: fewer would not show what workers can do."""

SAMPLE_S = 0.25
"""Busy time that makes one sample of the rate: single batches are too short to be told from chance."""

RETRY_S_MAX = 30
"""No producer is told to wait for longer."""


@dataclass(slots=True)
class Capacity:
    """Of one stage that reads, on one source. Times in cluster seconds."""

    _rate: Smoothed = field(default_factory=Smoothed)
    _waiting: dict[BatchId, tuple[float, int]] = field(default_factory=dict[BatchId, tuple[float, int]])
    _free_at: float = 0.0
    _busy_s: float = 0.0
    _records: int = 0

    @property
    def rate(self) -> float | None:
        """Records per second; None before it was measured."""
        return self._rate.value

    def offered(self, batch: BatchId, records: int, now: float) -> None:
        """A batch was sealed and offered."""
        self._waiting[batch] = (now, records)

    def taken(self, through: BatchId, now: float) -> None:
        """All partitions have been computed up to a batch."""
        done = [batch for batch in sorted(self._waiting) if batch <= through]
        for batch in done:
            offered_at, records = self._waiting.pop(batch)
            self._busy_s += max(0.0, now - max(offered_at, self._free_at))
            self._records += records
            self._free_at = now
        if done and self._busy_s >= SAMPLE_S:
            self._rate.observe(self._records / self._busy_s)
            self._busy_s, self._records = 0.0, 0

    def forget_waiting(self) -> None:
        """A new generation: what is computed now was offered twice, and shows nothing."""
        self._waiting.clear()
        self._busy_s, self._records = 0.0, 0

    def batch_records_max(self, partitions: int, bound: int, window: int = IN_FLIGHT_MIN) -> int:
        """Records that a batch takes of each partition, at most `bound`; so many batches may be under way."""
        if self.rate is None:
            return bound
        work_s = WORK_S_MAX * IN_FLIGHT_MIN / window
        return min(bound, max(BATCH_RECORDS_MIN, int(self.rate * work_s / max(1, partitions))))

    def retry_after_s(self, backlog: int, backlog_s_max: float) -> int | None:
        """None if that many waiting records may be; else after how many seconds there is room again."""
        if self.rate is None or self.rate <= 0.0:
            return None
        # What one batch takes in any case is never refused: where each batch costs a fixed time, small
        # ones show a low rate, and producers who are told to wait for that would keep them small for ever.
        allowed = max(BATCH_RECORDS_MIN, self.rate * backlog_s_max)
        if backlog <= allowed:
            return None
        over_s = (backlog - allowed) / self.rate
        return min(RETRY_S_MAX, max(1, math.ceil(over_s)))

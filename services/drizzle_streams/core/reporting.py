"""How often a worker reports what is done: as rarely as the coordinator can do with.

One message tells of many batches, so the coordinator's work is the number of reports and not of batches.
What it needs them for soonest is the next group. Rules:

- Where few report, it is often: `REPORT_INTERVAL_S`. Where many do, the coordinator hears at most one
  report of a job in `REPORT_INTERVAL_PER_WORKER_S`, and nobody waits longer than `REPORT_INTERVAL_S_MAX`:
  groups are planned 0.3 s ahead (`planner`), and what is done must be known by then.
- The next group waits for the report of one batch (`planner.launches_next`). Until that batch is done, and
  half of what was launched beyond the last report, a report waits longer: so large groups are reported more
  rarely, not only launched so, and small ones several at a time.
- Once the coordinator knows of that batch it waits for others, and not for us.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

REPORT_INTERVAL_S = 0.05
"""Finished tasks are reported at most this often: one message for many batches."""

REPORT_INTERVAL_PER_WORKER_S = 0.0015
"""So often where many report and what is launched runs out: one report of a job in this time."""

REPORT_INTERVAL_S_MAX = 0.2
"""No report waits longer while what is launched runs out."""

REPORT_PAUSE_PER_WORKER_S = 0.0075
"""So often where many report and enough is launched."""

REPORT_PAUSE_S_MAX = 1.0
"""No report waits longer, whatever is launched: somebody may be looking."""


def report_interval_s(workers: float) -> float:
    """How often each of so many workers reports while what is launched runs out."""
    return min(max(REPORT_INTERVAL_S, workers * REPORT_INTERVAL_PER_WORKER_S), REPORT_INTERVAL_S_MAX)


def report_pause_s(workers: float) -> float:
    """How often each of so many workers reports while enough is launched."""
    return min(max(REPORT_INTERVAL_S, workers * REPORT_PAUSE_PER_WORKER_S), REPORT_PAUSE_S_MAX)


@dataclass(slots=True)
class ReportTimer:
    """When a worker reports next; it has something to say `since`."""

    at: float | None = None
    _since: float = 0.0

    def said(self) -> None:
        """Everything is reported."""
        self.at = None

    def due(self, now: float, workers: int, *, awaited: bool, short: bool) -> None:
        """There is something to report, of a job on so many workers; `short`: what it may run runs out."""
        if self.at is None:
            self._since, self.at = now, math.inf
        wait_s = report_interval_s(workers) if short else report_pause_s(workers)
        self.at = now if awaited else min(self.at, self._since + wait_s)

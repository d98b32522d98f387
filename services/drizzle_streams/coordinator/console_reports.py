"""Which worker did what of a batch, and when the coordinator heard of it: for the console's timeline.

Stands between the links and the machine and keeps the last reports, as they came: one append per
report, nothing else, whether somebody looks or not. What it means for a batch is worked out only
when somebody looks.

Workers report finished tasks coalesced, so the time of a report is up to one report interval
(`core.reporting.REPORT_INTERVAL_S`) after the task ended. Where a job's workers watch for stragglers they
say when their tasks ended, too, and that is exact.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from drizzle_streams.core.events import Event, Received
from drizzle_streams.core.machine import Effects, Role
from drizzle_streams.model.ids import BatchId, JobId, NodeId, PartitionId, StageId, WorkerId
from drizzle_streams.protocol.messages import DoneReport, Message

REPORTS_KEPT_MAX = 2_000
"""Reports of all workers and jobs: ten seconds of four workers that report all the time."""
REPORTS_READ_MAX = 400
"""Reports that one look goes through, newest first."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A report, and cluster time in seconds when it came."""

    at: float
    report: DoneReport


@dataclass(frozen=True, slots=True)
class Times:
    """What is known of some batches, by batch and stage.

    `heard`: when each partition was first heard to be done (cluster time, s), and by whom. `took`: by
    worker, how long after the sealing its tasks ended, in ms; only where it was measured.
    """

    heard: dict[tuple[BatchId, StageId], dict[PartitionId, tuple[float, WorkerId]]] = field(
        default_factory=dict
    )
    took: dict[tuple[BatchId, StageId], dict[WorkerId, float]] = field(default_factory=dict)


class Reports:
    """A role that passes everything on to the one within; see `core.machine.Role`."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._heard: deque[Heard] = deque(maxlen=REPORTS_KEPT_MAX)

    def refuses(self, sender: NodeId, /) -> Message | None:
        """As the role says."""
        return self._role.refuses(sender)

    def handle(self, event: Event, now: float, out: Effects) -> None:
        """Something happened; reports are kept."""
        if isinstance(event, Received) and isinstance(event.message, DoneReport):
            self._heard.append(Heard(now, event.message))
        self._role.handle(event, now, out)

    def next_deadline(self) -> float | None:
        """As the role says."""
        return self._role.next_deadline()

    def on_deadline(self, now: float, out: Effects) -> None:
        """A deadline has passed."""
        self._role.on_deadline(now, out)

    def done(self, job: JobId, first: BatchId, last: BatchId, since: float) -> Times:
        """When the partitions of batches first..last were done, by reports since cluster time `since`."""
        found = Times()
        for heard in islice(reversed(self._heard), REPORTS_READ_MAX):
            if heard.at < since:
                break
            if heard.report.job == job:
                _note(heard, first, last, found)
        return found


def _note(heard: Heard, first: BatchId, last: BatchId, found: Times) -> None:
    """Reports are read newest first, so the earliest word of a partition is the one that stays."""
    for done in heard.report.done:
        for batch in range(max(first, done.first), min(last, done.last) + 1):
            row = found.heard.setdefault((BatchId(batch), done.stage), {})
            row.update(dict.fromkeys(done.partitions, (heard.at, heard.report.worker)))
    for task in heard.report.tasks:
        if first <= task.batch <= last:
            took = found.took.setdefault((task.batch, task.stage), {})
            took[heard.report.worker] = max(took.get(heard.report.worker, 0.0), task.milliseconds)

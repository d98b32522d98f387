"""How far a source may seal ahead of the last stages: credit for the whole chain, not for its readers alone.

Readers are credited for what they have computed (`core.window`), so they may run as far ahead of the stages
below as is launched: hundreds of batches, each announced to every worker below, which is what keeps those
from their work. So the last stages count too: they say `Taken` to all sources every `SAY_EVERY_BATCHES`, and
a source seals no more than `AHEAD_WINDOWS_MAX` windows beyond the slowest of them. Where a batch is announced
many times they speak once in a window: what a source may seal at once is announced as one range
(`core.untold`), and longer ranges are fewer messages. What waits meanwhile makes the next batch larger, like
any back-pressure.

Nobody waits for ever for what is not known:

- A word is missing where a new generation began, or a source has a new life. Who has not spoken since does
  not count, except where nothing was ever sealed: then it stands before the first batch.
- Nor does who is further behind than the bound when a generation begins. It replays, and others go on.
- Words are lost with a queue that overflows: then they are said again.
"""

from __future__ import annotations

from collections.abc import Sequence

from drizzle_streams.core.window import in_flight_max
from drizzle_streams.model.ids import NO_BATCH, BatchId, PartitionId, StageId
from drizzle_streams.model.job import JobSpec, StageSpec
from drizzle_streams.model.placement import Placement

AHEAD_WINDOWS_MAX = 2
"""Windows of batches sealed that some last stage has yet to compute; at the bound the source waits."""

AHEAD_BATCHES_SPARE = 4
"""Beyond one window, in any case: words are said every few batches, and meanwhile there must be work."""

ANNOUNCEMENTS_MAX = 8_192
"""Announcements under way that the batches ahead may come to: hearing more takes longer than answers may."""

SAY_EVERY_BATCHES = 4
"""How often a last stage says how far it is: more often than the bound, so that who is at it has spoken."""

MANY_ANNOUNCEMENTS = 512
"""Announcements of a batch beyond which ranges must be long: they cost more than waiting for them."""

UNBOUNDED = BatchId(1 << 62)
"""Where nobody counts."""


def is_last(spec: JobSpec, stage: StageSpec) -> bool:
    """Whether a stage is at the end of a chain, with readers of streams above it."""
    return stage.stream is None and not spec.downstream(stage.stage)


def says(spec: JobSpec, stage: StageSpec, batch: BatchId, every: int) -> bool:
    """Whether its workers tell sources that they have computed this batch; `every`: see `say_every`."""
    return (batch + 1) % every == 0 and is_last(spec, stage)


def announcements(spec: JobSpec, placement: Placement) -> int:
    """How often a batch is announced: by every worker to those below."""
    workers = [len(frozenset(owners)) for owners in placement.owners]
    return sum(workers[above] * workers[stage.stage] for stage in spec.stages for above in stage.inputs)


def say_every(spec: JobSpec, placement: Placement) -> int:
    """After how many batches a last stage speaks."""
    return in_flight_max(spec.batch_interval_ms) if _is_many(spec, placement) else SAY_EVERY_BATCHES


def ahead_max(spec: JobSpec, placement: Placement) -> int:
    """How many batches may be ahead of the last stages; those between two words are announced together."""
    together = ANNOUNCEMENTS_MAX * say_every(spec, placement)
    most = together // max(1, announcements(spec, placement))
    window = in_flight_max(spec.batch_interval_ms)
    return max(window + AHEAD_BATCHES_SPARE, min(AHEAD_WINDOWS_MAX * window, most))


def under_way_max(spec: JobSpec, placement: Placement) -> int:
    """How many batches may be under way at readers: a window of them (`core.window`).

    Where last stages speak once in a window, as many as may be ahead of those. Else readers give back what
    they took together, the next range is as long as the last one, and one that was short once stays so.
    """
    window = in_flight_max(spec.batch_interval_ms)
    return max(window, ahead_max(spec, placement)) if _is_many(spec, placement) else window


def _is_many(spec: JobSpec, placement: Placement) -> bool:
    return announcements(spec, placement) > MANY_ANNOUNCEMENTS


class Below:
    """What one source knows of the last stages of one job."""

    def __init__(self) -> None:
        self._ahead_max = 0
        self._computed: dict[tuple[StageId, PartitionId], BatchId] = {}
        self._counts_from = NO_BATCH
        self._through: BatchId | None = None
        """The last batch that may be sealed; None: to be looked up."""

    def begin(self, spec: JobSpec, placement: Placement, sealed: BatchId) -> None:
        """A new generation, or a new life of the source; it has sealed so far."""
        self._computed = {}
        self._ahead_max = ahead_max(spec, placement)
        self._counts_from = BatchId(sealed - self._ahead_max)
        if sealed == NO_BATCH:
            last = [stage for stage in spec.stages if is_last(spec, stage)]
            every = ((one.stage, PartitionId(p)) for one in last for p in range(one.partitions))
            self._computed = dict.fromkeys(every, NO_BATCH)
        self._through = None

    def computed(self, stage: StageId, partitions: Sequence[PartitionId], batch: BatchId) -> None:
        """A last stage has computed a batch, of these partitions."""
        if batch < self._counts_from:
            return
        for partition in partitions:
            self._computed[stage, partition] = max(batch, self._computed.get((stage, partition), NO_BATCH))
        self._through = None

    def allows(self, batch: BatchId) -> bool:
        """Whether a batch may be sealed."""
        if self._through is None:
            slowest = min(self._computed.values(), default=UNBOUNDED)
            self._through = BatchId(slowest + self._ahead_max)
        return batch <= self._through

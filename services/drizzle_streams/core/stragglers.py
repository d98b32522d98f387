"""Who is a straggler: workers that are late alone lose their partitions, and earn them back.

D-Streams (section 5) calls a task a straggler when it takes more than 1.4 times the median of its
stage. At 50 ms batches, where tasks take a few milliseconds, that alone would be noise, so a task must
also be late by an amount that costs something (`slow_after_ms`). The rules:

- Compared is lateness, from sealing to the end of the task, among the owners of one stage in one batch.
  What delays all of them alike (a slow source, a busy machine, a stage above) is nobody's fault. A stopped
  worker cannot time itself, but the clock of the source goes on.
- A worker that is late in several batches, more than once or for long, is *relieved*: it keeps running
  and gets no partitions at the next boundary. Only where the others have room for its work, and never
  more than half of the workers: a median says nothing about a majority.
- It is *reinstated* when it has not stalled for a while, which it measures itself while it has nothing to
  do (`core.stalls`), or as soon as the others have no room: their slots are full, or most tasks are late.
  Who relapses waits twice as long, and who could not be spared is let be for as long.

- A coordinator that takes over knows from the ledger who was relieved, and how often.

Everything here is a guess that costs a move if it is wrong, and never a result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median_low

from drizzle_streams.core.headroom import headroom
from drizzle_streams.core.membership import Member
from drizzle_streams.model.ids import BatchId, JobId, StageId, WorkerId
from drizzle_streams.protocol.records import Relief

SLOW_RATIO = 1.4
"""Slower than so many times the median of its stage (D-Streams section 5) ..."""

SLOW_AFTER_MS_MIN = 50.0
"""... and by at least so many milliseconds: what a busy machine delays a process by now and then."""

SLOW_WITHIN_S = 5.0
"""Slow batches count for so long."""

SLOW_BATCHES = 6
"""Slow batches after which a worker is relieved, if it was slow more than once or for `SLOW_FOR_S`."""

SLOW_AGAIN_S = 0.4
"""A pause that parts one time of being slow from the next: what a single stop delays is reported together."""

SLOW_FOR_S = 1.0
"""Being slow without such a pause for so long is as good as being slow twice."""

PENANCE_S = 5.0
"""Without a stall for so long, a relieved worker is reinstated; twice as long after each relapse."""

PENANCE_S_MAX = 300.0

REFORMED_S = 60.0
"""Who keeps partitions for so long without being relieved begins anew with `PENANCE_S`."""

ROOM_RATIO = 0.8
"""Others have room for the work of who is relieved if it makes them no busier than this (0..1)."""

CROWDED_AFTER_MS_MIN = 200.0
"""The others have no room, whatever their slots say, when most tasks are so late ..."""

CROWDED_AFTER_BATCHES = 4
"""... and by so many batch intervals: a source seals on for eight."""

TASKS_RECENT = 32
"""Tasks, of all workers, whose lateness shows that there is no room."""

BATCHES_COMPARED_MAX = 512
"""Batches of stages that wait for the report of their last owner; the oldest are forgotten."""

Task = tuple[JobId, StageId, BatchId]


def slow_after_ms(batch_interval_ms: float) -> float:
    """How much later than the median a task must be: what is later by less delays no further batch."""
    return max(SLOW_AFTER_MS_MIN, batch_interval_ms)


def is_slow(late_ms: float, median_ms: float, batch_interval_ms: float) -> bool:
    """Whether a task that is so late is a straggler in its stage."""
    return late_ms > max(SLOW_RATIO * median_ms, median_ms + slow_after_ms(batch_interval_ms))


@dataclass(slots=True)
class Conduct:
    """What is known of one worker. `slow`: batches in which it was slow, and when that was heard."""

    slow: deque[tuple[float, JobId, BatchId]] = field(default_factory=deque[tuple[float, JobId, BatchId]])
    relieved_at: float | None = None
    spared_until: float = 0.0
    reinstated_at: float | None = None
    stalled_at: float = 0.0
    penance_s: float = PENANCE_S

    @classmethod
    def after(cls, relief: Relief, now: float) -> Conduct:
        """As the ledger remembers it. Whether it stalled meanwhile nobody has heard, so as if it just had."""
        return cls(
            relieved_at=relief.relieved_at,
            reinstated_at=relief.reinstated_at,
            spared_until=relief.spared_until,
            stalled_at=now,
            penance_s=relief.penance_s,
        )

    def note_slow(self, now: float, job: JobId, batch: BatchId) -> None:
        """It was slow; stages of one batch count once."""
        self.forget(now)
        if all((job, batch) != (known, which) for _, known, which in self.slow):
            self.slow.append((now, job, batch))

    def forget(self, now: float) -> None:
        """What is long ago no longer counts."""
        while self.slow and self.slow[0][0] < now - SLOW_WITHIN_S:
            self.slow.popleft()

    @property
    def penance_ends(self) -> float | None:
        """When it may be reinstated, if it does not stall any more; None where it is not relieved.

        The deadline and the judgement ask the same: computed in two ways they may differ by the last bit of
        a float, and what is due is then never done.
        """
        return None if self.relieved_at is None else max(self.stalled_at, self.relieved_at) + self.penance_s

    def is_straggler(self) -> bool:
        """Slow in several batches, and that more than once or for long."""
        if len(self.slow) < SLOW_BATCHES:
            return False
        times = [at for at, _, _ in self.slow]
        again = any(at - before > SLOW_AGAIN_S for before, at in pairwise(times))
        return again or times[-1] - times[0] >= SLOW_FOR_S


class Stragglers:
    """Judges all workers of a cluster, from what their jobs report and what their heartbeats say."""

    def __init__(self) -> None:
        self._compared: dict[Task, dict[WorkerId, float]] = {}
        self._conduct: dict[WorkerId, Conduct] = {}
        self._remembered: dict[WorkerId, Relief] = {}
        """Of the ledger, of workers that have not come back to this coordinator yet."""
        self._recent: deque[bool] = deque(maxlen=TASKS_RECENT)
        self.times_relieved = 0

    @property
    def relieved(self) -> frozenset[WorkerId]:
        """Workers that are to have no partitions for now."""
        return frozenset(w for w, conduct in self._conduct.items() if conduct.relieved_at is not None)

    def relief(self) -> tuple[Relief, ...]:
        """What the next coordinator must know of those who have been relieved."""
        present = {
            worker: Relief(worker, c.relieved_at, c.reinstated_at, c.spared_until, c.penance_s)
            for worker, c in self._conduct.items()
            if c.relieved_at is not None or c.reinstated_at is not None
        }
        found = self._remembered | present
        return tuple(found[worker] for worker in sorted(found))

    def remember(self, relief: Iterable[Relief]) -> None:
        """A new coordinator: what the one before knew."""
        self._remembered |= {line.worker: line for line in relief}

    def welcome_back(self, workers: Sequence[Member], now: float) -> list[WorkerId]:
        """Who of the remembered is here again is what it was; returns those who are relieved still."""
        back = [WorkerId(m.node) for m in workers if self._remembered and m.node in self._remembered]
        for worker in back:
            self._conduct[worker] = Conduct.after(self._remembered.pop(worker), now)
        return [worker for worker in back if worker in self.relieved]

    def slow_batches(self, worker: WorkerId, now: float) -> int:
        """In how many of the last seconds' batches it was slow: for people."""
        conduct = self._conduct.get(worker)
        if conduct is None:
            return 0
        conduct.forget(now)
        return len(conduct.slow)

    def finished(
        self, task: Task, worker: WorkerId, late_ms: float, owners: int, interval_ms: float, now: float
    ) -> None:
        """A worker's task ended so long after its batch was sealed; judged when all `owners` have one."""
        if owners < 2:
            self._note_room(task[1], late_ms, interval_ms)
            return
        late = self._compared.setdefault(task, {})
        late[worker] = late_ms
        if len(late) >= owners:
            del self._compared[task]
            self._compare(task, late, interval_ms, now)
        while len(self._compared) > BATCHES_COMPARED_MAX:
            del self._compared[next(iter(self._compared))]

    def _compare(self, task: Task, late: Mapping[WorkerId, float], interval_ms: float, now: float) -> None:
        typical = median_low(late.values())
        self._note_room(task[1], typical, interval_ms)
        for worker, late_ms in late.items():
            if is_slow(late_ms, typical, interval_ms):
                self._of(worker).note_slow(now, task[0], task[2])

    def _note_room(self, stage: StageId, late_ms: float, interval_ms: float) -> None:
        """Only of the first stage, which reads: the others may be late for want of one straggler's blocks."""
        if stage == 0:
            self._recent.append(late_ms > max(CROWDED_AFTER_MS_MIN, CROWDED_AFTER_BATCHES * interval_ms))

    def heard(self, worker: WorkerId, stalled_ms: float, now: float) -> None:
        """A heartbeat with the worker's longest stall since the one before."""
        if stalled_ms > SLOW_AFTER_MS_MIN and worker in self._conduct:
            self._conduct[worker].stalled_at = now

    def judge(self, workers: Sequence[Member], now: float) -> list[tuple[WorkerId, str]]:
        """Relieve and reinstate; returns who is newly reinstated, and why. `workers`: those who stay."""
        here = {WorkerId(member.node): member for member in workers}
        for gone in self._conduct.keys() - here.keys():
            del self._conduct[gone]
        back: list[tuple[WorkerId, str]] = []
        for worker in sorted(self.relieved):
            conduct = self._conduct[worker]
            ends = conduct.penance_ends
            crowded = self._crowded() or not _room_without(self.relieved, workers, 1.0)
            if crowded or (ends is not None and ends <= now):
                conduct.relieved_at, conduct.reinstated_at = None, now
                conduct.spared_until = now + conduct.penance_s if crowded else now
                reason = "the others have no room" if crowded else f"no stall for {conduct.penance_s:g} s"
                back.append((worker, reason))
        return back

    def relieve(self, workers: Sequence[Member], now: float) -> list[tuple[WorkerId, str]]:
        """Who is newly relieved, and why."""
        found: list[tuple[WorkerId, str]] = []
        for member in workers:
            worker = WorkerId(member.node)
            conduct = self._conduct.get(worker)
            if conduct is None or conduct.relieved_at is not None or now < conduct.spared_until:
                continue
            conduct.forget(now)
            without = self.relieved | {worker}
            if (
                conduct.is_straggler()
                and 2 * len(without) <= len(workers)
                and not self._crowded()
                and _room_without(without, workers, ROOM_RATIO)
            ):
                found.append((worker, f"slow in {len(conduct.slow)} batches of {SLOW_WITHIN_S:g} s"))
                self._relieve(conduct, now)
        return found

    def next_deadline(self) -> float | None:
        """When the first relieved worker may be reinstated."""
        times = [conduct.penance_ends for conduct in self._conduct.values()]
        return min((at for at in times if at is not None), default=None)

    def _relieve(self, conduct: Conduct, now: float) -> None:
        if conduct.reinstated_at is not None:
            relapsed = now - conduct.reinstated_at < REFORMED_S
            conduct.penance_s = min(2 * conduct.penance_s, PENANCE_S_MAX) if relapsed else PENANCE_S
        conduct.relieved_at = now
        conduct.slow.clear()
        self._recent.clear()
        self.times_relieved += 1

    def _of(self, worker: WorkerId) -> Conduct:
        return self._conduct.setdefault(worker, Conduct())

    def _crowded(self) -> bool:
        """Whether most tasks of late are late, whoever has them: everybody has too much to do."""
        return len(self._recent) == TASKS_RECENT and 2 * sum(self._recent) > TASKS_RECENT


def _room_without(away: frozenset[WorkerId], workers: Sequence[Member], ratio: float) -> bool:
    """Whether the others could do all of the work: the rule of `core.headroom` for a loss of these."""
    found = headroom(workers)
    rest = sum(member.size for member in workers if WorkerId(member.node) not in away)
    slots = sum(member.size for member in workers)
    return found is not None and rest > 0 and found.utilisation < ratio * rest / slots

"""What coordination costs: time per turn, launch messages and their bytes (Drizzle, section 3.4).

Stands between driver and machine. A turn runs from the machine being called to the driver
calling it again: planning, writing the ledger, encoding and sending. Turns that launch count
against the jobs they launch; `overhead` is their time over all the time that passed, for the
last groups. The figure is what the paper's group-size tuner steers by. What launching a group
took is told to `on_launch`, so that the machine within can hear of it as an event.

Processor time of those turns is counted beside the clock's: on a machine that others use a turn takes as
long as it waits for its share of it. So are the turns: one that launches several small groups says them in
one message to each node, and costs what one group does.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from drizzle_streams.core.events import Event, LaunchMeasured
from drizzle_streams.core.machine import Actions, Machine
from drizzle_streams.model.ids import GroupId, JobId
from drizzle_streams.protocol.codec import encode_record
from drizzle_streams.protocol.messages import Launch, LaunchStage, Message

TURNS_KEPT = 64
"""Launching turns that `overhead` looks back on, per job."""


@dataclass(slots=True)
class JobCost:
    """Coordination of one job: totals, and (start, seconds) of its last launching turns."""

    messages: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    launching_turns: int = 0
    turns: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=TURNS_KEPT))

    @property
    def overhead(self) -> float:
        """Coordination time over total time (0..1); 0 until two turns launched."""
        if len(self.turns) < 2:
            return 0.0
        passed = self.turns[-1][0] - self.turns[0][0]
        spent = sum(seconds for _, seconds in self.turns) - self.turns[-1][1]
        return min(1.0, spent / passed) if passed > 0 else 1.0

    @property
    def seconds_per_turn(self) -> float:
        """Mean cost of the launching turns kept; 0 before the first."""
        return sum(seconds for _, seconds in self.turns) / len(self.turns) if self.turns else 0.0


class Stopwatch:
    """A machine that measures the one within; see `core.machine.Machine`."""

    def __init__(
        self,
        machine: Machine,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._machine = machine
        self._clock = clock
        self._cpu_clock = cpu_clock
        self.on_launch: Callable[[LaunchMeasured], None] = _unheard
        self._since: float | None = None
        self._cpu_since = 0.0
        self._decided = 0.0
        self._groups: dict[tuple[JobId, GroupId], None] = {}
        self._launching: frozenset[JobId] = frozenset()
        self.busy_seconds = 0.0
        self.jobs: dict[JobId, JobCost] = {}

    def handle(self, event: Event, now: float) -> Actions:
        """One turn begins."""
        self._turn_ends()
        self._since, self._cpu_since = self._clock(), self._cpu_clock()
        return self._noted(self._machine.handle(event, now))

    def on_deadline(self, now: float) -> Actions:
        """One turn begins."""
        self._turn_ends()
        self._since, self._cpu_since = self._clock(), self._cpu_clock()
        return self._noted(self._machine.on_deadline(now))

    def next_deadline(self) -> float | None:
        """The driver has carried out the turn before."""
        self._turn_ends()
        return self._machine.next_deadline()

    def cost(self, job: JobId) -> JobCost:
        """What the coordination of a job has cost so far."""
        return self.jobs.get(job, JobCost())

    def forget(self, job: JobId) -> None:
        """The job has ended."""
        self.jobs.pop(job, None)

    def _noted(self, actions: Actions) -> Actions:
        self._decided = self._clock()
        launched: set[JobId] = set()
        sized: tuple[Message | None, int] = (None, 0)
        for send in actions.send:
            for item in send.envelope.items:
                message = item.message
                if not isinstance(message, Launch | LaunchStage):
                    continue
                if isinstance(message, Launch):
                    self._groups[message.job, message.group] = None
                if sized[0] is not message:  # one launch goes to every node of the group
                    sized = (message, len(encode_record(message)))
                cost = self.jobs.setdefault(message.job, JobCost())
                cost.messages += 1
                cost.bytes += sized[1]
                launched.add(message.job)
        self._launching = frozenset(launched)
        return actions

    def _turn_ends(self) -> None:
        if self._since is None:
            return
        ended = self._clock()
        spent = ended - self._since
        for job in self._launching:
            share = spent / len(self._launching)
            cost = self.jobs[job]
            cost.seconds += share
            cost.launching_turns += 1
            cost.cpu_seconds += (self._cpu_clock() - self._cpu_since) / len(self._launching)
            cost.turns.append((self._since, share))
        self.busy_seconds += spent
        for job, group in self._groups:
            groups = len(self._groups)
            plan_s, carry_out_s = (self._decided - self._since) / groups, (ended - self._decided) / groups
            self.on_launch(LaunchMeasured(job, group, plan_s, carry_out_s))
        self._groups.clear()
        self._since, self._launching = None, frozenset()


def _unheard(measured: LaunchMeasured) -> None:
    """A stopwatch that nobody listens to only counts."""

"""A seeded world: real machines, virtual time, a network and processes that fail on command.

Everything random comes from one seed, so a seed is a story that can be told again. Messages
travel through the real codec. Faults: loss, delay, duplication, reordering, partition, pause,
crash and restart of every service. The checkers sit in `disks`, outside of the machines.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from drizzle_streams.core import events as ev
from drizzle_streams.core.actions import FetchBlocks
from drizzle_streams.core.coordinator import Coordinator, CoordinatorSettings
from drizzle_streams.core.machine import Actions
from drizzle_streams.core.node import Node
from drizzle_streams.core.source import Source, SourceSettings
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.errors import FencedError
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import COORDINATOR, BatchId, Generation, NodeId, SourceId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.task import TaskKey
from drizzle_streams.protocol.codec import decode_envelope, encode_envelope
from drizzle_streams.protocol.messages import Envelope
from tests.simulation.disks import (
    BrokenPromiseError,
    SimHistory,
    SimLedger,
    SimSink,
    SimSnapshots,
    SimSourceDisk,
)
from tests.simulation.performers import Block, SimCoordinator, SimSource, SimWorker, TaskRun
from tests.simulation.values import JOB, spec, sum_records

LEASE_S = 1.0
STREAM_PARTITIONS_PER_SOURCE = 2
LOOKS_AT_ONCE_MAX = 100
"""So many deadlines of one machine may have passed at one instant."""


@dataclass(frozen=True)
class Weather:
    """How bad the network is: probabilities per frame, delays in seconds."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_s: tuple[float, float] = (0.0003, 0.002)
    straggle: float = 0.0
    straggle_s: float = 0.5


@dataclass
class Life:
    """One life of a process: ends by crash; a paused one takes nothing in until it resumes."""

    world: World
    id: NodeId
    kind: str
    alive: bool = True
    paused: bool = False
    machine: Any = field(init=False)
    performer: Any = field(init=False)
    held_back: list[Callable[[], object]] = field(default_factory=list)
    _timer: float | None = None
    _looks: int = 0
    """How often a deadline had passed since the clock last moved."""
    _looked_at: float = 0.0

    def post(self, event: ev.Event) -> None:
        self.act(lambda: self.carry_out(self.machine.handle(event, self.world.now)))

    def later(self, seconds: float, make: Callable[[], ev.Event | None]) -> None:
        """Work that ends in one event, unless this life ends first, or in None if nobody wants to know."""
        self.world.at(self.world.now + seconds, lambda: self.act(lambda: self._end(make)))

    def _end(self, make: Callable[[], ev.Event | None]) -> None:
        event = make()
        if event is not None:
            self.carry_out(self.machine.handle(event, self.world.now))

    def act(self, what: Callable[[], object]) -> None:
        if not self.alive:
            return
        if self.paused:
            self.held_back.append(what)
        else:
            what()

    def carry_out(self, actions: Actions) -> None:
        """The driver's law: persist, send, start."""
        if actions.persist:
            assert isinstance(self.performer, SimCoordinator)
            try:
                self.world.ledger.write(self.performer.generation, actions.persist)
            except FencedError:
                self.world.crash(self)
                return
        for send in actions.send:
            self.world.network_send(self, send.to, send.envelope)
        for start in actions.start:
            self.performer.perform(start)
            if not self.alive:
                return
        self.plan_deadline()

    def plan_deadline(self) -> None:
        deadline = self.machine.next_deadline()
        if deadline is None:
            return
        when = max(deadline, self.world.now + self.world.turn_s)
        if self._timer is not None and self._timer <= when:
            return  # an earlier timer will look again
        self._timer = when
        self.world.at(when, lambda: self.act(lambda: self._on_deadline(when)))

    def _on_deadline(self, when: float) -> None:
        if when != self._timer:
            return  # an earlier timer took its place and has looked
        deadline = self.machine.next_deadline()
        self._timer = None
        if deadline is not None and deadline <= self.world.now:
            self._demand_rest()
            self.carry_out(self.machine.on_deadline(self.world.now))
        else:
            self.plan_deadline()

    def _demand_rest(self) -> None:
        """A machine that asks for the same instant again and again would keep a real processor busy."""
        if self._looked_at != self.world.now:
            self._looked_at, self._looks = self.world.now, 0
        self._looks += 1
        assert self._looks <= LOOKS_AT_ONCE_MAX, f"{self.id} asks to be looked at again and again"


class World:
    """Everything there is, for one seed."""

    def __init__(self, seed: int, *, workers: int = 3, sources: int = 2, job: JobSpec | None = None) -> None:
        self.random = random.Random(seed)
        self.now = 1_000.0
        self.weather = Weather()
        self.queue: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._names = itertools.count(1)
        self.lives: dict[str, Life] = {}
        self.cut: set[frozenset[str]] = set()
        self.ledger = SimLedger()
        self.sink_seconds_max = 0.01
        self.snapshots = SimSnapshots()
        names = [f"source-{i + 1}" for i in range(sources)]
        self.disks = {name: SimSourceDisk(STREAM_PARTITIONS_PER_SOURCE) for name in names}
        self.history = SimHistory(self.disks)
        self.sink = SimSink(self.history)
        self.asked = 0
        self.handed_over = 0
        self.blocks_max = 1 << 30
        self.turn_s = 0.0
        """How long a driver handles what comes before it looks at its deadlines."""
        self.choices: dict[object, object] = {}
        self.slow: dict[str, float] = {}
        self.cost: Callable[[TaskKey], float] | None = None
        self.arrivals_max = 2
        self.stopped: set[str] = set()
        self.copies_lost = 0
        self.raising_s = 0.0
        self.tasks: list[TaskRun] = []
        self.pulled: list[tuple[float, FetchBlocks, BatchId]] = []
        self.records_sent = 0
        self.producing = True
        self.job = job or spec()
        self.start_coordinator()
        for name in names:
            self.start_source(name)
        for _ in range(workers):
            self.start_worker()
        self.at(self.now + 0.1, lambda: self.coordinator.post(ev.JobSubmitted(self.job)))
        self.at(self.now + 0.01, self._produce)

    # --- time and chance ------------------------------------------------------------------

    def at(self, when: float, what: Callable[[], object]) -> None:
        heapq.heappush(self.queue, (when, next(self._numbers), what))

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; True as soon as `until` holds."""
        end = self.now + seconds
        while self.queue and self.queue[0][0] <= end:
            when, _, what = heapq.heappop(self.queue)
            self.now = max(self.now, when)
            what()
            if until is not None and until():
                return True
        self.now = end
        return until is not None and until()

    def uniform(self, low: float, high: float) -> float:
        return self.random.uniform(low, high)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def task_seconds(self, life: Life, key: TaskKey) -> float:
        if self.cost is not None:
            return self.cost(key) * self.slow.get(life.id, 1.0)
        return self.uniform(0.0005, 0.004) * self.slow.get(life.id, 1.0)

    # --- input ----------------------------------------------------------------------------

    def _produce(self) -> None:
        """Records arrive at living sources all the time."""
        if not self.producing:
            return
        for name, disk in self.disks.items():
            life = self.lives.get(name)
            if life is not None and life.alive and not life.paused:
                for log in disk.logs:
                    for _ in range(self.random.randrange(self.arrivals_max + 1)):
                        log.append((self.random.randrange(12), self.random.randrange(100)))
                        self.records_sent += 1
        self.at(self.now + 0.01, self._produce)

    def input_of(self, bounds: tuple[Bounds, ...]) -> Block | None:
        """Sums per partition, or None where the input lies behind the checkpoint and is gone.

        A late repeat of an old offer may ask for it; whoever still needs it makes no progress.
        """
        self.learn_layout()
        found: Block = {}
        for bound in bounds:
            owner, local = self.history.local(bound.partition)
            if bound.records and bound.first < self.disks[owner].starts[local]:
                return None
            found[int(bound.partition)] = sum_records(self.disks[owner].logs[local][bound.first : bound.end])
        return found

    # --- network --------------------------------------------------------------------------

    def network_send(self, life: Life, to: str, envelope: Envelope) -> None:
        for item in envelope.items:
            if type(item.message).__name__ == "Overdue":
                self.asked += 1
        payloads = tuple(life.performer.attach(item.message) for item in envelope.items)
        frame = encode_envelope(envelope, tuple(None for _ in payloads))
        copies = 2 if self.chance(self.weather.duplicate) else 1
        for _ in range(copies):
            if self.chance(self.weather.loss):
                continue
            delay = self.uniform(*self.weather.delay_s)
            if self.chance(self.weather.straggle):
                delay += self.uniform(0, self.weather.straggle_s)
            self.at(self.now + delay, partial(self._deliver, life.id, to, frame, payloads))

    def _deliver(self, sender: str, to: str, frame: bytes, payloads: tuple[object | None, ...]) -> None:
        life = self.reach(sender, to, paused_too=True)
        if life is None:
            other = self.lives.get(sender)
            if other is not None:
                other.post(ev.PeerUnreachable(NodeId(to)))
            return

        def take() -> None:
            envelope, _ = decode_envelope(frame)
            carried = tuple(
                payload is not None and life.performer.absorb(sender, item.message, payload)
                for item, payload in zip(envelope.items, payloads, strict=True)
            )
            life.carry_out(life.machine.handle(ev.EnvelopeArrived(envelope, carried), self.now))

        life.act(take)

    def reach(self, sender: str, to: str, *, paused_too: bool = False) -> Life | None:
        """The living node `to`, if the network lets `sender` through."""
        life = self.lives.get(to)
        if life is None or not life.alive or (life.paused and not paused_too):
            return None
        return None if frozenset((sender, to)) in self.cut else life

    # --- processes ------------------------------------------------------------------------

    @property
    def coordinator(self) -> Life:
        return self.lives[COORDINATOR]

    def raise_generation(self) -> int:
        return self.ledger.raise_generation()

    def _session(self) -> int:
        return int(self.now * 1000) + next(self._names)

    def _begin(self, life: Life) -> Life:
        self.lives[life.id] = life
        life.plan_deadline()
        return life

    def start_coordinator(self) -> Life:
        life = Life(self, COORDINATOR, "coordinator")
        generation = self.raise_generation()
        records = self.ledger.read()
        role = Coordinator(CoordinatorSettings(LEASE_S), Generation(generation), records, self.now)
        life.machine = Node(COORDINATOR, self._session(), role)
        life.performer = SimCoordinator(self, life, generation)
        return self._begin(life)

    def start_worker(self) -> Life:
        life = Life(self, NodeId(f"worker-{next(self._names)}"), "worker")
        role = Worker(WorkerSettings(WorkerId(life.id), f"sim://{life.id}", slots=1))
        life.machine = Node(life.id, self._session(), role)
        life.performer = SimWorker(self, life)
        return self._begin(life)

    def add_source(self) -> Life:
        """A source that nobody knew before."""
        name = f"source-{len(self.disks) + 1}"
        self.disks[name] = SimSourceDisk(STREAM_PARTITIONS_PER_SOURCE)
        return self.start_source(name)

    def start_source(self, name: str) -> Life:
        life = Life(self, NodeId(name), "source")
        role = Source(SourceSettings(SourceId(name), f"sim://{name}", STREAM_PARTITIONS_PER_SOURCE))
        disk = self.disks[name]
        for job, batches in disk.bounds.items():
            flat = tuple(bound for bounds in batches.values() for bound in bounds)
            role.recover(job, Generation(self.born()), StageId(0), flat, self.now)  # type: ignore[arg-type]
        life.machine = Node(life.id, self._session(), role)
        performer = SimSource(self, life)
        life.performer = performer
        return self._begin(life)

    def born(self) -> int:
        job = self.coordinator.machine.role.jobs.get(JOB)
        return int(job.spec.born) if job else 0

    def crash(self, life: Life) -> None:
        life.alive = False
        life.held_back.clear()

    def pause(self, life: Life) -> None:
        life.paused = True

    def resume(self, life: Life) -> None:
        life.paused = False
        waiting, life.held_back = life.held_back, []
        for what in waiting:
            life.act(what)
        if life.alive:
            life._timer = None
            life.plan_deadline()

    def stop(self, life: Life, seconds: float) -> None:
        """SIGSTOP and SIGCONT: unlike one that is cut off, it answers requests when it goes on."""

        def go_on() -> None:
            self.stopped.discard(life.id)
            self.resume(life)

        if life.alive and not life.paused:
            self.stopped.add(life.id)
            self.pause(life)
            self.at(self.now + seconds, go_on)

    def is_stopped(self, node: str) -> bool:
        """Whether that node lives and is stopped for a moment."""
        return node in self.stopped and self.lives[node].alive

    def rejoin(self, life: Life) -> None:
        """A worker that was refused starts a new life."""
        self.crash(life)
        self.start_worker()

    def of_kind(self, kind: str) -> list[Life]:
        return [life for life in self.lives.values() if life.kind == kind and life.alive]

    # --- looking --------------------------------------------------------------------------

    @property
    def job_state(self):
        """The coordinator's state of the job."""
        return self.coordinator.machine.role.jobs[JOB]

    def learn_layout(self) -> None:
        """The oracle reads where stream partitions lie from the coordinator's decision."""
        job = self.coordinator.machine.role.jobs.get(JOB)
        if job is not None and job.layouts:
            layout = job.layouts[0]
            if self.history.layout != layout.owners[: len(self.history.layout)]:
                raise BrokenPromiseError(f"partitions of {self.history.layout} became {layout.owners}")
            if len(layout.owners) > len(self.history.layout):
                self.history.layout, self.history.since = layout.owners, layout.since

    @property
    def written(self) -> int:
        """The last batch whose output is in the sink for every partition."""
        return self.sink.written

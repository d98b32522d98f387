"""A seed's bad luck: which fault comes when, and the healing at the end."""

from __future__ import annotations

from collections.abc import Callable

from drizzle_streams.core.events import LeaveRequested, NodeExited
from drizzle_streams.model.ids import COORDINATOR
from tests.simulation.values import JOB
from tests.simulation.world import Life, Weather, World

WORKERS_MAX = 4
SOURCES_MAX = 3


class Nemesis:
    """Breaks a world for a while, then heals it. Always leaves a way back: nothing stays dead."""

    def __init__(self, world: World, until: float) -> None:
        self.world, self.until = world, until
        self.told: list[str] = []
        rain = world.random.random()
        if rain < 0.6:
            world.weather = Weather(
                loss=world.uniform(0, 0.15),
                duplicate=world.uniform(0, 0.1),
                delay_s=(0.0003, world.uniform(0.001, 0.02)),
                straggle=world.uniform(0, 0.05),
                straggle_s=world.uniform(0.05, 1.0),
            )
        world.at(world.now + world.uniform(0.3, 0.8), self._strike)

    def _strike(self) -> None:
        world = self.world
        if world.now >= self.until:
            return
        blows: list[Callable[[], None]] = [
            self._crash_worker,
            self._crash_worker,
            self._pause_worker,
            self._crash_coordinator,
            self._pause_coordinator,
            self._crash_source,
            self._pause_source,
            self._cut,
            self._slow,
            self._join,
            self._exit_worker,
            self._drain,
            self._add_source,
            self._resize,
        ]
        world.random.choice(blows)()
        world.at(world.now + world.uniform(0.05, 1.2), self._strike)

    def _tell(self, text: str) -> None:
        self.told.append(f"{self.world.now - 1000:.3f} {text}")

    def _victim(self, kind: str) -> Life | None:
        living = [life for life in self.world.of_kind(kind) if not life.paused]
        return self.world.random.choice(living) if living else None

    def _crash_worker(self) -> None:
        victim = self._victim("worker")
        if victim is not None:
            self._tell(f"crash {victim.id}")
            self.world.crash(victim)
            self.world.at(self.world.now + self.world.uniform(0.05, 1.5), self._join)

    def _exit_worker(self) -> None:
        """A crash that a supervisor sees, as in a local cluster."""
        victim = self._victim("worker")
        if victim is not None:
            self._tell(f"exit {victim.id}")
            self.world.crash(victim)
            self.world.coordinator.post(NodeExited(victim.id))
            self.world.at(self.world.now + self.world.uniform(0.05, 0.5), self._join)

    def _join(self) -> None:
        if len(self.world.of_kind("worker")) < WORKERS_MAX:
            self._tell(f"join {self.world.start_worker().id}")

    def _add_source(self) -> None:
        if len(self.world.disks) < SOURCES_MAX:
            self._tell(f"add {self.world.add_source().id}")

    def _drain(self) -> None:
        """A worker is asked to stop; another comes."""
        victim = self._victim("worker")
        if victim is not None:
            self._tell(f"drain {victim.id}")
            victim.post(LeaveRequested())
            self.world.at(self.world.now + self.world.uniform(0.05, 1.5), self._join)

    def _resize(self) -> None:
        """Other numbers of partitions are wanted, until a new coordinator has an opinion of its own."""
        job = self.world.coordinator.machine.role.jobs.get(JOB)
        if job is not None and any(stage.partitions_least for stage in job.spec.stages):
            counts = [self.world.random.randrange(1, 9) for _ in job.spec.stages]
            self._tell(f"partitions {counts[1:]}")
            job.resizing.policy = lambda stage, *_: counts[stage.stage]

    def _pause_worker(self) -> None:
        self._pause(self._victim("worker"), self.world.uniform(0.1, 3.0))

    def _pause_source(self) -> None:
        self._pause(self._victim("source"), self.world.uniform(0.1, 2.0))

    def _pause_coordinator(self) -> None:
        self._pause(self._victim("coordinator"), self.world.uniform(0.1, 1.5))

    def _pause(self, victim: Life | None, seconds: float) -> None:
        if victim is not None:
            self._tell(f"pause {victim.id} for {seconds:.2f}")
            self.world.pause(victim)
            self.world.at(self.world.now + seconds, lambda: self.world.resume(victim))

    def _crash_coordinator(self) -> None:
        victim = self._victim("coordinator")
        if victim is not None:
            self._tell("crash coordinator")
            self.world.crash(victim)
            self.world.at(self.world.now + self.world.uniform(0.02, 1.0), self._restart_coordinator)

    def _restart_coordinator(self) -> None:
        if not self.world.coordinator.alive:
            self.world.start_coordinator()

    def _crash_source(self) -> None:
        victim = self._victim("source")
        if victim is not None:
            self._tell(f"crash {victim.id}")
            self.world.crash(victim)
            delay = self.world.uniform(0.02, 1.0)
            self.world.at(self.world.now + delay, lambda: self._restart_source(victim.id))

    def _restart_source(self, name: str) -> None:
        if not self.world.lives[name].alive:
            self.world.start_source(name)

    def _cut(self) -> None:
        nodes = [life.id for life in self.world.lives.values() if life.alive]
        pair = frozenset(self.world.random.sample(sorted(nodes), 2))
        seconds = self.world.uniform(0.05, 2.0)
        self._tell(f"cut {sorted(pair)} for {seconds:.2f}")
        self.world.cut.add(pair)
        self.world.at(self.world.now + seconds, lambda: self.world.cut.discard(pair))

    def _slow(self) -> None:
        victim = self._victim("worker")
        if victim is not None:
            self.world.slow[victim.id] = self.world.uniform(2, 12)
            self.world.at(
                self.world.now + self.world.uniform(0.2, 2.0),
                lambda: self.world.slow.update({victim.id: 1.0}),
            )


def heal(world: World) -> None:
    """Calm weather, everybody up: from here the system has to come right by itself."""
    world.weather = Weather()
    world.cut.clear()
    world.slow.clear()
    for life in list(world.lives.values()):
        if life.paused:
            world.resume(life)
    if not world.lives[COORDINATOR].alive:
        world.start_coordinator()
    for name in world.disks:
        if not world.lives[name].alive:
            world.start_source(name)
    while sum(not life.machine.role.leaving for life in world.of_kind("worker")) < 2:
        world.start_worker()

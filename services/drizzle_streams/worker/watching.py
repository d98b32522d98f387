"""What a worker shows of itself: what is read when somebody asks, and the doors for asking."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version

from prometheus_client import CollectorRegistry

from drizzle_streams.model.ids import JobId, StageId
from drizzle_streams.runtime.driver import Driver
from drizzle_streams.telemetry.exposition import health_route, metrics_route, ready_route, story_route
from drizzle_streams.telemetry.lag import LoopLag
from drizzle_streams.telemetry.metrics import RuntimeMetrics
from drizzle_streams.transport.auth import METRICS, USER
from drizzle_streams.transport.http_server import HttpServer
from drizzle_streams.worker.counters import Refusal
from drizzle_streams.worker.gate import Gate
from drizzle_streams.worker.performer import WorkerPerformer


class Watching:
    """The readings of one life of a worker; `lag` needs an owner."""

    def __init__(
        self,
        registry: CollectorRegistry,
        gate: Gate,
        performer: WorkerPerformer,
        driver: Driver,
    ) -> None:
        self._registry = registry
        self._performer = performer
        self._driver = driver
        self._runtime = RuntimeMetrics(
            registry,
            service="worker",
            node=performer.bench.role.settings.worker,
            version=version("drizzle-streams"),
        )
        self.lag = LoopLag(self._runtime.loop_lag_seconds.observe)
        self._runtime.read_loop(lambda: self.lag.worst)
        self._runtime.read_transport(performer.bench.transport)
        self._read_messages(gate)
        self._read_stores()

    def _read_messages(self, gate: Gate) -> None:
        bench, fetching, driver = self._performer.bench, self._performer.fetching, self._driver
        self._runtime.read_messages(
            lambda: driver.messages_sent,
            lambda: driver.messages_received,
            lambda: {
                "undecodable": driver.frames_refused,
                "queue_full": driver.frames_dropped,
                "generation": bench.role.refused,
                "misfit": gate.refused,
            },
            lambda: driver.repeats_sent,
        )
        self._runtime.read_queues(
            lambda: {"fetches": fetching.waiting, "dead_letters": bench.letters.waiting}
        )

    def add_doors(self, server: HttpServer, *, metrics_public: bool = False) -> None:
        """Before the server starts. Health and readiness are public."""
        story = self._performer.bench.story
        server.add_routes([story_route(lambda: (asdict(line) for line in story.lines))], auth=USER)
        server.add_routes([health_route(self.lag), ready_route(self.not_ready)], public=True)
        server.add_routes([metrics_route(self._registry, self._refresh)], auth=METRICS, public=metrics_public)

    def not_ready(self) -> str | None:
        if self._performer.bench.role.rejoining:
            return "this life is over; a worker that was declared lost joins again under a new name"
        if self._performer.bench.role.leaving:
            return "asked to stop; its partitions move to others"
        if not self._driver.messages_received.get("Welcome"):
            return "the coordinator has not welcomed this worker yet"
        return None

    def _read_stores(self) -> None:
        bench = self._performer.bench
        metrics, counters = bench.metrics, bench.counters
        metrics.read_blocks(lambda: bench.blocks.blocks, lambda: bench.blocks.bytes)
        metrics.read_tasks(self._tasks_waiting)
        metrics.read_slots(
            lambda: bench.role.settings.slots, lambda: bench.role.slot_seconds(bench.clock.now())
        )
        metrics.read_fragments(lambda: bench.fragments.fragments, lambda: bench.fragments.bytes)
        metrics.read_states(
            lambda: {"worker": counters.states_taken_over, "checkpoint": counters.states_not_taken_over}
        )
        metrics.read_refused(
            lambda: _by_reason(counters.payloads_refused), lambda: _by_reason(counters.fetches_refused)
        )
        metrics.read_failures(
            fetches=lambda: counters.fetches_failed,
            tasks=lambda: counters.tasks_failed,
            snapshots=lambda: counters.snapshots_failed,
            outages=lambda: counters.outages_waited,
            snapshots_damaged=lambda: counters.snapshots_damaged,
            letters_dropped=lambda: bench.letters.dropped,
        )

    def _tasks_waiting(self) -> Mapping[str, float]:
        """Launched tasks that do not run: for want of blocks (or input), or of a slot."""
        waiting = ready = 0
        for job in self._performer.bench.role.jobs.values():
            ready += len(job.ready())
            waiting += sum(
                cohort.open and not cohort.running and cohort.next <= job.launched[cohort.stage]
                for cohort in job.cohorts.values()
            )
        return {"blocks": max(0, waiting - ready), "slot": ready}

    def _refresh(self) -> None:
        """What is held, summed over cohorts, only when somebody looks; 0 where nothing is left."""
        self._refresh_partitions()
        sizes: dict[tuple[JobId, StageId], tuple[int, int]] = {}
        for job in self._performer.jobs.values():
            sizes |= {(job.spec.job, stage.stage): (0, 0) for stage in job.spec.stages if stage.stateful}
            for cohort in job.cohorts.values():
                if cohort.state is not None:
                    key = (job.spec.job, cohort.stage)
                    keys, held = sizes.get(key, (0, 0))
                    sizes[key] = (keys + cohort.state.keys, held + cohort.state.size_bytes)
        metrics = self._performer.bench.metrics
        for (name, stage), (keys, held) in sizes.items():
            metrics.state_keys.of(name, stage).set(keys)
            metrics.state_bytes.of(name, stage).set(held)

    def _refresh_partitions(self) -> None:
        """Every stage of every job, so that one of which nothing is left here shows 0."""
        bench = self._performer.bench
        for name, job in bench.role.jobs.items():
            held = dict.fromkeys((stage.stage for stage in job.spec.stages), 0)
            for cohort in job.cohorts.values():
                held[cohort.stage] += len(cohort.partitions)
            for stage, partitions in held.items():
                bench.metrics.partitions.of(name, stage).set(partitions)


def _by_reason(counted: Counter[Refusal]) -> Mapping[str, float]:
    return {str(reason): count for reason, count in counted.items()}

"""Workers without a machine: real performers, a real job, a list in place of the driver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import polars as pl
from prometheus_client import CollectorRegistry

import drizzle_streams as dz
from drizzle_streams.api.compile import CompiledJob
from drizzle_streams.connectors.memory import MemoryResults, memory
from drizzle_streams.core import actions as act
from drizzle_streams.core import events as ev
from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_job import WorkerJob
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.engine.shipping import ship_program
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    COORDINATOR,
    BatchId,
    CohortId,
    Generation,
    JobId,
    NodeId,
    Offset,
    PartitionId,
    SourceId,
    StageId,
    StreamId,
    WorkerId,
)
from drizzle_streams.model.job import JobSpec
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.model.snapshot import SnapshotRef
from drizzle_streams.model.task import TaskKey
from drizzle_streams.protocol.jobfile import JobFile, pack_job
from drizzle_streams.protocol.messages import BlocksReady, Offer
from drizzle_streams.protocol.parts import Former
from drizzle_streams.protocol.tokens import Keyring
from drizzle_streams.runtime.clock import ClusterClock
from drizzle_streams.stores.memory import MemorySnapshotStore
from drizzle_streams.stores.redis_link import Command
from drizzle_streams.telemetry.metrics import WorkerMetrics
from drizzle_streams.transport.base import Transport
from drizzle_streams.transport.entries import Entry, EntryFormat, encode_entries
from drizzle_streams.transport.tasks import OwnedTasks
from drizzle_streams.worker.bench import Bench
from drizzle_streams.worker.deadletters import DeadLetters
from drizzle_streams.worker.handing import STATES_PATH, Handing
from drizzle_streams.worker.performer import WorkerPerformer
from drizzle_streams.worker.programs import program_path
from drizzle_streams.worker.serving import BLOCKS_PATH, Serving
from drizzle_streams.worker.threads import Threads
from tests.transport.transport_worlds import TOKEN

WAIT_S = 20.0
"""Only ever reached by a failing test."""
STREAM = "clicks"
JOB = JobId("counts")
MAP, REDUCE = StageId(0), StageId(1)
STREAM_PARTITIONS = 4
SOURCE = SourceId("source")
GENERATION = Generation(3)
COHORT = CohortId(1)

Row = tuple[str, int, int]
"""A record: key, value, event time in ms."""
E = TypeVar("E", bound=ev.Event)


def partitions(*numbers: int) -> tuple[PartitionId, ...]:
    return tuple(PartitionId(number) for number in numbers)


def compiled(results: MemoryResults, reducers: int = 4) -> CompiledJob:
    """Sums per key and second, updates; laid out over four stream partitions, running."""
    clicks = dz.stream(
        STREAM, schema={"key": pl.String, "value": pl.Int64, "at": pl.Int64}, event_time="at", max_delay="10s"
    )
    sums = (
        clicks.filter(pl.col("value") > 0)
        .window(dz.tumbling("1s"))
        .group_by("key")
        .agg(n=dz.count(), total=dz.sum("value"))
    )
    return laid_out(
        sums.to(memory(results)).job(str(JOB), batch_interval="50ms").compile(partitions=reducers)
    )


def laid_out(job: CompiledJob) -> CompiledJob:
    """The job as the coordinator runs it: partitions of the stream known, born."""
    stages = tuple(
        replace(stage, partitions=STREAM_PARTITIONS) if stage.stream else stage for stage in job.spec.stages
    )
    return replace(job, spec=replace(job.spec, stages=stages, born=Generation(2)))


def job_bytes(job: CompiledJob) -> bytes:
    """What was posted to the coordinator, before the job was born."""
    return pack_job(JobFile(replace(job.spec, born=Generation(0)), ship_program(job.program)))


def sums_of(rows: Iterable[Row]) -> dict[tuple[str, int], tuple[int, int]]:
    """The oracle: (key, window start) to (count, total)."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for key, value, at in rows:
        if value > 0:
            n, total = found.get((key, at // 1000 * 1000), (0, 0))
            found[key, at // 1000 * 1000] = (n + 1, total + value)
    return found


def latest(results: MemoryResults) -> dict[tuple[str, int], tuple[int, int]]:
    """What a store would hold."""
    rows = results.latest(["key", "window_start"])
    return {(row["key"], row["window_start"]): (row["n"], row["total"]) for row in rows.iter_rows(named=True)}


def some_rows(batch: int, partition: int, count: int = 30) -> list[Row]:
    """Records of a batch in a partition; values from -1 up, keys shared by all partitions."""
    return [
        (f"key-{(7 * i + partition) % 11}", (i * 5 + batch) % 9 - 1, 1_000_000 + 137 * i + 700 * batch)
        for i in range(count)
    ]


def all_rows(batches: int, count: int = 30) -> list[Row]:
    every = [(b, p) for b in range(batches) for p in range(STREAM_PARTITIONS)]
    return [row for batch, partition in every for row in some_rows(batch, partition, count)]


class Letters:
    """A link that keeps what it is told, as a Redis that has none of the letters yet."""

    def __init__(self) -> None:
        self.commands: list[Command] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def run(self, what: str, commands: Sequence[Command]) -> list[Any]:
        self.commands += commands
        return [len(letters_in(command)) for command in commands]


def letters_in(command: Command) -> list[Command]:
    """The letters of one call: mark, batch, stage, partition, offset, reason, record."""
    rest = command[7:]
    return [rest[at : at + 7] for at in range(0, len(rest), 7)]


@dataclass
class Events:
    """What the driver would handle; taken in the order of coming, by kind."""

    seen: list[ev.Event] = field(default_factory=list)
    taken: int = 0

    async def next(self, kind: type[E]) -> E:
        """The next event, which must be of that kind."""
        await until(lambda: len(self.seen) > self.taken, f"a {kind.__name__} comes")
        event = self.seen[self.taken]
        self.taken += 1
        assert isinstance(event, kind), event
        return event


async def until(condition: Callable[[], bool], what: str) -> None:
    """Turn the loop until `condition` holds."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - a condition is any fact of a test; few of them have an event
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"never came true: {what}") from None


class Hand:
    """One worker whose machine is the test."""

    def __init__(
        self,
        transport: Transport,
        snapshots: MemorySnapshotStore,
        coordinator: str,
        *,
        held_bytes_max: int = 1 << 26,
        slots: int = 2,
    ) -> None:
        self.events = Events()
        self.failures: list[BaseException] = []
        self.rejoins: list[str] = []
        self.departures: list[str] = []
        self.letters = Letters()
        self.registry = CollectorRegistry()
        self.transport = transport
        self.role = Worker(WorkerSettings(WorkerId(transport.node), "", slots))
        self.bench = Bench(
            role=self.role,
            clock=ClusterClock(),
            transport=transport,
            tasks=OwnedTasks(self.failures.append),
            threads=Threads(slots),
            snapshots=snapshots,
            letters=DeadLetters(self.letters, "drizzle"),
            metrics=WorkerMetrics(self.registry),
            addresses={COORDINATOR: coordinator},
            redis_url="redis://127.0.0.1:1",
            ring=Keyring((TOKEN,)),
            held_bytes_max=held_bytes_max,
            rejoin=self.rejoins.append,
            depart=self.departures.append,
        )
        self.bench.post = self.events.seen.append
        self.performer = WorkerPerformer(self.bench)
        transport.serve(BLOCKS_PATH, Serving(self.bench, self.performer.jobs).fetch)
        transport.serve(STATES_PATH, Handing(self.bench, self.performer.jobs).fetch)

    @property
    def id(self) -> WorkerId:
        return self.role.settings.worker

    @property
    def node(self) -> NodeId:
        return NodeId(self.id)

    async def close(self) -> None:
        await self.performer.close()
        await self.transport.close()
        assert not self.failures, self.failures

    # --- what the machine would know and do -----------------------------------------------

    def know(self, job: CompiledJob, placement: Placement, generation: Generation = GENERATION) -> None:
        """The machine was assigned the job."""
        known = self.role.jobs[job.spec.job] = WorkerJob(self.id, job.spec)
        known.generation, known.placement = generation, placement
        known.layouts = {STREAM: StreamLayout(StreamId(STREAM), (SOURCE,) * STREAM_PARTITIONS)}

    async def load(self, job: CompiledJob, placement: Placement) -> None:
        self.know(job, placement)
        self.performer.perform(act.LoadProgram(job.spec))
        await self.events.next(ev.ProgramLoaded)

    async def open(
        self,
        held: tuple[PartitionId, ...],
        batch: int = -1,
        snapshots: tuple[SnapshotRef, ...] = (),
        cohort: CohortId = COHORT,
        formers: tuple[Former, ...] = (),
    ) -> None:
        opened = act.OpenCohort(JOB, REDUCE, cohort, held, BatchId(batch), snapshots, formers)
        self.performer.perform(opened)
        await self.events.next(ev.CohortOpened)

    async def map(
        self,
        batch: int,
        held: tuple[PartitionId, ...],
        rows: Mapping[Any, list[Row]] | None = None,
        *,
        replayed: bool = False,
    ) -> None:
        """A batch of the first stage; its records ride in with the offer."""
        given = {p: some_rows(batch, p) for p in held} if rows is None else rows
        offer = offer_of(batch, given)
        assert self.performer.absorb(NodeId(SOURCE), offer, payload_of(given, batch))
        fragment = act.Fragment(JOB, MAP, act.INPUT, BatchId(batch), NodeId(SOURCE), held, held)
        pieces = (act.Piece(fragment, held, held),)
        key = TaskKey(JOB, MAP, CohortId(9), BatchId(batch))
        self.performer.perform(act.RunTask(key, held, pieces, self.now_ms, replayed=replayed))
        await self.events.next(ev.TaskFinished)

    async def reduce(
        self,
        batch: int,
        held: tuple[PartitionId, ...],
        pieces: Sequence[act.Piece],
        cohort: CohortId = COHORT,
        *,
        replayed: bool = False,
    ) -> None:
        key = TaskKey(JOB, REDUCE, cohort, BatchId(batch))
        self.performer.perform(act.RunTask(key, held, tuple(pieces), self.now_ms, replayed=replayed))
        await self.events.next(ev.TaskFinished)

    async def write(self, first: int, last: int, cohort: CohortId = COHORT) -> None:
        self.performer.perform(act.WriteOutput(JOB, REDUCE, cohort, BatchId(first), BatchId(last)))
        await self.events.next(ev.OutputWritten)

    async def snapshot(self, batch: int, cohort: CohortId = COHORT) -> SnapshotRef:
        self.performer.perform(act.TakeSnapshot(JOB, REDUCE, cohort, BatchId(batch)))
        return (await self.events.next(ev.SnapshotTaken)).snapshot

    @property
    def now_ms(self) -> float:
        return self.bench.clock.now() * 1000.0


def ready(
    of: Hand, batch: int, held: tuple[PartitionId, ...], wanted: tuple[PartitionId, ...]
) -> BlocksReady:
    """What `of` says of its blocks of a batch to the owner of `wanted`."""
    return BlocksReady(
        job=JOB,
        generation=GENERATION,
        worker=of.id,
        stage=MAP,
        partitions=held,
        downstream=REDUCE,
        wanted=wanted,
        first=BatchId(batch),
        last=BatchId(batch),
        sealed_at_ms=(0.0,),
    )


def piece(
    of: Hand,
    batch: int,
    held: tuple[PartitionId, ...],
    announced: tuple[PartitionId, ...],
    wanted: tuple[PartitionId, ...] | None = None,
) -> act.Piece:
    """A task's share of what `of` announced."""
    fragment = act.Fragment(JOB, REDUCE, MAP, BatchId(batch), of.node, held, announced)
    return act.Piece(fragment, held, announced if wanted is None else wanted)


def offer_of(batch: int, rows: Mapping[Any, list[Row]]) -> Offer:
    bounds = tuple(
        Bounds(BatchId(batch), PartitionId(p), Offset(batch * 1000), Offset(batch * 1000 + len(rows[p])))
        for p in rows
    )
    return Offer(JOB, GENERATION, SOURCE, MAP, BatchId(batch), (0.0,), bounds)


def payload_of(rows: Mapping[Any, list[Row]], batch: int) -> bytes:
    """Entries as a source sends them: two per partition, numbered within the source's own log."""
    entries: list[Entry] = []
    for local, records in enumerate(rows.values()):
        half = len(records) // 2
        for first, part in ((0, records[:half]), (half, records[half:])):
            if part:
                entries.append(
                    Entry(local, batch * 1000 + first, len(part), EntryFormat.NDJSON, ndjson(part))
                )
    return encode_entries(entries)


def ndjson(rows: Iterable[Row]) -> bytes:
    lines = (json.dumps({"key": key, "value": value, "at": at, "unread": 1}) for key, value, at in rows)
    return "\n".join(lines).encode()


def serve_program(coordinator: Transport, job: JobSpec, data: bytes) -> None:
    """The coordinator's door for a program."""
    sealed = Keyring((TOKEN,)).seal(job.job, data)

    async def program(_: object) -> bytes:
        return sealed

    coordinator.serve(program_path(job.job), program)


def metric(registry: CollectorRegistry, name: str, **labels: str) -> float:
    value = registry.get_sample_value(name, labels)
    assert value is not None, f"no {name} {labels}"
    return value

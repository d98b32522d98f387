"""The whole worker over real HTTP: joining, being lost and joining again, and hostile peers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import aiohttp
import msgpack
import pytest

from drizzle_streams.config import WorkerServiceSettings
from drizzle_streams.errors import ConfigError, StoreError
from drizzle_streams.model.bounds import Bounds
from drizzle_streams.model.ids import (
    COORDINATOR,
    BatchId,
    Generation,
    JobId,
    NodeId,
    Offset,
    PartitionId,
    SourceId,
    StageId,
    WorkerId,
)
from drizzle_streams.model.placement import Placement, StreamLayout
from drizzle_streams.protocol.codec import PROTOCOL_VERSION, decode_envelope, encode_envelope
from drizzle_streams.protocol.messages import (
    Assign,
    BlocksReady,
    Envelope,
    Heartbeat,
    Item,
    Message,
    Offer,
    Refused,
    StopJob,
    Welcome,
    WorkerHello,
)
from drizzle_streams.stores.memory import MemorySnapshotStore
from drizzle_streams.transport.http import ADDRESS_HEADER, LINK_PATH, NODE_HEADER, TO_HEADER, HttpTransport
from drizzle_streams.transport.http_server import HttpServer, ServerLimits
from drizzle_streams.transport.releases import RELEASE_HEADER, own_release
from drizzle_streams.worker import service as service_module
from drizzle_streams.worker.life import BODY_BYTES_MAX, Life
from drizzle_streams.worker.service import WorkerService
from tests.bearer import bearer
from tests.transport.transport_worlds import packed
from tests.worker.conftest import TOKEN, World
from tests.worker.worker_worlds import (
    GENERATION,
    JOB,
    MAP,
    REDUCE,
    SOURCE,
    STREAM_PARTITIONS,
    Letters,
    job_bytes,
    partitions,
    serve_program,
    until,
)


@dataclass
class FakeCoordinator:
    """Hears everybody; welcomes all but the first `refusing` lives."""

    transport: HttpTransport
    refusing: int = 0
    lives: list[tuple[WorkerId, str]] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    sessions: list[int] = field(default_factory=list)
    said: int = 0

    def __post_init__(self) -> None:
        self.transport.on_frame = self.hear

    def hear(self, sender: NodeId, frame: bytes) -> None:
        envelope, _ = decode_envelope(frame)
        assert envelope.sender == sender
        for item in envelope.items:
            self.heard.append(item.message)
            if isinstance(item.message, WorkerHello):
                self.greet(item.message, envelope)

    def greet(self, hello: WorkerHello, envelope: Envelope) -> None:
        if (hello.worker, hello.address) not in self.lives:
            self.lives.append((hello.worker, hello.address))
            self.sessions.append(envelope.session)
        lost = [worker for worker, _ in self.lives].index(hello.worker) < self.refusing
        answer = Refused(Generation(1), "declared lost") if lost else Welcome(Generation(1), 500)
        self.say(hello.worker, hello.address, answer)

    def say(self, worker: WorkerId, address: str, message: Message) -> None:
        """Say something once: a seq of 0 is not acknowledged."""
        envelope = Envelope(COORDINATOR, 1, 1, 0, 0, 0, (Item(0, message),))
        self.transport.send(NodeId(worker), address, encode_envelope(envelope, (None,)))

    def heartbeats(self, worker: WorkerId) -> int:
        return sum(isinstance(m, Heartbeat) and m.node == worker for m in self.heard)


@dataclass
class Running:
    """A worker service that runs beside the test."""

    service: WorkerService
    stop: asyncio.Event
    task: asyncio.Task[None]
    coordinator: FakeCoordinator

    @property
    def life(self) -> Life:
        assert self.service.life is not None
        return self.service.life

    async def lives_on(self) -> None:
        """It says so after whatever was done to it."""
        before = self.coordinator.heartbeats(self.life.worker)
        await until(
            lambda: self.coordinator.heartbeats(self.life.worker) > before + 1 or self.task.done(),
            "two more heartbeats",
        )
        assert not self.task.done(), self.task.exception()


@pytest.fixture
async def coordinator() -> AsyncIterator[FakeCoordinator]:
    """Someone to join."""
    server = HttpServer("127.0.0.1", 0, TOKEN, limits=ServerLimits(close_timeout_s=0.2))
    found = FakeCoordinator(HttpTransport(COORDINATOR, server, TOKEN))
    yield found
    await found.transport.close()


@pytest.fixture
async def running(coordinator: FakeCoordinator, http_world: World) -> AsyncIterator[Running]:
    """A worker that has been welcomed."""
    serve_program(coordinator.transport, http_world.job.spec, job_bytes(http_world.job))
    await coordinator.transport.start()
    found = run(coordinator)
    await until(lambda: found.service.life is not None and not_ready(found) is None, "it is welcomed")
    yield found
    found.stop.set()
    await asyncio.wait_for(found.task, 10)


def run(coordinator: FakeCoordinator) -> Running:
    settings = WorkerServiceSettings(
        token=TOKEN, name="w", coordinator=coordinator.transport.address, metrics_public=True
    )
    service = WorkerService(settings, snapshots=MemorySnapshotStore(), link=Letters())
    stop = asyncio.Event()
    return Running(service, stop, asyncio.create_task(service.run(stop)), coordinator)


def not_ready(running: Running) -> str | None:
    return running.life.watching.not_ready()


async def get(running: Running, path: str, *, token: bool = False) -> tuple[int, str]:
    headers = {"Authorization": bearer(TOKEN)} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(running.life.server.address + path, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def say(running: Running, message: bytes) -> None:
    """Send bytes over a link, as somebody who knows the token."""
    headers = {
        "Authorization": bearer(TOKEN),
        NODE_HEADER: "stranger",
        ADDRESS_HEADER: "http://127.0.0.1:1",
        TO_HEADER: running.life.worker,
        RELEASE_HEADER: own_release(),
    }
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(running.life.server.address + LINK_PATH, headers=headers) as socket,
    ):
        await socket.send_bytes(message)
        await socket.close()


def spoken(*messages: Message) -> bytes:
    """Messages of a stranger as they lie on the wire."""
    items = tuple(Item(0, message) for message in messages)
    envelope = Envelope(NodeId("stranger"), 1, 1, 0, 0, 0, items)
    return packed(encode_envelope(envelope, (b"payload",) * len(items)))


# --- joining ------------------------------------------------------------------------------


async def test_a_worker_introduces_itself_and_is_ready_when_welcomed(running: Running) -> None:
    ((worker, address),) = running.coordinator.lives
    assert worker.startswith("w-")
    assert address == running.life.server.address
    assert (await get(running, "/readyz"))[0] == 200
    assert (await get(running, "/healthz"))[0] == 200
    status, metrics = await get(running, "/metrics")
    assert status == 200
    assert f'drizzle_info{{node="{worker}",service="worker"' in metrics
    assert (await get(running, "/debug/story"))[0] == 401
    assert (await get(running, "/debug/story", token=True))[0] == 200


async def test_a_worker_without_a_coordinator_waits_and_is_not_ready(coordinator: FakeCoordinator) -> None:
    coordinator.transport.on_frame = lambda sender, frame: None
    await coordinator.transport.start()
    found = run(coordinator)
    await until(lambda: found.service.life is not None and found.life.started.is_set(), "it listens")
    status, said = await get(found, "/readyz")
    assert status == 503
    assert "welcomed" in said
    assert (await get(found, "/healthz"))[0] == 200
    found.stop.set()
    await asyncio.wait_for(found.task, 10)


async def test_a_worker_declared_lost_joins_again_as_another(
    coordinator: FakeCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "REJOIN_REST_S_FIRST", 0.01)
    coordinator.refusing = 2
    await coordinator.transport.start()
    found = run(coordinator)
    await until(lambda: len(coordinator.lives) == 3, "a third life")
    await found.lives_on()
    workers, addresses = zip(*coordinator.lives, strict=True)
    assert len(set(workers)) == 3
    assert len(set(addresses)) == 1, "it is found where it was"
    assert sorted(coordinator.sessions) == coordinator.sessions
    assert found.service.lives == 3
    found.stop.set()
    await asyncio.wait_for(found.task, 10)


async def test_a_life_takes_nothing_of_the_one_before(running: Running, http_world: World) -> None:
    first = running.life
    assign(running, http_world)
    await until(lambda: bool(first.performer.jobs) and first.role.jobs[JOB].loaded, "the program is loaded")
    running.coordinator.refusing = 1
    running.coordinator.say(first.worker, first.server.address, Refused(Generation(9), "declared lost"))
    await until(lambda: running.life is not first and not_ready(running) is None, "another life is welcomed")
    assert running.life.worker != first.worker
    assert not running.life.role.jobs
    assert not running.life.performer.jobs
    await running.lives_on()


async def test_a_worker_stops_when_asked_within_its_bounds(running: Running) -> None:
    running.stop.set()
    await asyncio.wait_for(running.task, 10)
    assert running.life.transport.peers == 0


async def test_a_store_that_cannot_be_opened_is_an_error_of_the_configuration() -> None:
    class Away(MemorySnapshotStore):
        async def open(self) -> None:
            raise StoreError("Redis is away")

    settings = WorkerServiceSettings(token=TOKEN)
    with pytest.raises(ConfigError, match="Redis is away"):
        await WorkerService(settings, snapshots=Away(), link=Letters()).run(asyncio.Event())


# --- hostile peers ------------------------------------------------------------------------


def assign(running: Running, world: World) -> None:
    """The job, all of it on this worker."""
    worker = running.life.worker
    spec = world.job.spec
    placement = Placement(tuple((worker,) * stage.partitions for stage in spec.stages))
    needed = tuple((BatchId(0),) * stage.partitions for stage in spec.stages)
    layout = StreamLayout(spec.streams()[0], (SOURCE,) * STREAM_PARTITIONS)
    message = Assign(spec, GENERATION, (layout,), placement, needed, BatchId(-1), ())
    running.coordinator.say(worker, running.life.server.address, message)


def blocks_ready(
    generation: Generation = GENERATION, job: JobId = JOB, stage: int = MAP, below: int = REDUCE
):
    return BlocksReady(
        job=job,
        generation=generation,
        worker=WorkerId("stranger"),
        stage=StageId(stage),
        partitions=partitions(0, 1),
        downstream=StageId(below),
        wanted=partitions(0),
        first=BatchId(0),
        last=BatchId(0),
        sealed_at_ms=(0.0,),
    )


@pytest.mark.parametrize(
    "frame",
    [
        b"garbage",
        msgpack.packb([PROTOCOL_VERSION + 1, [], []]),
        msgpack.packb([PROTOCOL_VERSION, {}, 1]),
        b"\xc1" * 999,
    ],
)
async def test_frames_that_are_no_messages_are_counted(running: Running, frame: bytes) -> None:
    await say(running, packed(frame))
    await until(lambda: running.life.driver.frames_refused == 1, "it is refused")
    await running.lives_on()
    assert 'drizzle_messages_refused_total{reason="undecodable"} 1.0' in (await get(running, "/metrics"))[1]


async def test_bytes_that_are_no_frames_close_the_link_and_are_counted(running: Running) -> None:
    await say(running, b"\xff" * 7)
    await until(lambda: sum(running.life.transport.counters.refused.values()) == 1, "it is refused")
    await running.lives_on()


async def test_a_message_in_anothers_name_is_refused(running: Running) -> None:
    envelope = Envelope(COORDINATOR, 1, 1, 0, 0, 0, (Item(0, Refused(Generation(9), "go")),))
    await say(running, packed(encode_envelope(envelope, (None,))))
    await until(lambda: running.life.driver.frames_refused == 1, "it is refused")
    await running.lives_on()
    assert running.service.lives == 1


async def test_messages_of_other_jobs_and_older_generations_are_refused_and_counted(
    running: Running, http_world: World
) -> None:
    assign(running, http_world)
    await until(lambda: JOB in running.life.role.jobs, "it is assigned")
    old, unknown = blocks_ready(Generation(GENERATION - 1)), blocks_ready(job=JobId("nobody"))
    await say(running, spoken(old, unknown))
    await until(lambda: running.life.role.refused == 2, "both are refused")
    await running.lives_on()
    text = (await get(running, "/metrics"))[1]
    assert 'drizzle_messages_refused_total{reason="generation"} 2.0' in text
    assert 'drizzle_payloads_refused_total{reason="generation"} 2.0' in text
    assert running.life.bench.fragments.fragments == 0


async def test_a_payload_that_is_garbage_is_pulled_instead(running: Running, http_world: World) -> None:
    assign(running, http_world)
    await until(lambda: JOB in running.life.role.jobs, "it is assigned")
    await say(running, spoken(blocks_ready()))
    await until(lambda: running.life.bench.counters.fetches_failed == 1, "it was asked for, in vain")
    await running.lives_on()


async def test_blocks_that_do_not_exist_are_404(running: Running) -> None:
    query = (
        "run=counts@2&job=counts&downstream=1&stage=0&partitions=1&of=4&wanted=1&wanted_of=4&first=0&last=3"
    )
    status, said = await get(running, f"/blocks?{query}", token=True)
    assert status == 404
    assert "none" in said
    assert (await get(running, "/blocks", token=True))[0] == 400
    assert (await get(running, "/nothing", token=True))[0] == 404
    text = (await get(running, "/metrics"))[1]
    assert 'drizzle_block_fetches_refused_total{reason="not_held"} 1.0' in text
    assert 'drizzle_block_fetches_refused_total{reason="garbage"} 1.0' in text
    await running.lives_on()


async def test_a_body_that_is_too_large_is_413(running: Running) -> None:
    url = running.life.server.address + "/blocks"
    headers = {"Authorization": bearer(TOKEN)}
    async with aiohttp.ClientSession() as session:
        body = b"x" * (BODY_BYTES_MAX + 1)
        async with session.post(url, data=body, headers=headers) as refused:
            assert refused.status == 413
    assert 'drizzle_doors_refused_total{reason="oversized"} 1.0' in (await get(running, "/metrics"))[1]
    await running.lives_on()


async def test_messages_that_do_not_fit_the_job_or_their_sender_are_refused_and_counted(
    running: Running, http_world: World
) -> None:
    assign(running, http_world)
    await until(lambda: JOB in running.life.role.jobs, "it is assigned")
    good = blocks_ready()
    bounds = (Bounds(BatchId(0), PartitionId(0), Offset(0), Offset(1)),)
    misfits: list[Message] = [
        blocks_ready(stage=7, below=9),
        blocks_ready(stage=REDUCE, below=MAP),
        replace(good, downstream=StageId(-1)),
        replace(good, partitions=partitions(10**9)),
        replace(good, wanted=()),
        replace(good, last=BatchId(1)),
        replace(good, worker=running.life.worker),
        Offer(JOB, GENERATION, SourceId("stranger"), REDUCE, BatchId(0), (0.0,), ()),
        Offer(JOB, GENERATION, SOURCE, MAP, BatchId(0), (0.0,), ()),
        Offer(JOB, GENERATION, SOURCE, MAP, BatchId(0), (), bounds),
        Offer(JOB, GENERATION, SOURCE, MAP, BatchId(1), (0.0,), bounds),
        Offer(JOB, GENERATION, SOURCE, MAP, BatchId(0), (0.0, 0.0), bounds),
        StopJob(JOB, Generation(99), "by a stranger"),
        Refused(Generation(99), "by a stranger"),
        Heartbeat(NodeId("stranger"), 0.5),
    ]
    await say(running, spoken(*misfits))
    wanted = f'drizzle_messages_refused_total{{reason="misfit"}} {len(misfits)}.0'
    await running.lives_on()
    assert wanted in (await get(running, "/metrics"))[1]
    assert running.service.lives == 1
    assert JOB in running.life.role.jobs
    assert running.life.bench.fragments.fragments == 0

"""A running worker that is given rubbish answers with an error and a count, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from http.client import HTTPConnection
from itertools import count
from urllib.parse import urlsplit

import aiohttp
import pytest

from drizzle_streams.local.ports import free_port
from drizzle_streams.model.ids import (
    COORDINATOR,
    BatchId,
    Generation,
    GroupId,
    JobId,
    NodeId,
    SourceId,
    StageId,
)
from drizzle_streams.protocol.codec import encode_envelope
from drizzle_streams.protocol.messages import Envelope, Item, Launch, Message, Offer, Refused
from drizzle_streams.transport.http import ADDRESS_HEADER, LINK_PATH, NODE_HEADER, TO_HEADER
from drizzle_streams.transport.releases import RELEASE_HEADER, own_release
from tests.bearer import bearer
from tests.cluster.drizzle_commands import ClusterDoors, Place, doors_of, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

BLOCKS_NOWHERE = (
    "/blocks?run=none&job=none&downstream=1&stage=0&partitions=1&of=8&wanted=1&wanted_of=8&first=0&last=0"
)
STRANGER = NodeId("stranger-1")
SESSIONS = count(1)
"""A new life for every message: none is taken for a repetition of another."""
BODY_BYTES = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterDoors]:
    place = Place(tmp_path_factory.mktemp("hostile").resolve())
    running = place.start("up", "--port", str(free_port()), "--workers", "1", "--sources", "1")
    try:
        running.says("Drizzle is up")
        yield doors_of(place.folder / ".drizzle")
        assert "asked to stop" not in running.said()
        assert len([line for line in place.processes().values() if "worker-1" in line]) == 1
    finally:
        running.interrupt()
        running.ended()
        place.close()


@pytest.fixture(autouse=True)
def the_worker_lives_on(cluster: ClusterDoors) -> Iterator[None]:
    [before] = worker_ids(cluster)
    yield
    assert cluster.send("worker-1", "/healthz")[0] == 200
    assert worker_ids(cluster) == [before], "the same life of the same process"


def worker_ids(cluster: ClusterDoors) -> list[str]:
    return [worker["id"] for worker in cluster.ask("/status")["workers"]]


@asynccontextmanager
async def dialled(cluster: ClusterDoors, node: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A link to the worker, as `node` of the cluster would open it."""
    headers = {
        "Authorization": bearer(cluster.token),
        NODE_HEADER: node,
        TO_HEADER: worker_ids(cluster)[0],
        RELEASE_HEADER: own_release(),
        ADDRESS_HEADER: "http://127.0.0.1:9",
    }
    async with aiohttp.ClientSession(headers=headers) as session, asyncio.timeout(30):
        url = cluster.address("worker-1") + LINK_PATH
        async with session.ws_connect(url, max_msg_size=0) as link:
            yield link


async def send_frame(cluster: ClusterDoors, message: bytes) -> int | None:
    """Send a message that no service sends; the code with which the worker hung up."""
    async with dialled(cluster, STRANGER) as link:
        with suppress(ConnectionError):  # it need not read what it will not take
            await link.send_bytes(message)
        answer = await link.receive()
        assert answer.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), answer
        return link.close_code


def refused(cluster: ClusterDoors, reason: str) -> float:
    return cluster.metric("worker-1", "drizzle_doors_refused_total", reason=reason)


def messages_refused(cluster: ClusterDoors, reason: str) -> float:
    return cluster.metric("worker-1", "drizzle_messages_refused_total", reason=reason)


async def test_a_message_that_is_no_list_of_frames(cluster: ClusterDoors) -> None:
    before = refused(cluster, "garbage")

    assert await send_frame(cluster, b"\xff" * 100) == aiohttp.WSCloseCode.POLICY_VIOLATION

    assert refused(cluster, "garbage") == before + 1


async def test_a_message_beyond_all_bounds(cluster: ClusterDoors) -> None:
    before = refused(cluster, "oversized")

    # It hangs up before all has come, so its reason may get lost on the way.
    codes = (aiohttp.WSCloseCode.MESSAGE_TOO_BIG, aiohttp.WSCloseCode.ABNORMAL_CLOSURE)
    assert await send_frame(cluster, bytes(BODY_BYTES)) in codes

    assert refused(cluster, "oversized") == before + 1


async def test_a_frame_that_is_no_envelope(cluster: ClusterDoors) -> None:
    before = messages_refused(cluster, "undecodable")
    await say(cluster, b"no envelope")

    until("it is counted", lambda: messages_refused(cluster, "undecodable") == before + 1)


async def test_a_frame_in_the_name_of_somebody_else(cluster: ClusterDoors) -> None:
    before = messages_refused(cluster, "undecodable")
    await say(cluster, frame_of(COORDINATOR, Refused(Generation(9), "forged")))

    until("it is counted", lambda: messages_refused(cluster, "undecodable") == before + 1)


async def test_an_order_that_only_the_coordinator_may_give(cluster: ClusterDoors) -> None:
    launch = Launch(JobId("none"), Generation(1), GroupId(1), BatchId(0), BatchId(1), 0.0, 50.0, 1)
    before = messages_refused(cluster, "misfit")

    await say(cluster, frame_of(STRANGER, launch))

    until("it is counted", lambda: messages_refused(cluster, "misfit") == before + 1)


async def test_a_message_of_a_generation_it_knows_nothing_of(cluster: ClusterDoors) -> None:
    offer = Offer(JobId("none"), Generation(1), SourceId(STRANGER), StageId(0), BatchId(0), (0.0,), ())
    before = messages_refused(cluster, "generation")

    await say(cluster, frame_of(STRANGER, offer))

    until("it is counted", lambda: messages_refused(cluster, "generation") == before + 1)


def test_a_body_beyond_all_bounds(cluster: ClusterDoors) -> None:
    before = refused(cluster, "oversized")
    status = answer_to_an_announced_body(cluster, BODY_BYTES)
    assert status == 413
    assert refused(cluster, "oversized") == before + 1


def test_a_fetch_of_a_block_that_does_not_exist(cluster: ClusterDoors) -> None:
    def counted(reason: str) -> float:
        return cluster.metric("worker-1", "drizzle_block_fetches_refused_total", reason=reason)

    before = counted("not_held"), counted("garbage")
    status, answer = cluster.send("worker-1", BLOCKS_NOWHERE)
    assert (status, b"wanted" in answer) == (404, True)
    status, answer = cluster.send("worker-1", "/blocks?stage=-1")
    assert (status, b"wanted" in answer) == (400, True)
    assert (counted("not_held"), counted("garbage")) == (before[0] + 1, before[1] + 1)


def test_a_request_without_the_token(cluster: ClusterDoors) -> None:
    before = refused(cluster, "token")
    status, answer = cluster.send("worker-1", BLOCKS_NOWHERE, headers={"Authorization": "Bearer no"})
    assert (status, b"token" in answer) == (401, True)
    assert refused(cluster, "token") == before + 1


def frame_of(sender: NodeId, message: Message) -> bytes:
    """A message as `sender` would frame it, at the beginning of its life."""
    envelope = Envelope(
        sender,
        session=next(SESSIONS),
        stream=1,
        ack_session=0,
        ack_stream=0,
        ack=0,
        items=(Item(1, message),),
    )
    return encode_envelope(envelope, (None,))


async def say(cluster: ClusterDoors, frame: bytes) -> None:
    """Send one frame as a message should be, and hang up."""
    async with dialled(cluster, STRANGER) as link:
        await link.send_bytes(len(frame).to_bytes(4, "little") + frame)


def answer_to_an_announced_body(cluster: ClusterDoors, length: int) -> int:
    """The status for a request that announces a body, of which nothing is sent."""
    connection = HTTPConnection(urlsplit(cluster.address("worker-1")).netloc, timeout=30)
    try:
        connection.putrequest("POST", "/blocks")
        connection.putheader("Authorization", bearer(cluster.token))
        connection.putheader("Content-Length", str(length))
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()

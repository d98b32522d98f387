"""Two releases do not talk: the coordinator's refusal ends a member, anybody else's does not."""

from __future__ import annotations

import aiohttp
import pytest

from drizzle_streams.errors import ConfigError
from drizzle_streams.model.ids import COORDINATOR, NodeId
from drizzle_streams.transport.base import RefuseReason
from drizzle_streams.transport.http import LINK_PATH, HttpTransport
from drizzle_streams.transport.http_server import HttpServer
from drizzle_streams.transport.releases import RELEASE_HEADER, own_release
from tests.transport.transport_worlds import TOKEN, Node, introduction, until


async def dial(to: str, their_release: str) -> tuple[Node, Node]:
    """A worker of our release dials a node of another one."""
    worker, other = (
        Node(HttpTransport(NodeId(name), HttpServer("127.0.0.1", 0, TOKEN), TOKEN)) for name in ("w", to)
    )
    assert isinstance(other.transport, HttpTransport)
    other.transport.release = their_release
    await worker.transport.start()
    await other.transport.start()
    try:
        worker.send(other, b"hello")
        await until(lambda: bool(worker.unreachable or other.frames), "it was answered")
    finally:
        await worker.transport.close()
        await other.transport.close()
    return worker, other


async def test_a_member_of_another_release_ends_with_the_coordinators_refusal() -> None:
    worker, coordinator = await dial(COORDINATOR, "9.9.9")
    assert coordinator.frames == []
    assert coordinator.transport.counters.refused == {RefuseReason.RELEASE: 1}
    (failure,) = worker.failures
    assert isinstance(failure, ConfigError), "exit code 2, one line, no traceback"
    for part in ("w at the coordinator", "release 9.9.9", f"found release {own_release()}", "one release"):
        assert part in str(failure)


async def test_a_peer_of_another_release_is_merely_not_reached() -> None:
    worker, peer = await dial("w2", "9.9.9")
    assert peer.frames == []
    assert worker.failures == []
    assert worker.unreachable == [NodeId("w2")]


async def test_the_same_release_is_heard() -> None:
    worker, coordinator = await dial(COORDINATOR, own_release())
    assert [frame for _, frame in coordinator.frames] == [b"hello"]
    assert worker.failures == []


@pytest.mark.parametrize("named", ["", "0.0.1", "x" * 1_000])
async def test_the_answer_says_what_is_wanted_and_what_was_found(named: str) -> None:
    node = Node(HttpTransport(COORDINATOR, HttpServer("127.0.0.1", 0, TOKEN), TOKEN))
    await node.transport.start()
    try:
        headers = introduction(node) | {RELEASE_HEADER: named}
        async with (
            aiohttp.ClientSession() as session,
            session.get(node.address + LINK_PATH, headers=headers) as answer,
        ):
            assert answer.status == 409
            assert answer.headers[RELEASE_HEADER] == own_release()
            error = (await answer.json())["error"]
    finally:
        await node.transport.close()
    assert error["wanted"] == f"release {own_release()}"
    assert error["found"] == (f"release {named[:64]}" if named else "none named")
    assert "drizzle --version" in error["remedy"]

"""Sources are found by what a coordinator says, at each connection anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from drizzle_loadgen.discovery import discovered, fixed
from drizzle_loadgen.errors import AnswerError, UsageError


class Coordinator:
    def __init__(self) -> None:
        self.status: Any = {}
        self.token = ""
        app = web.Application()
        app.router.add_get("/status", self._answer)
        self.server = TestServer(app, host="127.0.0.1")

    async def _answer(self, request: web.Request) -> web.Response:
        self.token = request.headers.get("Authorization", "")
        return web.json_response(self.status)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/"))


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    coordinator = Coordinator()
    await coordinator.server.start_server(access_log=None)
    yield coordinator
    await coordinator.server.close()


def sources(**addresses: str) -> dict[str, Any]:
    return {"sources": [{"id": name, "address": address} for name, address in addresses.items()]}


async def test_fixed_addresses_stay_in_their_order() -> None:
    found = [str(await locate()) for locate in fixed(["http://b:2", "http://a:1"])]
    assert found == ["http://b:2", "http://a:1"]


async def test_a_source_keeps_its_place_when_it_moves(coordinator: Coordinator) -> None:
    coordinator.status = sources(two="http://h:2", one="http://h:1")
    locators = await discovered(coordinator.url, {"Authorization": "Bearer t"})
    assert coordinator.token == "Bearer t"
    assert [str(await locate()) for locate in locators] == ["http://h:1", "http://h:2"]
    coordinator.status = sources(zero="http://h:7", one="http://h:9", two="http://h:2")
    assert [str(await locate()) for locate in locators] == ["http://h:9", "http://h:2"]
    coordinator.status = sources(two="http://h:2")
    with pytest.raises(AnswerError, match="one is not there"):
        await locators[0]()


@pytest.mark.parametrize(
    "status", [[], {}, {"sources": 5}, {"sources": [{"id": "a"}]}, sources(a="nowhere"), sources()]
)
async def test_a_status_without_sources_is_refused(coordinator: Coordinator, status: Any) -> None:
    coordinator.status = status
    with pytest.raises(UsageError, match="discover"):
        await discovered(coordinator.url, {})


async def test_a_coordinator_that_cannot_be_asked_is_refused(coordinator: Coordinator) -> None:
    with pytest.raises(UsageError, match="404"):
        await discovered(coordinator.url + "elsewhere", {})
    with pytest.raises(UsageError, match="127.0.0.1:1"):
        await discovered("http://127.0.0.1:1", {})

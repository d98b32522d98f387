"""The doors of a service: keys, bounds, and how it says no."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from drizzle_streams.errors import BackPressureError, ConfigError, DrizzleError, ProtocolError, StoreError
from drizzle_streams.transport.auth import Auth, header, ingest
from drizzle_streams.transport.base import NotFoundError, RefuseReason
from drizzle_streams.transport.http_errors import RefusedError
from drizzle_streams.transport.http_server import HttpServer, ServerLimits
from tests.bearer import bearer
from tests.transport.transport_worlds import TOKEN, WAIT_S

LIMITS = ServerLimits(body_bytes_max=1_000, connections_max=4, close_timeout_s=0.2)


class House:
    """A server, and a visitor who asks at its doors."""

    def __init__(self) -> None:
        self.server = HttpServer("127.0.0.1", 0, TOKEN, limits=LIMITS)
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S))

    async def open(
        self, *routes: web.AbstractRouteDef, public: bool = False, auth: Auth | None = None
    ) -> None:
        self.add(routes, public=public, auth=auth)
        await self.server.start()

    def add(
        self, routes: Iterable[web.AbstractRouteDef], *, public: bool = False, auth: Auth | None = None
    ) -> None:
        self.server.add_routes(routes, public=public, auth=auth)

    async def ask(
        self, path: str, token: str | None = TOKEN, method: str = "GET", **options: Any
    ) -> tuple[int, Any]:
        shown = bearer(TOKEN) if token == TOKEN else header(token or "")
        headers = {} if token is None else {"Authorization": shown}
        async with self.session.request(
            method, self.server.address + path, headers=headers, **options
        ) as response:
            return response.status, json.loads(await response.read() or "null")


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.session.close()
    await house.server.close()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"tasks outlived their server: {left}"


async def hello(request: web.Request) -> web.Response:
    return web.json_response("hello")


async def count(request: web.Request) -> web.Response:
    return web.json_response(len(await request.read()))


def raising(error: Exception) -> web.RouteDef:
    async def fail(request: web.Request) -> web.Response:
        raise error

    return web.get("/fail", fail)


# Keys


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + "x"])
async def test_a_door_wants_the_clusters_token(house: House, token: str | None) -> None:
    await house.open(web.get("/hello", hello))
    status, body = await house.ask("/hello", token)
    assert status == 401
    assert body["error"]["thing"] == "/hello"
    assert "cluster token" in body["error"]["wanted"]
    assert TOKEN not in json.dumps(body)
    assert house.server.refused == {RefuseReason.TOKEN: 1}
    assert await house.ask("/hello") == (200, "hello")


async def test_a_public_door_wants_none(house: House) -> None:
    house.add([web.get("/healthz", hello)], public=True)
    await house.open(web.get("/hello", hello))
    assert await house.ask("/healthz", None) == (200, "hello")
    assert (await house.ask("/hello", None))[0] == 401


async def test_a_door_may_have_a_key_of_its_own(house: House) -> None:
    await house.open(web.post("/streams/{stream}/records", hello), auth=ingest({"clicks": ("c",)}))
    assert (await house.ask("/streams/clicks/records", "c", "POST"))[0] == 200
    assert (await house.ask("/streams/views/records", "c", "POST"))[0] == 401
    status, body = await house.ask("/streams/clicks/records", TOKEN, "POST")
    assert status == 403, "the cluster's token is not of this kind"
    assert house.server.refused == {RefuseReason.TOKEN: 1, RefuseReason.KIND: 1}
    assert "ingest token" in body["error"]["wanted"]


async def test_without_a_token_nobody_learns_what_exists(house: House) -> None:
    await house.open(web.get("/hello", hello))
    assert (await house.ask("/nowhere", None))[0] == 401
    assert (await house.ask("/hello", None, "DELETE"))[0] == 401
    status, body = await house.ask("/nowhere")
    assert status == 404
    assert body["error"]["found"] == "none by that name"
    status, body = await house.ask("/hello", method="DELETE")
    assert status == 405
    assert body["error"] | {"remedy": ""} == {
        "thing": "/hello",
        "wanted": "GET or HEAD",
        "found": "DELETE",
        "remedy": "",
    }


async def test_a_route_added_behind_our_back_is_still_locked(house: House) -> None:
    house.server._app.router.add_get("/sneaked", hello)
    await house.open()
    assert (await house.ask("/sneaked", None))[0] == 401
    assert (await house.ask("/sneaked"))[0] == 200


# Saying no


@pytest.mark.parametrize(
    ("error", "status", "found"),
    [
        (RefusedError(418, "tea", wanted="tea", found="coffee", remedy="Brew."), 418, "coffee"),
        (NotFoundError("gone"), 404, "gone"),
        (BackPressureError("full"), 429, "full"),
        (ProtocolError("odd"), 400, "odd"),
        (StoreError("redis is away"), 503, "redis is away"),
        (DrizzleError("ours"), 500, "ours"),
        (web.HTTPForbidden(), 403, "Forbidden"),
    ],
)
async def test_errors_have_one_shape(house: House, error: Exception, status: int, found: str) -> None:
    await house.open(raising(error))
    got, body = await house.ask("/fail")
    assert got == status
    assert set(body["error"]) == {"thing", "wanted", "found", "remedy"}
    assert body["error"]["found"] == found


async def test_who_should_come_again_is_told_when(house: House) -> None:
    await house.open(raising(BackPressureError("full")))
    async with house.session.get(
        house.server.address + "/fail", headers={"Authorization": bearer(TOKEN)}
    ) as response:
        assert response.headers["Retry-After"] == "1"
        assert response.content_type == "application/json"


async def test_a_bug_is_logged_with_its_traceback_and_not_shown(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    await house.open(raising(ValueError("secret detail")))
    with caplog.at_level(logging.ERROR, "drizzle.http"):
        status, body = await house.ask("/fail")
    assert status == 500
    assert "secret detail" not in json.dumps(body)
    assert "secret detail" in caplog.text
    assert (await house.ask("/fail"))[0] == 500, "the service lives on"


# Bounds


async def test_a_longer_body_is_refused_by_its_announced_length(house: House) -> None:
    await house.open(web.post("/count", count))
    assert await house.ask("/count", method="POST", data=b"x" * 1_000) == (200, 1_000)
    status, body = await house.ask("/count", method="POST", data=b"x" * 1_001)
    assert status == 413
    assert "limit" in body["error"]["wanted"]
    assert house.server.refused == {RefuseReason.OVERSIZED: 1}


async def test_a_longer_body_is_refused_while_it_is_read(house: House) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    await house.open(web.post("/count", count))
    assert (await house.ask("/count", method="POST", data=endless()))[0] == 413


async def test_a_long_header_is_refused(house: House) -> None:
    await house.open(web.get("/hello", hello))
    async with house.session.get(house.server.address + "/hello", headers={"X": "x" * 20_000}) as response:
        assert response.status == 400


async def test_connections_are_bounded(house: House) -> None:
    await house.open(web.get("/hello", hello))
    port = house.server.port
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LIMITS.connections_max)]
    for reader, writer in held:
        writer.write(b"GET /hello HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b""
    assert house.server.refused[RefuseReason.CONNECTIONS_MAX] == 1
    for _, held_writer in [*held, (reader, writer)]:
        held_writer.close()
        await held_writer.wait_closed()
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                assert await house.ask("/hello") == (200, "hello")
                return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)


async def test_garbage_on_a_connection_is_answered_and_survived(house: House) -> None:
    await house.open(web.get("/hello", hello))
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.port)
    writer.write(b"\x00\xff not http at all\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.0 400")
    writer.close()
    await writer.wait_closed()
    assert await house.ask("/hello") == (200, "hello")


# Beginning and end


async def test_port_zero_takes_a_free_one(house: House) -> None:
    await house.open()
    assert house.server.address == f"http://127.0.0.1:{house.server.port}"
    assert house.server.port > 0


async def test_a_taken_port_is_one_clear_line(house: House) -> None:
    await house.open()
    second = HttpServer("127.0.0.1", house.server.port, TOKEN)
    with pytest.raises(ConfigError, match=f"127.0.0.1:{house.server.port}.*another process on it.*free one"):
        await second.start()
    await second.close()


async def test_an_address_of_another_machine_is_one_clear_line() -> None:
    server = HttpServer("192.0.2.1", 0, TOKEN)
    with pytest.raises(ConfigError, match="address of this machine"):
        await server.start()


@pytest.mark.parametrize(
    ("host", "advertised", "address"),
    [
        ("127.0.0.1", None, "http://127.0.0.1:80"),
        ("0.0.0.0", "worker-1", "http://worker-1:80"),
        ("::1", None, "http://[::1]:80"),
    ],
)
def test_the_address_is_how_others_reach_it(host: str, advertised: str | None, address: str) -> None:
    assert HttpServer(host, 80, TOKEN, advertise_host=advertised).address == address


def test_an_unspecific_host_is_advertised_by_the_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "pod-7")
    assert HttpServer("0.0.0.0", 80, TOKEN).address == "http://pod-7:80"


async def test_a_close_ends_a_handler_that_never_would(house: House) -> None:
    cancelled = asyncio.Event()

    entered = asyncio.Event()

    async def forever(request: web.Request) -> web.Response:
        entered.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()
        return web.Response()

    await house.open(web.get("/forever", forever))
    asking = asyncio.create_task(house.ask("/forever"))
    await entered.wait()
    await house.server.close()
    assert cancelled.is_set()
    with pytest.raises(aiohttp.ClientConnectionError):
        await asking

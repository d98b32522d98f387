"""A real HTTP server that takes records as a source does, and misbehaves where a test says so.

It keeps what it took in the order in which it took it, each (producer, sequence) once. The n-th
request (from 0, over all connections) is answered as `script` says, the others well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What happens to one request."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    take: bool = True  # are the records taken
    reset: bool = False  # is the connection dropped instead of an answer
    wait: bool = False  # with the answer, for `MisbehavingSource.go_on`
    close: bool = False  # is the connection closed after the answer
    raw: bytes | None = None  # bytes sent instead of an answer


THROTTLE = Behaviour(429, {"Retry-After": "0.01"}, take=False)
BROKEN = Behaviour(503, take=False)
RESET_BEFORE = Behaviour(take=False, reset=True)
RESET_AFTER = Behaviour(take=True, reset=True)  # taken, and the answer is lost
CLOSE = Behaviour(close=True)
GARBAGE = Behaviour(take=True, raw=b"SSH-2.0-nonsense\r\n\r\n")
NO_LENGTH = Behaviour(take=True, raw=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

Script = Callable[[int], Behaviour | None]


class MisbehavingSource:
    """One server on a free loopback port."""

    def __init__(self, script: Script | Mapping[int, Behaviour] | None = None) -> None:
        self._script = script if callable(script) else (script or {}).get
        self.taken: list[bytes] = []
        self.numbers: list[tuple[str, int]] = []  # of what was taken
        self.duplicates = 0
        self.requests = 0
        self.seen_headers: list[Mapping[str, str]] = []
        self.paths: list[str] = []
        self.go_on = asyncio.Event()
        self._server: TestServer | None = None

    async def start(self, port: int | None = None) -> str:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/{rest:.*}", self._post)
        self._server = TestServer(app, host="127.0.0.1", port=port)
        await self._server.start_server(access_log=None)
        return self.url

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        assert self._server is not None
        assert self._server.port is not None
        return self._server.port

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.close()

    async def _post(self, request: web.Request) -> web.StreamResponse:
        number, self.requests = self.requests, self.requests + 1
        behaviour = self._script(number) or Behaviour()
        body = await request.read()
        self.seen_headers.append(dict(request.headers))
        self.paths.append(request.path)
        if behaviour.take:
            self._take((request.headers["Drizzle-Producer"], int(request.headers["Drizzle-Sequence"])), body)
        if behaviour.wait:
            await self.go_on.wait()
        transport: Any = request.transport
        if behaviour.reset or behaviour.raw is not None:
            if transport is not None:
                transport.write(behaviour.raw or b"")
                transport.abort() if behaviour.reset else transport.close()
            return web.Response()
        response = web.json_response({"request": number}, status=behaviour.status, headers=behaviour.headers)
        if behaviour.close:
            response.force_close()
        return response

    def _take(self, number: tuple[str, int], body: bytes) -> None:
        if number in self.numbers:
            self.duplicates += 1
        else:
            self.numbers.append(number)
            self.taken.append(body)

"""The supervisor's door: what another terminal may ask of the process that keeps a local cluster.

    POST /workers?count=N    that many worker processes: 200 {"workers": [names]} · 400

It listens on loopback and wants a user's token. Calls take their turn; each answers when it is done.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import web

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.local.cluster import LocalCluster
from drizzle_streams.local.ports import HOST
from drizzle_streams.transport.auth import USER
from drizzle_streams.transport.http_server import HttpServer

COUNTS = {str(count): count for count in range(1, 65)}
"""How many workers may be asked for."""


class SupervisorDoor:
    """Open while in its `async with` block; the cluster must run."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self._server = HttpServer(HOST, 0, cluster.token)
        self._turn = asyncio.Lock()

    @property
    def address(self) -> str:
        """Where it answers."""
        return self._server.address

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server.add_routes([web.post("/workers", self._scale)], auth=USER)
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self._server.close()

    async def _scale(self, request: web.Request) -> web.Response:
        asked = request.query.get("count", "")
        if asked not in COUNTS:
            wanted, remedy = f"1 to {len(COUNTS)}", "Name another number."
            found = repr(asked[:20])
            raise ProtocolError(explain("number of workers", wanted=wanted, found=found, remedy=remedy))
        async with self._turn:
            await self._cluster.scale(COUNTS[asked])
        return web.json_response({"workers": [worker.name for worker in self._cluster.of_role("worker")]})

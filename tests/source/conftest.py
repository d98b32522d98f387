"""The source as its service wires it: logs in a directory behind a real HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from drizzle_streams.source.ingest import Ingest, IngestLimits
from drizzle_streams.source.log import LogSettings
from drizzle_streams.source.serving import Serving
from drizzle_streams.source.streams import Streams
from drizzle_streams.transport.http_server import HttpServer
from tests.bearer import bearer
from tests.source.source_worlds import fail, settings

CLUSTER_TOKEN = "cluster-token"


@dataclass
class Source:
    """A running source's doors, and a client to knock at them."""

    streams: Streams
    ingest: Ingest
    address: str
    client: aiohttp.ClientSession

    async def post(
        self, body: Any, stream: str = "ad-events", kind: str = "application/x-ndjson", **headers: str
    ) -> tuple[int, Any, Any]:
        """(status, JSON, headers) of a post; `Drizzle_Key="a"` is the header Drizzle-Key."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(
            f"{self.address}/streams/{stream}/records", data=body, headers={"Content-Type": kind, **named}
        ) as response:
            return response.status, await response.json(), response.headers

    async def get(self, path: str, token: str | None = CLUSTER_TOKEN, **params: str) -> tuple[int, bytes]:
        """(status, body) of a question at the cluster's door."""
        shown = bearer(CLUSTER_TOKEN) if token == CLUSTER_TOKEN else f"Bearer {token}"
        headers = {} if token is None else {"Authorization": shown}
        async with self.client.get(self.address + path, params=params, headers=headers) as response:
            return response.status, await response.read()


StartSource = Callable[..., Awaitable[Source]]


@pytest.fixture
async def start_source(tmp_path: Path) -> AsyncIterator[StartSource]:
    """Start sources in a test; each is closed at its end, oldest last."""
    closing: list[Callable[[], Awaitable[None]]] = []

    async def start(
        kept: LogSettings | None = None,
        *,
        directory: Path = tmp_path,
        tokens: dict[str, tuple[str, ...]] | None = None,
        auto_create: bool = True,
        limits: IngestLimits | None = None,
        wait_s: Callable[[str], int | None] = lambda _: None,
    ) -> Source:
        streams = await Streams.open(
            directory, kept or settings(), on_appended=lambda *_: None, on_failure=fail
        )
        closing.append(streams.close)
        ingest = Ingest(streams, tokens=tokens, auto_create=auto_create, limits=limits, wait_s=wait_s)
        server = HttpServer("127.0.0.1", 0, CLUSTER_TOKEN)
        server.add_routes(ingest.routes(), auth=ingest.auth)
        serving = Serving(streams)
        server.add_routes([*serving.routes(), serving.list_route()])
        await server.start()
        closing.append(server.close)
        # Where no static tokens are, the cluster's open the door for records, too.
        client = aiohttp.ClientSession(headers={} if tokens else {"Authorization": bearer(CLUSTER_TOKEN)})
        closing.append(client.close)
        return Source(streams, ingest, server.address, client)

    yield start
    for close in reversed(closing):
        await close()


@pytest.fixture
async def source(start_source: StartSource) -> Source:
    """A source with small bounds and no ingest tokens."""
    return await start_source()

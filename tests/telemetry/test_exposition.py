"""What those who watch a service get to see, over real HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from drizzle_streams.telemetry.exposition import health_route, metrics_route, ready_route, story_route
from drizzle_streams.telemetry.lag import LoopLag
from drizzle_streams.transport.http_server import HttpServer


@asynccontextmanager
async def served(*routes: web.RouteDef) -> AsyncIterator[str]:
    server = HttpServer("127.0.0.1", 0, "token")
    server.add_routes(routes, public=True)
    await server.start()
    try:
        yield server.address
    finally:
        await server.close()


async def get(url: str, **headers: str) -> tuple[int, Any, str]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        body = await (response.json() if response.content_type == "application/json" else response.text())
        return response.status, body, response.headers["Content-Type"]


async def test_health_says_alive_and_how_late() -> None:
    lag = LoopLag(lambda seconds: None)
    async with served(health_route(lag)) as address:
        status, body, _ = await get(address + "/healthz")
    assert (status, body) == (200, {"status": "alive", "loop_lag_seconds": {"last": 0.0, "worst": 0.0}})


async def test_ready_says_why_not() -> None:
    reasons: list[str | None] = ["restoring", None]
    async with served(ready_route(lambda: reasons.pop(0))) as address:
        assert (await get(address + "/readyz"))[:2] == (503, {"status": "not ready", "reason": "restoring"})
        assert (await get(address + "/readyz"))[:2] == (200, {"status": "ready"})


async def test_metrics_are_refreshed_and_readable() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("drizzle_age_seconds", "Age", registry=registry)
    async with served(metrics_route(registry, lambda: gauge.set(42))) as address:
        status, body, kind = await get(address + "/metrics")
    (family,) = text_string_to_metric_families(body)
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert family.samples[0].value == 42


async def test_metrics_come_in_the_format_asked_for() -> None:
    async with served(metrics_route(CollectorRegistry())) as address:
        _, body, kind = await get(address + "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


@pytest.mark.parametrize(("query", "numbers"), [("", [1, 2, 3]), ("?after=2", [3]), ("?after=9", [])])
async def test_the_story_is_told_from_where_one_stopped(query: str, numbers: list[int]) -> None:
    lines = [{"number": number, "kind": "WorkerLost", "text": f"w{number}"} for number in (1, 2, 3)]
    async with served(story_route(lambda: lines)) as address:
        status, body, _ = await get(address + "/debug/story" + query)
    assert status == 200
    assert [line["number"] for line in body["story"]] == numbers


async def test_a_story_from_nonsense_is_a_clear_error() -> None:
    async with served(story_route(list)) as address:
        status, body, _ = await get(address + "/debug/story?after=yesterday")
    assert status == 400
    assert body["error"]["found"] == "after is not a number"


async def test_lag_measures_how_long_the_loop_was_held() -> None:
    observed: list[float] = []
    enough = asyncio.Event()

    def observe(seconds: float) -> None:
        observed.append(seconds)
        if len(observed) == 3:
            enough.set()

    lag = LoopLag(observe, interval_s=0.005)
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0.001)
    time.sleep(0.05)  # what must never happen in a service
    await enough.wait()
    task.cancel()
    await asyncio.wait({task})
    assert observed[0] >= 0.04
    assert lag.worst >= observed[0]
    assert lag.last == observed[-1]

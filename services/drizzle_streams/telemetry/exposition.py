"""What a service shows to those who watch it, as aiohttp routes.

- `/healthz`: the process turns its loop; how late it is. Answering is the proof,
  so this never says no: a probe that gets no answer in time is the alarm.
- `/readyz`: 200 when it may be given work, 503 with the reason when not.
- `/metrics`: Prometheus; what the registry has.
- `/debug/story`: what happened and why, oldest first; `?after=N` for what is new.

Which of them want a token is the service's decision: each is its own route.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from drizzle_streams.telemetry.lag import LoopLag

Ready = Callable[[], str | None]
"""Why no work should be given to this service now; None when it should."""
Story = Callable[[], Iterable[Mapping[str, object]]]
"""Lines of the story; each has a growing `number`."""
Refresh = Callable[[], None]
"""Sets the gauges that are worth computing only when somebody looks."""


def health_route(lag: LoopLag) -> web.RouteDef:
    """`GET /healthz`."""

    async def healthz(_: web.Request) -> web.Response:
        return _json({"status": "alive", "loop_lag_seconds": {"last": lag.last, "worst": lag.worst}})

    return web.get("/healthz", healthz)


def ready_route(ready: Ready) -> web.RouteDef:
    """`GET /readyz`."""

    async def readyz(_: web.Request) -> web.Response:
        reason = ready()
        if reason is None:
            return _json({"status": "ready"})
        return _json({"status": "not ready", "reason": reason}, status=503)

    return web.get("/readyz", readyz)


def metrics_route(registry: CollectorRegistry, refresh: Refresh | None = None) -> web.RouteDef:
    """`GET /metrics`, in the format that the scraper asks for."""

    async def metrics(request: web.Request) -> web.Response:
        if refresh is not None:
            refresh()
        encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        return web.Response(body=encode(registry), headers={hdrs.CONTENT_TYPE: content_type})

    return web.get("/metrics", metrics)


def story_route(story: Story) -> web.RouteDef:
    """`GET /debug/story[?after=N]`: `{"story": [{"number": …, …}, …]}`."""

    async def tell(request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not after.isdecimal():
            raise web.HTTPBadRequest(reason="after is not a number")
        lines = [dict(line) for line in story() if _number(line) > int(after)]
        return _json({"story": lines})

    return web.get("/debug/story", tell)


def _number(line: Mapping[str, object]) -> int:
    number = line["number"]
    assert isinstance(number, int)
    return number


def _json(body: Mapping[str, object], status: int = 200) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json")

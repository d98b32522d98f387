"""Reading a source's log over the network: what workers pull, and what people look at.

    GET /streams                                           what there is
    GET /streams/{stream}/records?partition=&first=&end=   one range
    GET /streams/{stream}/records?ranges=0:100:250,1:90:180

Records come as entries (`transport.entries.decode_entries`), ranges in the order asked
for. The first door is for users, the others for services. `fetch` is the second one as a handler for any
transport, with the stream as one more parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.source.index import OffsetError
from drizzle_streams.source.log import StreamLog
from drizzle_streams.source.producers import Range
from drizzle_streams.source.streams import Streams
from drizzle_streams.transport.base import NotFoundError

SERVED_BYTES_MAX = 64 * 1024 * 1024
"""Bytes in one answer."""
RANGES_MAX = 256
"""Ranges in one question; so many still fit a header line."""


class Serving:
    """The reading doors of a source."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def list_route(self) -> web.RouteDef:
        """What there is: a door for people."""
        return web.get("/streams", self._get_streams)

    def routes(self) -> list[web.RouteDef]:
        """Doors for the cluster's services: records."""
        return [web.get("/streams/{stream}/records", self._get_records)]

    async def fetch(self, params: Mapping[str, str]) -> bytes:
        """Encoded entries.

        Raises `NotFoundError` (no such stream, offsets trimmed or never given out),
        `ProtocolError` (not a question, too much at a time) and `StoreError`.
        """
        stream = params.get("stream", "")
        log = self._streams.get(stream)
        if log is None:
            raise NotFoundError(
                explain(
                    f"stream {stream[:100]!r}",
                    wanted="a stream of this source",
                    found="none by that name",
                    remedy="GET /streams lists them.",
                )
            )
        try:
            return await log.read_encoded(_ranges(params), SERVED_BYTES_MAX)
        except OffsetError as error:
            raise NotFoundError(str(error)) from error

    async def _get_streams(self, _: web.Request) -> web.Response:
        return web.json_response({"streams": [describe(log) for log in self._streams]})

    async def _get_records(self, request: web.Request) -> web.Response:
        body = await self.fetch({**request.query, "stream": request.match_info["stream"]})
        return web.Response(body=body, content_type="application/octet-stream")


def describe(log: StreamLog) -> dict[str, Any]:
    """A log in plain values; offsets count records, sizes are bytes."""
    return {
        "stream": log.stream,
        "durability": log.durability.value,
        "live_bytes": log.live_bytes,
        "disk_bytes": log.disk_bytes,
        "budget_bytes": log.budget_bytes,
        "partitions": [
            {
                "partition": partition,
                "first_offset": log.first_offset(partition),
                "end_offset": log.end_offset(partition),
            }
            for partition in range(log.partitions)
        ],
    }


def _ranges(params: Mapping[str, str]) -> list[Range]:
    if "ranges" in params:
        asked = [text.split(":") for text in params["ranges"].split(",", RANGES_MAX)]
    else:
        asked = [[params.get(name, "") for name in ("partition", "first", "end")]]
    if len(asked) > RANGES_MAX or not all(
        len(numbers) == 3 and all(map(_is_number, numbers)) for numbers in asked
    ):
        raise ProtocolError(
            explain(
                "records asked for",
                wanted=f"partition, first and end, or up to {RANGES_MAX} ranges as partition:first:end,…",
                found=", ".join(f"{name}={params[name][:40]!r}" for name in params if name != "stream")
                or "nothing",
                remedy="Numbers are decimal; first and end are offsets between entries.",
            )
        )
    return [Range(*map(int, numbers)) for numbers in asked]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 19

"""Where records come in: POST /streams/{stream}/records.

    Content-Type      application/x-ndjson, application/vnd.apache.arrow.stream, application/msgpack
    Drizzle-Producer  who posts (1 to 100 printable characters), and
    Drizzle-Sequence  the number of this post: a re-post of the same number is harmless
    Drizzle-Key       column to partition by, instead of the whole body to the next partition

    200  {"stream", "records", "duplicate", "survives", "partitions": [{"partition",
         "first_offset", "end_offset"}]}, and those three beside it when it is one partition.
         `survives` says what the records are sure to survive: "process-crash" or
         "power-loss" (durability `always`)
    400  the body or a header is wrong         401  no token, or none of this cluster
    403  a token for something else            408  the body did not come within its time
    404  no such stream, and none is made      413  the body is too large
    409  a sequence too old to tell            503  the disk is full or has failed
    415  a type that is not taken
    429  the log's budget, more than jobs work off in time, or too many bodies at a time: nothing was
         taken, Retry-After says when

A post is taken as a whole or not at all; only a 200 says that it was. Without an answer
(a broken connection, a 503) a producer that numbers its posts sends again, to this
source, under the same number.

Tokens: an `ingest` token for the stream or for `*` (`drizzle token --kind ingest`), or a static
one of the settings: one or several per stream, `*` for streams that have none of their own.
They open nothing else. Where no static one is configured, users may post as well.

Bounds: `IngestLimits`; header lines and connections are bounded by the HTTP server.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web

from drizzle_streams.errors import BackPressureError, DrizzleError, explain
from drizzle_streams.source.formats import CONTENT_TYPES, Body, check_body
from drizzle_streams.source.log import StreamLog
from drizzle_streams.source.posts import Part, Post, Receipt
from drizzle_streams.source.producers import SEQUENCE_MAX, Sequenced, SequenceError
from drizzle_streams.source.repartition import check_key, split_by_key
from drizzle_streams.source.streams import Streams
from drizzle_streams.transport.auth import Auth, ingest
from drizzle_streams.transport.entries import EntryFormat
from drizzle_streams.transport.http_errors import RefusedError

MIB = 1024 * 1024
PRODUCER_HEADER = "Drizzle-Producer"
SEQUENCE_HEADER = "Drizzle-Sequence"
KEY_HEADER = "Drizzle-Key"
PRODUCER_CHARS_MAX = 100


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """Every bound of ingest. Times in seconds, sizes in bytes."""

    body_bytes_max: int = 8 * MIB
    """Longest body, decompressed."""
    bodies_bytes_max: int = 64 * MIB
    """All bodies in memory at a time, each at its announced length (or the longest)."""
    body_timeout_s: float = 30.0
    """From the headers to the end of the body."""
    inline_bytes_max: int = 256 * 1024
    """Larger bodies are checked in a thread, so that the loop goes on."""


def _no_wait(_: str) -> int | None:
    """Nobody measures: only the log's budget holds."""
    return None


class Ingest:
    """The door that records come in by."""

    def __init__(
        self,
        streams: Streams,
        *,
        tokens: Mapping[str, tuple[str, ...]] | None = None,
        auto_create: bool = True,
        limits: IngestLimits | None = None,
        wait_s: Callable[[str], int | None] = _no_wait,
    ) -> None:
        self._streams = streams
        self._tokens = dict(tokens or {})
        self._auto_create = auto_create
        self._limits = limits or IngestLimits()
        self._wait_s = wait_s
        self._bodies_bytes = 0
        self.counters: Counter[str] = Counter()
        """posts (duplicates among them), records and bytes taken; posts refused, and held back (429).
        Only grows; telemetry reads it."""

    @property
    def auth(self) -> Auth:
        """The key of the door."""
        return ingest(self._tokens)

    def routes(self) -> list[web.RouteDef]:
        """Doors to add with `auth` as their key."""
        return [web.post("/streams/{stream}/records", self._post)]

    async def _post(self, request: web.Request) -> web.Response:
        try:
            return await self._take(request)
        except DrizzleError as error:
            self.counters["held_back" if isinstance(error, BackPressureError) else "refused"] += 1
            raise

    async def _take(self, request: web.Request) -> web.Response:
        entry_format = _format(request)
        sequenced = _sequenced(request)
        key = request.headers.get(KEY_HEADER)
        if key is not None:
            check_key(key)
        log = await self._log(request.match_info["stream"])
        with self._room(request), log.arrivals.post():
            body = await self._read(request, min(self._limits.body_bytes_max, log.budget_bytes))
            receipt = await self._append(log, entry_format, body, sequenced, key)
        self._count(receipt, len(body))
        return web.json_response(_answer(log, receipt))

    def _admit(self, log: StreamLog) -> None:
        """Raise where more waits already than the jobs that read it work off in time."""
        wait_s = self._wait_s(log.stream)
        if wait_s is None:
            return
        error = BackPressureError(
            explain(
                f"stream {log.stream!r}",
                wanted="records that its jobs can work off within backlog_s_max",
                found=f"{wait_s} s more than that",
                remedy="Nothing was taken: send again when Retry-After is over, or add workers.",
            )
        )
        error.retry_after_s = wait_s
        raise error

    async def _log(self, stream: str) -> StreamLog:
        log = self._streams.get(stream)
        if log is not None:
            return log
        if self._auto_create:
            return await self._streams.create(stream)
        raise RefusedError(
            404,
            f"stream {stream[:100]!r}",
            wanted="a stream of this source",
            found="none by that name",
            remedy="Streams come into being when a job reads them: submit the job first.",
        )

    async def _append(
        self,
        log: StreamLog,
        entry_format: EntryFormat,
        body: bytes,
        sequenced: Sequenced | None,
        key: str | None,
    ) -> Receipt:
        try:
            if sequenced is not None and (known := log.answered(sequenced)):
                return known
            self._admit(log)
            if key is not None and log.partitions > 1:
                parts = await asyncio.to_thread(_check_and_split, entry_format, body, key, log.partitions)
            elif len(body) > self._limits.inline_bytes_max:
                parts = _whole(log, await asyncio.to_thread(check_body, entry_format, body))
            else:
                parts = _whole(log, check_body(entry_format, body))
            return await log.append(Post(entry_format, parts, sequenced))
        except SequenceError as error:
            raise RefusedError(
                409,
                SEQUENCE_HEADER,
                wanted="a number near the highest one seen",
                found=str(error),
                remedy="Number new posts upwards.",
            ) from error

    @contextmanager
    def _room(self, request: web.Request) -> Iterator[None]:
        """Space in memory for the body, for as long as it is needed. Raises at the bound."""
        longest, announced = self._limits.body_bytes_max, request.content_length
        if announced is not None and announced > longest:
            raise _too_large(longest, announced)
        compressed = hdrs.CONTENT_ENCODING in request.headers
        size = longest if announced is None or compressed else announced
        if self._bodies_bytes + size > self._limits.bodies_bytes_max:
            raise BackPressureError(
                explain(
                    "bodies on their way in",
                    wanted=f"at most {self._limits.bodies_bytes_max} bytes at a time",
                    found=f"{self._bodies_bytes} and {size} more",
                    remedy="Nothing was taken: send again later.",
                )
            )
        self._bodies_bytes += size
        try:
            yield
        finally:
            self._bodies_bytes -= size

    async def _read(self, request: web.Request, bytes_max: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                async for chunk in request.content.iter_any():
                    size += len(chunk)
                    if size > bytes_max:
                        raise _too_large(bytes_max, size)
                    chunks.append(chunk)
        except TimeoutError as error:
            raise RefusedError(
                408,
                "body",
                wanted=f"all of it within {self._limits.body_timeout_s:g} s",
                found=f"{size} bytes",
                remedy="Nothing was taken: send smaller blocks, or over a better connection.",
            ) from error
        except (web.RequestPayloadError, ConnectionError) as error:
            raise RefusedError(
                400,
                "body",
                wanted="all of it, in the encoding that its headers say",
                found=f"{size} bytes and then: {str(error)[:200]}",
                remedy="Nothing was taken: send it again.",
            ) from error
        return b"".join(chunks)

    def _count(self, receipt: Receipt, body_bytes: int) -> None:
        self.counters["posts"] += 1
        if receipt.duplicate:
            self.counters["duplicates"] += 1
        else:
            self.counters["records"] += receipt.records
            self.counters["bytes"] += body_bytes


def _whole(log: StreamLog, body: Body) -> tuple[Part, ...]:
    return (Part(log.next_partition(), body.records, body.payload),)


def _check_and_split(entry_format: EntryFormat, body: bytes, key: str, partitions: int) -> tuple[Part, ...]:
    return split_by_key(entry_format, check_body(entry_format, body), key, partitions)


def _answer(log: StreamLog, receipt: Receipt) -> dict[str, Any]:
    places = [
        {"partition": found.partition, "first_offset": found.first, "end_offset": found.end}
        for found in receipt.ranges
    ]
    return {
        "stream": log.stream,
        "records": receipt.records,
        "duplicate": receipt.duplicate,
        "survives": log.durability.survives,
        "partitions": places,
        **(places[0] if len(places) == 1 else {}),
    }


def _format(request: web.Request) -> EntryFormat:
    found = CONTENT_TYPES.get(request.content_type)
    if found is None:
        raise RefusedError(
            415,
            hdrs.CONTENT_TYPE,
            wanted=" or ".join(CONTENT_TYPES),
            found=request.content_type[:100],
            remedy="Name the type of the body.",
        )
    return found


def _sequenced(request: web.Request) -> Sequenced | None:
    producer, number = request.headers.get(PRODUCER_HEADER), request.headers.get(SEQUENCE_HEADER)
    if producer is None and number is None:
        return None
    if producer is None or not (0 < len(producer) <= PRODUCER_CHARS_MAX and _is_plain(producer)):
        raise _bad_header(PRODUCER_HEADER, f"1 to {PRODUCER_CHARS_MAX} printable ASCII characters", producer)
    if number is None or not (number.isascii() and number.isdigit() and len(number) <= 19):
        raise _bad_header(SEQUENCE_HEADER, "a decimal number", number)
    if int(number) > SEQUENCE_MAX:
        raise _bad_header(SEQUENCE_HEADER, f"a number up to {SEQUENCE_MAX}", number)
    return Sequenced(producer, int(number))


def _is_plain(text: str) -> bool:
    return all(" " < character <= "~" for character in text)


def _bad_header(name: str, wanted: str, found: str | None) -> RefusedError:
    return RefusedError(
        400,
        name,
        wanted=wanted,
        found="none" if found is None else repr(found[:100]),
        remedy="Producer and sequence go together: who posts, and the number of the post.",
    )


def _too_large(bytes_max: int, found: int) -> RefusedError:
    return RefusedError(
        413,
        "body",
        wanted=f"at most {bytes_max} bytes",
        found=f"{found} or more",
        remedy="Nothing was taken: send smaller blocks.",
    )

"""The source's numbers: posts where they are answered, logs and backlogs when somebody looks."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from drizzle_streams.core.events import BatchesSealed
from drizzle_streams.errors import BackPressureError, DrizzleError, ProtocolError
from drizzle_streams.source.ingest import Ingest
from drizzle_streams.source.log import StreamLog
from drizzle_streams.source.runs import Runs
from drizzle_streams.source.streams import Streams
from drizzle_streams.telemetry.families import OTHER
from drizzle_streams.telemetry.metrics import SourceMetrics
from drizzle_streams.transport.http_errors import RefusedError

BACK_PRESSURE = 429
"""The status of a post that must wait: the log, or what is on its way to the disk, is full."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Watch:
    """Reads what the source holds; `around` measures the door that records come in by."""

    def __init__(self, metrics: SourceMetrics, streams: Streams, runs: Runs, ingest: Ingest) -> None:
        self._metrics = metrics
        self._streams = streams
        self._runs = runs
        self._ingest = ingest
        self._bytes = 0
        self._duplicates = 0
        self._ends = {log.stream: _end(log) for log in streams}
        self._jobs: set[str] = set()

    def around(self, handler: Handler) -> Handler:
        """The handler, measured: how long a post took, or the status it was refused with."""

        async def measured(request: web.Request) -> web.StreamResponse:
            began = time.perf_counter()
            try:
                answer = await handler(request)
            except (DrizzleError, web.HTTPException) as error:
                stream = self._label(request.match_info["stream"])
                self._metrics.posts_refused.of(stream, _status(error)).inc()
                raise
            self._answered(self._label(request.match_info["stream"]), time.perf_counter() - began)
            return answer

        return measured

    def sealed(self, event: BatchesSealed) -> None:
        """Batches were sealed."""
        self._jobs.add(event.job)
        self._metrics.batches_sealed.of(event.job).inc(event.last - event.first + 1)

    def refresh(self) -> None:
        """Bring the metrics up to the moment: called at each scrape."""
        metrics, readings = self._metrics, list(self._runs)
        for log in self._streams:
            end = _end(log)
            metrics.appended_records.of(log.stream).inc(end - self._ends.get(log.stream, 0))
            self._ends[log.stream] = end
            metrics.posts_refused.of(log.stream, BACK_PRESSURE)  # from 0 on, so that the first shows
            metrics.log_bytes.of(log.stream).set(log.disk_bytes)
            metrics.log_bytes_max.of(log.stream).set(log.budget_bytes)
            behind = [reading.backlog for reading in readings if reading.log is log]
            unread = end - sum(log.first_offset(number) for number in range(log.partitions))
            metrics.backlog_records.of(log.stream).set(max(behind, default=unread))
        for job in self._jobs - {reading.key.job for reading in readings}:
            self._jobs.discard(job)
            metrics.forget_job(job)

    def _answered(self, stream: str, seconds: float) -> None:
        # Ingest counts in the same turn of the loop as it answers, so what is new is this post's.
        counted = self._ingest.counters
        self._metrics.append_seconds.of(stream).observe(seconds)
        self._metrics.appended_bytes.of(stream).inc(counted["bytes"] - self._bytes)
        self._metrics.posts_repeated.of(stream).inc(counted["duplicates"] - self._duplicates)
        self._bytes, self._duplicates = counted["bytes"], counted["duplicates"]

    def _label(self, stream: str) -> str:
        """The stream, if there is one: names that anybody may send make no series."""
        return stream if self._streams.get(stream) is not None else OTHER


def _end(log: StreamLog) -> int:
    return sum(log.end_offset(number) for number in range(log.partitions))


def _status(error: DrizzleError | web.HTTPException) -> int:
    match error:
        case RefusedError() | web.HTTPException():
            return error.status
        case BackPressureError():
            return BACK_PRESSURE
        case ProtocolError():
            return 400
        case _:
            return 503

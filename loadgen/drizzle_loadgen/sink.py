"""Reads what the job under test has written to Redis.

Layout, for a job that groups by `campaign_id` and a window, with prefix `p`:

    p:windows                    sorted set of window starts (ms)
    p:window:<window start>      set of the keys of that window's rows
    p:<campaign>:<window start>  hash of one row: the count under its name in the job, and `updated_ms`

Reading changes nothing. What is read while the job writes is not the picture of one moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, cast

import polars as pl
from redis.asyncio import Redis
from redis.exceptions import RedisError

from drizzle_loadgen.errors import SinkError, UsageError
from drizzle_loadgen.oracle import Verdict

PIPELINE_COMMANDS = 2_000  # commands sent to Redis before their answers are read
ROWS_MAX = 5_000_000
TIMEOUT_S = 5.0  # to connect, and for one answer

_SCHEMA = {
    "campaign_id": pl.String,
    "window_start": pl.Int64,
    "counted": pl.Int64,
    "updated_ms": pl.Int64,
}


class RedisSink:
    """The rows under one prefix; an asynchronous context manager."""

    def __init__(self, url: str, prefix: str, count_field: str) -> None:
        try:
            self._redis = Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)
        except ValueError as error:
            raise UsageError(f"redis address {url!r}: {error}") from error
        self._url = url
        self._prefix = prefix
        self._field = count_field

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._redis.aclose()

    async def read(self) -> pl.DataFrame:
        """All rows: `campaign_id`, `window_start`, `counted`, `updated_ms`. SinkError if that fails."""
        try:
            return await self._read()
        except (RedisError, OSError) as error:
            raise SinkError(f"sink {self._url}: {error or type(error).__name__}") from error

    async def _read(self) -> pl.DataFrame:
        starts = [
            int(start)
            for start in await cast(
                "Awaitable[list[bytes]]", self._redis.zrange(f"{self._prefix}:windows", 0, -1)
            )
        ]
        members = await self._pipelined([("SMEMBERS", f"{self._prefix}:window:{start}") for start in starts])
        keys = [(start, key.decode()) for start, found in zip(starts, members, strict=True) for key in found]
        if len(keys) > ROWS_MAX:
            raise SinkError(f"sink {self._prefix}: {len(keys)} rows, at most {ROWS_MAX} are read")
        fields = await self._pipelined([("HMGET", key, self._field, "updated_ms") for _, key in keys])
        rows = [
            (self._campaign(key, start), start, *self._values(key, values))
            for (start, key), values in zip(keys, fields, strict=True)
            if values != [None, None]  # named by the index, but not there: a row that is missing
        ]
        return pl.DataFrame(rows, schema=_SCHEMA, orient="row")

    async def _pipelined(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        answers: list[Any] = []
        for first in range(0, len(commands), PIPELINE_COMMANDS):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for command in commands[first : first + PIPELINE_COMMANDS]:
                    pipeline.execute_command(*command)
                answers.extend(await pipeline.execute())
        return answers

    def _campaign(self, key: str, start: int) -> str:
        begin, end = f"{self._prefix}:", f":{start}"
        if not (key.startswith(begin) and key.endswith(end) and len(key) > len(begin) + len(end)):
            raise SinkError(f"sink: wanted row keys {begin}<campaign>{end}, found {key!r}")
        return key[len(begin) : -len(end)]

    def _values(self, key: str, values: Sequence[bytes | None]) -> tuple[int, int]:
        try:
            count, updated_ms = (int(cast("bytes", value)) for value in values)
        except (TypeError, ValueError) as error:
            raise SinkError(
                f"sink row {key!r}: wanted whole numbers {self._field} and updated_ms, found {values}"
            ) from error
        return count, updated_ms


async def wait_exact(
    read: Callable[[], Awaitable[pl.DataFrame]],
    judge: Callable[[pl.DataFrame], Verdict],
    timeout_s: float,
    poll_s: float = 0.1,
) -> Verdict:
    """Read and judge until the verdict is exact or `timeout_s` is over; the last verdict.

    The sink cannot call us, so it is asked every `poll_s` seconds. A sink that cannot be read for the
    moment is asked again; SinkError if the last try fails too. At least one try is made.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        over = time.monotonic() >= deadline
        try:
            verdict = judge(await read())
        except SinkError:
            if over:
                raise
        else:
            if verdict.exact or over:
                return verdict
        await asyncio.sleep(min(poll_s, max(0.0, deadline - time.monotonic())))

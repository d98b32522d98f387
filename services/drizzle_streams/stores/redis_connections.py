"""A few connections to one Redis, each for one pipeline at a time.

The connections are redis-py's; its pool is not used. That looks at a connection before each use and
puts a timer and a task of its own around each step, which takes longer than Redis does for a batch's
results. Here one timer watches a whole exchange, and only who has rested is looked at.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

Command = tuple[str | bytes | int, ...]

RESTED_S: Final = 1.0
"""A connection that was not used for so long may have been closed from there: it is looked at first."""


class Connections:
    """At most `most` of them, opened when needed. Raises `ValueError` for an address that is none."""

    def __init__(self, url: str, *, most: int, connect_timeout_s: float, reply_timeout_s: float) -> None:
        self._reply_timeout_s = reply_timeout_s
        self._free = asyncio.Semaphore(most)
        self._idle: deque[tuple[AbstractConnection, float]] = deque()
        self._all: list[AbstractConnection] = []
        self._maker = ConnectionPool.from_url(
            url,
            socket_connect_timeout=connect_timeout_s,
            socket_timeout=None,  # bounded here
            socket_read_size=256 * 1024,  # the default of 32 KiB is slow for snapshots
            protocol=2,  # replies as the scripts mean them; no push messages
            retry=Retry(NoBackoff(), 0),
        )

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one piece and return their replies, in order; an error reply is raised at the end.

        Sending, and each reply, may take as long as a reply may; `TimeoutError` beyond it. After a failure
        nothing is known of the other connections either: they are opened anew.
        """
        async with asyncio.timeout(self._reply_timeout_s) as bound, self._free:
            connection, since = self._idle.pop() if self._idle else (self._made(), 0.0)
            try:
                if asyncio.get_running_loop().time() - since > RESTED_S:
                    await _looked_at(connection)
                replies = await self._talk(connection, commands, bound)
            except BaseException:
                await connection.disconnect(nowait=True)
                await self._let_go_of_idle()
                raise
            finally:
                self._idle.append((connection, asyncio.get_running_loop().time()))
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def close(self) -> None:
        """Close all of them, those in use too."""
        closed = await asyncio.gather(*(one.disconnect() for one in self._all), return_exceptions=True)
        self._all.clear()
        self._idle.clear()
        for failure in closed:
            if isinstance(failure, BaseException) and not isinstance(failure, RedisError | OSError):
                raise failure

    async def _talk(
        self, connection: AbstractConnection, commands: Sequence[Command], bound: asyncio.Timeout
    ) -> list[Any]:
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies: list[Any] = []
        for _ in commands:
            bound.reschedule(asyncio.get_running_loop().time() + self._reply_timeout_s)
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies

    async def _let_go_of_idle(self) -> None:
        for connection, _ in tuple(self._idle):
            await connection.disconnect(nowait=True)

    def _made(self) -> AbstractConnection:
        connection = self._maker.make_connection()
        self._all.append(connection)
        return connection


async def _looked_at(connection: AbstractConnection) -> None:
    """What was closed from there, or has something to say that nobody asked for, is opened anew."""
    if not connection.is_connected:
        return  # it is opened when it is used
    try:
        usable = not await connection.can_read()
    except (RedisError, OSError):
        usable = False
    if not usable:
        await connection.disconnect(nowait=True)

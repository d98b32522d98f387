"""One way to talk to Redis: pipelines of repeatable commands over a few connections, through its restarts.

Rules:

- Whatever goes through `run` may be executed more than once and partly: an answer can get
  lost after the command was done. Callers make their scripts say "done already".
- A connection problem, a timeout or a Redis that is still loading is an outage: the whole
  pipeline is sent again with bounded backoff until `outage_s_max` has passed, then OutageError.
  An error *reply* is not an outage: it is raised at once.
- Who can do nothing but wait has a `Patience`: the same pipeline, under the same tokens, is sent
  again for much longer, and the outage is told.
- redis-py's own retries are off. They would multiply with these, and it counts a refused
  password as a connection error worth repeating.
- Scripts are sent with EVAL, not EVALSHA. Redis forgets scripts when it restarts, and in a
  pipeline NOSCRIPT would hit some commands and spare others that a third party's SCRIPT LOAD
  came in time for: the later one of two ordered writes would be done alone. A script here is
  about 1 KB, which costs microseconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import AuthenticationError, AuthorizationError, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from drizzle_streams.errors import ConfigError, OutageError, StoreError, explain
from drizzle_streams.stores.redis_connections import Command, Connections

log = logging.getLogger(__name__)

AWAY_AFTER_S = 1.0
"""A Redis that does not answer for so long is told to be away: one that restarts at once is not."""

_REFUSED = (AuthenticationError, AuthorizationError)  # before _OUTAGE: they are ConnectionErrors too
_OUTAGE = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError)


@dataclass(frozen=True, slots=True)
class LinkBounds:
    """How many connections, and how long to wait for what."""

    connections_max: int = 4
    connect_timeout_s: float = 1.0
    reply_timeout_s: float = 5.0
    outage_s_max: float = 20.0
    """A supervised Redis is back, its AOF loaded, within a few seconds."""
    backoff_s_first: float = 0.01
    backoff_s_max: float = 0.25


@dataclass(frozen=True, slots=True)
class Patience:
    """For users who can only wait: `seconds` instead of `outage_s_max`, told when it begins to matter.

    `away` is called once per outage, `AWAY_AFTER_S` after its first failure, with what failed; `back` when
    an answer came again. Opening a link is not patient: a wrong address is found at start.
    """

    seconds: float
    away: Callable[[str], None]
    back: Callable[[], None]


class RedisLink:
    """One Redis, through a few connections, for stores and sinks alike.

    `retries` counts pipelines that had to be sent again, for the metrics.
    """

    def __init__(self, url: str, bounds: LinkBounds | None = None, patience: Patience | None = None) -> None:
        self._url = url
        self._bounds = bounds or LinkBounds()
        self._patience = patience
        self._away_told = False
        self._connections: Connections | None = None
        self.retries = 0

    @property
    def place(self) -> str:
        """The server as errors and logs name it: without the password."""
        parts = urlsplit(self._url)
        return f"Redis at {parts.hostname or parts.path}:{parts.port or 6379}"

    async def open(self) -> None:
        """Connect once, so that a wrong address or password is found at start."""
        if self._connections is not None:
            return
        self._connections = self._made()
        try:
            await self.run("connecting", [("PING",)])
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all connections; twice is once."""
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()

    async def run(self, what: str, commands: Sequence[Command], *, patient: bool = False) -> list[Any]:
        """Send commands in one pipeline and return their replies, in order.

        `patient`: wait as long as the link's `Patience` says, if it has any. Raises StoreError: an error
        reply, or as OutageError an outage longer than `outage_s_max`; ConfigError: Redis refuses the
        credentials. `what` says in the error what was being done.
        """
        now = asyncio.get_running_loop().time
        patience = self._patience if patient else None
        began = now()
        deadline = began + (self._bounds.outage_s_max if patience is None else patience.seconds)
        pause_s = self._bounds.backoff_s_first
        while True:
            try:
                replies = await self._attempt(commands)
            except _REFUSED as error:
                raise self._refused(error) from error
            except _OUTAGE as error:
                if now() >= deadline:
                    raise self._gone(what, error) from error
                if patience is not None and now() - began >= AWAY_AFTER_S:
                    self._tell_away(patience, f"{self.place}, {what}: {error}")
                if pause_s == self._bounds.backoff_s_first:
                    log.warning("%s: %s is repeated: %s", self.place, what, error)
            except RedisError as error:
                raise self._failed(what, error) from error
            else:
                self._tell_back()
                return replies
            self.retries += 1
            await asyncio.sleep(min(pause_s, max(deadline - now(), 0.0)))
            pause_s = min(pause_s * 2, self._bounds.backoff_s_max)

    def _tell_away(self, patience: Patience, text: str) -> None:
        if not self._away_told:
            self._away_told = True
            patience.away(text)

    def _tell_back(self) -> None:
        if self._away_told and self._patience is not None:
            self._away_told = False
            self._patience.back()

    async def _attempt(self, commands: Sequence[Command]) -> list[Any]:
        if self._connections is None:
            raise StoreError(
                explain(self.place, wanted="an open link", found="a closed one", remedy="Await open() first.")
            )
        return await self._connections.exchange(commands)

    def _made(self) -> Connections:
        bounds = self._bounds
        try:
            return Connections(
                self._url,
                most=bounds.connections_max,
                connect_timeout_s=bounds.connect_timeout_s,
                reply_timeout_s=bounds.reply_timeout_s,
            )
        except ValueError as error:
            raise ConfigError(
                explain(
                    "Redis address",
                    wanted="redis://[:password@]host:port[/db]",
                    found=f"{self._url.split('@')[-1]!r} ({error})",
                    remedy="Correct the setting.",
                )
            ) from error

    def _refused(self, error: Exception) -> ConfigError:
        return ConfigError(
            explain(
                self.place,
                wanted="a server that accepts the configured credentials",
                found=str(error),
                remedy="Put the right user and password into the Redis address.",
            )
        )

    def _gone(self, what: str, error: Exception) -> OutageError:
        return OutageError(
            explain(
                f"{self.place}, {what}",
                wanted=f"an answer within {self._bounds.outage_s_max:g} s",
                found=str(error) or type(error).__name__,
                remedy="Start Redis again or correct its address; what was acknowledged is not lost.",
            )
        )

    def _failed(self, what: str, error: RedisError) -> StoreError:
        full = isinstance(error, ResponseError) and "maxmemory" in str(error)
        return StoreError(
            explain(
                f"{self.place}, {what}",
                wanted="the command to be done",
                found=str(error),
                remedy="Raise Redis's maxmemory or remove old results."
                if full
                else "The message is Redis's own: its log says more.",
            )
        )


def script(package: str, name: str) -> str:
    """The text of a Lua script that lies beside the module which uses it."""
    return files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")

"""Bulk answers over HTTP GET: the client's half and the server's.

Blocks, log entries and tables are too long for a link: they would hold up the
small messages behind them. They are pulled over kept connections with a large
read buffer, bounded in time, length and number at a time.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp import hdrs, web

from drizzle_streams.errors import BackPressureError, ProtocolError, UnreachableError, explain
from drizzle_streams.transport.base import Address, FetchHandler, LinkCounters, LinkLimits, NotFoundError
from drizzle_streams.transport.http_errors import Handler

FOUND_BYTES_MAX = 2_048
"""How much of a refusal's body is read and repeated in our error."""
KEPT_CONNECTION_S = 30.0
"""How long an idle connection waits for the next fetch; less than the server's."""


class Fetcher:
    """One pool of connections for all fetches of a service; `authorization` makes each one's header."""

    def __init__(
        self,
        authorization: Callable[[], str],
        limits: LinkLimits,
        counters: LinkCounters,
        client_ssl: ssl.SSLContext | None,
    ) -> None:
        self._limits = limits
        self._counters = counters
        self._ssl = client_ssl if client_ssl is not None else True
        self._authorization = authorization
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the pool; needs a running loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._limits.fetch_connections_max, keepalive_timeout=KEPT_CONNECTION_S, ssl=self._ssl
            ),
            read_bufsize=self._limits.fetch_buffer_bytes,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close all connections; fetches under way fail as unreachable."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def fetch(
        self, address: Address, path: str, params: Mapping[str, str], timeout_s: float, bytes_max: int
    ) -> bytes:
        """See `Transport.fetch`."""
        session = self._session
        if session is None:
            raise UnreachableError(f"{address}{path}: this service's transport is closed")
        try:
            async with session.get(
                address + path,
                params=dict(params),
                headers={hdrs.AUTHORIZATION: self._authorization()},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                if response.status != 200:
                    raise await _refused(response)
                body = await _read(response, bytes_max)
        except aiohttp.InvalidURL as error:
            raise ProtocolError(f"{address}{path} is not an address") from error
        except aiohttp.ClientResponseError as error:
            raise ProtocolError(f"{address}{path} does not speak HTTP: {error.message}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(_unreachable(address, path, timeout_s, error)) from error
        self._counters.fetches += 1
        self._counters.fetched_bytes += len(body)
        return body


def answering(handler: FetchHandler) -> Handler:
    """The server's half: a route's handler that answers with the bytes of `handler`."""

    async def answer(request: web.Request) -> web.Response:
        body = await handler(request.query)
        return web.Response(body=body, content_type="application/octet-stream")

    return answer


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The body, never holding more than `bytes_max`, whatever its header claims."""
    announced = response.content_length
    if announced is not None and announced <= bytes_max:
        return await response.read()
    size = announced or 0
    parts: list[bytes] = []
    while size <= bytes_max and (part := await response.content.readany()):
        size += len(part)
        parts.append(part)
    if size > bytes_max:
        # What is still on its way is not worth reading: the connection goes.
        response.close()
        raise ProtocolError(
            explain(
                f"the answer to {response.url.path}",
                wanted=f"at most {bytes_max} bytes",
                found=f"{size} or more",
                remedy="Ask for less at a time.",
            )
        )
    return b"".join(parts)


async def _refused(response: aiohttp.ClientResponse) -> Exception:
    body = await response.content.read(FOUND_BYTES_MAX)
    found = f"{response.status} {_wording(body)}"
    where = f"{response.url.path} of {response.url.host}:{response.url.port}"
    if response.status == 404:
        return NotFoundError(explain(where, wanted="what was asked for", found=found, remedy="It is gone."))
    if response.status in (429, 503):
        return BackPressureError(explain(where, wanted="an answer", found=found, remedy="Try again later."))
    return ProtocolError(
        explain(where, wanted="an answer", found=found, remedy="Check token and version on both sides.")
    )


def _wording(body: bytes) -> str:
    """What a refusal says: its `found`, if it is one of ours."""
    try:
        return str(json.loads(body)["error"]["found"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:100]


def _unreachable(address: Address, path: str, timeout_s: float, error: Exception) -> str:
    found = f"none within {timeout_s} s" if isinstance(error, TimeoutError) else str(error) or repr(error)
    return explain(f"{address}{path}", wanted="an answer", found=found, remedy="The peer is suspected.")

"""Where the sources are: fixed addresses, or those that a coordinator's status names at the time.

A source that was restarted may listen elsewhere. Blocks are pinned to a source by its place in the list,
so with discovery that place belongs to the source's id, and every new connection asks again where that id
is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import aiohttp

from drizzle_loadgen.errors import AnswerError, UsageError
from drizzle_loadgen.http1 import Target
from drizzle_loadgen.settings import tls_context

STATUS_TIMEOUT_S = 3.0

Locate = Callable[[], Awaitable[Target]]


def fixed(addresses: Sequence[str]) -> list[Locate]:
    """One locator for each address; UsageError if one cannot be posted to."""
    return [partial(_same, Target.parse(address)) for address in addresses]


async def discovered(url: str, headers: dict[str, str]) -> list[Locate]:
    """One locator for each source that `GET url/status` names now, ordered by id."""
    try:
        sources = await _sources(url, headers)
    except (OSError, AnswerError) as error:
        raise UsageError(f"discover {url}: {error or type(error).__name__}") from error
    if not sources:
        raise UsageError(f"discover {url}: its status names no source")
    return [partial(_find, url, headers, source) for source in sorted(sources)]


async def _same(target: Target) -> Target:
    return target


async def _find(url: str, headers: dict[str, str], source: str) -> Target:
    sources = await _sources(url, headers)
    if source not in sources:
        raise AnswerError(
            f"status of {url}: source {source} is not there (known: {', '.join(sorted(sources))})"
        )
    return sources[source]


async def _sources(url: str, headers: dict[str, str]) -> dict[str, Target]:
    """Where each source is, by id. OSError or AnswerError if the coordinator does not say."""
    timeout = aiohttp.ClientTimeout(total=STATUS_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.get(f"{url.rstrip('/')}/status", ssl=tls_context()) as response,
        ):
            response.raise_for_status()
            status = await response.json()
    except aiohttp.ClientConnectionError as error:
        raise ConnectionError(str(error)) from error
    except (aiohttp.ClientError, ValueError) as error:
        raise AnswerError(f"status of {url}: {error}") from error
    return _addresses(status, url)


def _addresses(status: Any, url: str) -> dict[str, Target]:
    try:
        return {str(source["id"]): Target.parse(str(source["address"])) for source in status["sources"]}
    except (KeyError, TypeError, UsageError) as error:
        raise AnswerError(
            f'status of {url}: wanted "sources": [{{"id", "address"}}], found something else'
        ) from error

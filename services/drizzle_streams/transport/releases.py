"""One release of Drizzle in a cluster: who runs another one is told so at its first word.

Messages are positional and snapshots are the engine's own: two releases may mean different things
by the same bytes. So a dial names its release, whoever is dialled refuses another one before any
message is read, and a member that its coordinator refuses ends with that as its reason: to dial
again could only give the same answer.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

import aiohttp

from drizzle_streams.errors import ConfigError, explain
from drizzle_streams.model.ids import COORDINATOR, NodeId
from drizzle_streams.transport.base import Address
from drizzle_streams.transport.http_errors import RefusedError

RELEASE_HEADER: Final = "Drizzle-Release"
"""Of a dial: what the dialling service runs. Of the answer that refuses it: what is wanted."""

RELEASE_CHARACTERS_MAX: Final = 64
"""What is repeated of a release that somebody names."""

ANOTHER_RELEASE: Final = 409

REMEDY: Final = "Run one release on every node; `drizzle --version` says which."


def own_release() -> str:
    """What this process runs."""
    return version("drizzle-streams")


def another_release(path: str, node: NodeId, *, wanted: str, found: str) -> RefusedError:
    """The answer to a dial from another release."""
    return RefusedError(
        ANOTHER_RELEASE,
        f"{path} from {node}",
        wanted=f"release {wanted}",
        found=f"release {found[:RELEASE_CHARACTERS_MAX]}" if found else "none named",
        remedy=REMEDY,
        headers={RELEASE_HEADER: wanted},
    )


def refused_by_coordinator(
    node: NodeId, to: NodeId, address: Address, error: Exception, own: str
) -> ConfigError | None:
    """Why a member cannot take part, if that is what its dial of the coordinator says."""
    if not isinstance(error, aiohttp.WSServerHandshakeError) or to != COORDINATOR:
        return None
    wanted = (error.headers or {}).get(RELEASE_HEADER, "")
    if error.status != ANOTHER_RELEASE or not wanted:
        return None
    return ConfigError(
        explain(
            f"{node} at the coordinator {address}",
            wanted=f"release {wanted[:RELEASE_CHARACTERS_MAX]}, as the coordinator runs",
            found=f"release {own}",
            remedy=REMEDY,
        )
    )

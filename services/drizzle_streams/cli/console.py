"""`drizzle console`: a link that signs a browser in to the console, or the console itself."""

from __future__ import annotations

import argparse
import asyncio
import time
import webbrowser
from typing import TYPE_CHECKING

from drizzle_streams.cli.client import add_cluster, found, get_from

if TYPE_CHECKING:
    from drizzle_streams.api.client import Destination


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The cluster, and whether to open it."""
    add_cluster(parser)
    parser.add_argument("--open", action="store_true", help="open it in this machine's browser")
    parser.add_argument(
        "--at",
        metavar="URL",
        help="where your browser reaches the coordinator, if that is not the address of the cluster",
    )
    parser.epilog = """\
The link signs in for some hours, may only look, and must be used within ten minutes. It is made
here, from the cluster's secret (or a user token that ends as soon). Of several coordinators it leads
to the one that leads.

examples:
  drizzle console --open
  docker compose exec coordinator drizzle console --at http://127.0.0.1:7070"""


def run(arguments: argparse.Namespace) -> int:
    """Print the link, or open it."""
    to = found(arguments)
    link = sign_in_link(arguments.at or _leader(to), to.token)
    if not (arguments.open and webbrowser.open(link)):
        print(link)
    return 0


def _leader(to: Destination) -> str:
    """The address of whoever leads, as we were told it: others may be good inside the cluster only."""
    ours = [address.strip() for address in to.cluster.split(",")]
    if len(ours) == 1:
        return ours[0]
    leader = get_from(to, "/leader").get("leader")
    return leader if leader in ours else ours[0]


def sign_in_link(addresses: str, token: str) -> str:
    """Where a browser signs in, at the first of the coordinators. Raises `ConfigError` for an odd token."""
    from drizzle_streams.coordinator.console_session import ENTER_PATH, TICKET_TTL_S
    from drizzle_streams.protocol.tokens import TokenKind, credential

    ticket = credential(token, TokenKind.USER, time.time(), subject="link", ttl_s=TICKET_TTL_S)
    return f"{addresses.split(',', maxsplit=1)[0].strip().rstrip('/')}{ENTER_PATH}?ticket={ticket}"


async def open_console(link: str) -> bool:
    """Open it in this machine's browser; False if there is none."""
    return await asyncio.to_thread(webbrowser.open, link)

"""The console: a live page at the coordinator, for people without Grafana.

    GET /                       the page; 401 with a form to sign in with, for who has no session
    GET /console/page/{file} *  scripts and styles
    GET /console/feed *         what the page shows, live (`console_feed`)

and the doors of `console_session`. Doors with an asterisk want a user token, or the session that
signing in gives. A standby has the page, too: it says who leads.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web

from drizzle_streams.coordinator.console_feed import Feed
from drizzle_streams.coordinator.console_page import (
    PAGE_PATH,
    console_page,
    file_response,
    page_files,
    sign_in_page,
    standby_page,
)
from drizzle_streams.coordinator.console_session import WELCOME, Sessions
from drizzle_streams.transport.auth import USER
from drizzle_streams.transport.base import NotFoundError
from drizzle_streams.transport.http_server import HttpServer

STANDBY_REFRESH_S = 2
"""How often the page of a standby looks again whether it still stands by."""


def add_console(server: HttpServer, feed: Feed) -> None:
    """The doors of a leader's console."""
    _add_page(server, console_page)
    files = page_files()

    async def file(request: web.Request) -> web.Response:
        found = files.get(request.match_info["name"])
        if found is None:
            raise NotFoundError(f"no file of the console: {request.match_info['name'][:100]!r}")
        return file_response(request, found)

    server.add_routes([web.get(PAGE_PATH + "{name:.+}", file), feed.route()], auth=USER)


def add_standby_console(server: HttpServer, leader: Callable[[], str | None]) -> None:
    """The doors of a standby's console; add them before the door that takes all paths."""
    _add_page(server, lambda: standby_page(leader(), STANDBY_REFRESH_S))


def _add_page(server: HttpServer, shown: Callable[[], web.Response]) -> None:
    sessions = Sessions(server.ring, time.time)

    async def page(request: web.Request) -> web.Response:
        return shown() if sessions.admits(request) else sign_in_page(WELCOME)

    server.add_routes([web.get("/", page), *sessions.routes()], public=True)

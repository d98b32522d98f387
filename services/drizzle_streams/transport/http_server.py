"""One HTTP server per service: the doors, who may enter, and their bounds.

Services add routes; `HttpTransport` adds its own. Every door wants a token of the
cluster's services unless it was added with another key or as public. Paths that do
not exist want a user's: who has no token learns nothing from asking around.

Bounds: connections, header lines and their number, bodies, the time for headers, idle
connections, the time a close may take. Errors are JSON (`http_errors`).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from aiohttp import hdrs, web

from drizzle_streams.errors import ConfigError, explain
from drizzle_streams.protocol.tokens import Fault, Keyring
from drizzle_streams.tls import NO_TLS, TlsFiles
from drizzle_streams.transport import auth as doors
from drizzle_streams.transport.auth import CLUSTER, PUBLIC, USER, Auth
from drizzle_streams.transport.base import MIB, Address, RefuseReason
from drizzle_streams.transport.http_errors import Handler, RefusedError, answer_errors

WILDCARDS = frozenset({"", "0.0.0.0", "::"})
SWEEP_SHARE = 0.25
"""How often silent connections are looked for, in terms of `headers_timeout_s`: so much later they go."""
SAFE_METHODS = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of a server. Times in seconds, sizes in bytes."""

    body_bytes_max: int = 16 * MIB
    header_line_bytes_max: int = 8190
    headers_max: int = 64
    connections_max: int = 1024
    headers_timeout_s: float = 10.0
    """From accepting a connection to the end of its first request's headers, TLS handshake included."""
    idle_timeout_s: float = 75.0
    """A kept connection is closed when its next request's headers are not complete after this."""
    close_timeout_s: float = 2.0
    """What running handlers get at a close before they are cancelled."""


class HttpServer:
    """Listens on (host, port); port 0 takes a free one.

    `token` is the cluster's secret (several between commas: `Keyring.parse`), `now` unix seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        *,
        advertise_host: str | None = None,
        tls: TlsFiles = NO_TLS,
        limits: ServerLimits | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._port = port
        self._advertise_host = advertise_host
        self._ssl_context = tls.server()
        self.client_ssl = tls.client()
        """For dialling from here; None where the system's certificates do."""
        self._limits = limits or ServerLimits()
        self.ring = Keyring.parse(token)
        """Mints and checks this cluster's tokens."""
        self._now = now
        self._keys: dict[web.AbstractRoute, Auth] = {}
        self._app = web.Application(
            middlewares=[answer_errors, self._doorkeeper], client_max_size=self._limits.body_bytes_max
        )
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._handling: set[asyncio.Task[object]] = set()
        self._silent: dict[asyncio.BaseProtocol, float] = {}
        """Connections whose first request has not come, with when that was first seen."""
        self._spoke: set[asyncio.BaseProtocol] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self.refused: Counter[RefuseReason] = Counter()
        """Requests turned away at the door, by reason."""

    @property
    def address(self) -> Address:
        """How others reach this server; the port is known once it listens."""
        scheme = "https" if self._ssl_context else "http"
        host = self._advertise_host or (socket.gethostname() if self._host in WILDCARDS else self._host)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def port(self) -> int:
        """The port listened on (the one asked for until `start`)."""
        return self._port

    def add_routes(
        self, routes: Iterable[web.AbstractRouteDef], *, public: bool = False, auth: Auth | None = None
    ) -> None:
        """Add doors, before `start`. Key: `auth`, a cluster token without it, or none if `public`."""
        key = PUBLIC if public else auth or CLUSTER
        for route in self._app.router.add_routes(routes):
            # A GET brings its HEAD along, which has the same key.
            for door in route.resource or (route,):
                self._keys.setdefault(door, key)

    async def start(self) -> None:
        """Listen. Raises `ConfigError` when the address cannot be had."""
        limits = self._limits
        runner = web.AppRunner(
            self._app,
            access_log=None,
            shutdown_timeout=limits.close_timeout_s,
            keepalive_timeout=limits.idle_timeout_s,
            max_line_size=limits.header_line_bytes_max,
            max_field_size=limits.header_line_bytes_max,
            max_headers=limits.headers_max,
            lingering_time=limits.close_timeout_s,
        )
        await runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                lambda: self._protocol(runner),
                self._host,
                self._port,
                ssl=self._ssl_context,
                ssl_handshake_timeout=limits.headers_timeout_s if self._ssl_context else None,
            )
        except OSError as error:
            await runner.cleanup()
            raise self._cannot_listen(error) from error
        assert runner.server is not None
        self._hang_up_on_silence(runner.server)
        self._runner = runner
        self._port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, give running handlers their bounded time, close all.

        aiohttp alone would leave a handler behind whose client has hung up.
        """
        listener, self._listener = self._listener, None
        runner, self._runner = self._runner, None
        if listener is not None:
            listener.close()
        if self._handling:
            await asyncio.wait(self._handling, timeout=self._limits.close_timeout_s)
        for task in self._handling:
            task.cancel()
        if self._sweep is not None:
            self._sweep.cancel()
        if runner is not None:
            await runner.cleanup()

    def _protocol(self, runner: web.AppRunner) -> asyncio.Protocol:
        """Who talks on a connection just accepted: the app, or a closed door."""
        server = runner.server
        assert server is not None
        if len(server.connections) >= self._limits.connections_max:
            self.refused[RefuseReason.CONNECTIONS_MAX] += 1
            return _Closed()
        return server()

    def _hang_up_on_silence(self, server: web.Server) -> None:
        """Close connections whose first request's headers do not come, and look again later.

        Only what is open is remembered, so a flood of short connections costs nothing here.
        """
        loop = asyncio.get_running_loop()
        now, longest = loop.time(), self._limits.headers_timeout_s
        connections = server.connections
        self._spoke.intersection_update(connections)
        silent = (one for one in connections if one not in self._spoke)
        self._silent = {one: self._silent.get(one, now) for one in silent}
        for protocol in connections:
            if now - self._silent.get(protocol, now) >= longest:
                self.refused[RefuseReason.HEADERS_TIMEOUT] += 1
                protocol.force_close()
        self._sweep = loop.call_later(longest * SWEEP_SHARE, self._hang_up_on_silence, server)

    @web.middleware
    async def _doorkeeper(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Key first, then the announced length of the body, before any of it is read."""
        self._spoke.add(request.protocol)
        key = self._key(request)
        fault = self._fault(request, key)
        if fault is not None:
            self.refused[RefuseReason.KIND if fault is Fault.KIND else RefuseReason.TOKEN] += 1
            raise _no_entry(request, key, fault)
        body_bytes = request.content_length or 0
        if body_bytes > self._limits.body_bytes_max:
            self.refused[RefuseReason.OVERSIZED] += 1
            raise web.HTTPRequestEntityTooLarge(self._limits.body_bytes_max, body_bytes)
        task = asyncio.current_task()
        assert task is not None
        self._handling.add(task)
        try:
            return await handler(request)
        finally:
            self._handling.discard(task)

    def _key(self, request: web.Request) -> Auth:
        if request.match_info.http_exception is not None:  # no such path, or not this method
            return USER
        return self._keys.get(request.match_info.route, CLUSTER)

    def _fault(self, request: web.Request, key: Auth) -> Fault | None:
        """Why the door stays shut; a cookie counts only where nothing can be changed."""
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        if authorization is None and request.method in SAFE_METHODS and key is not PUBLIC:
            cookie = request.cookies.get(doors.SESSION_COOKIE)
            if cookie is not None:
                return doors.admits_session(key, self.ring, cookie, self._now())
        return doors.admits(key, self.ring, authorization, request.match_info, self._now())

    def _cannot_listen(self, error: OSError) -> ConfigError:
        taken = error.errno == errno.EADDRINUSE
        return ConfigError(
            explain(
                f"the address {self._host}:{self._port}",
                wanted="to listen there",
                found="another process on it" if taken else (error.strerror or str(error)),
                remedy="Choose another port (0 takes a free one), or stop the other process."
                if taken
                else "Choose an address of this machine that this user may use.",
            )
        )


class _Closed(asyncio.Protocol):
    """Hangs up at once: the server has all the connections it may have."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _no_entry(request: web.Request, key: Auth, fault: Fault) -> RefusedError:
    """401: who asks is not known; 403: known, and of another kind. Challenges as RFC 6750 has them."""
    challenge = {
        Fault.NOTHING: "Bearer",
        Fault.GARBLED: 'Bearer error="invalid_token"',
        Fault.EXPIRED: 'Bearer error="invalid_token", error_description="expired"',
        Fault.KIND: 'Bearer error="insufficient_scope"',
    }[fault]
    return RefusedError(
        403 if fault is Fault.KIND else 401,
        request.path,
        wanted=f"the {doors.name_of(key)} (Authorization: Bearer …)",
        found=fault.value,
        remedy="`drizzle token` makes one from the cluster's secret.",
        headers={hdrs.WWW_AUTHENTICATE: challenge},
    )

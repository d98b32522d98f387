"""The transport over HTTP: WebSockets for frames, GET for bulk (aiohttp).

One persistent WebSocket per pair of services, at `/link`: who has something to
say first dials, the other uses the same connection for the way back. No
compression (blocks are compact, and the loop must not wait), no Nagle delay
(aiohttp sets TCP_NODELAY), everything queued in one message.

A dial says who dials (`Drizzle-Node`, `Drizzle-Address`) and for whom it is
(`Drizzle-To`): a port may by now belong to another life of a service. It also
names its release (`Drizzle-Release`), see `releases`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import hdrs, web

from drizzle_streams.errors import UnreachableError, explain
from drizzle_streams.model.ids import NodeId
from drizzle_streams.protocol.tokens import DIAL_TTL_S, Keyring, TokenKind
from drizzle_streams.transport import auth
from drizzle_streams.transport.base import (
    Address,
    DropReason,
    FailureHandler,
    FetchHandler,
    FrameHandler,
    IntroducedHandler,
    LinkCounters,
    LinkLimits,
    RefuseReason,
    UnreachableHandler,
    fail_loudly,
    unnoticed,
    unwatched,
    unwired,
)
from drizzle_streams.transport.framing import check_frame
from drizzle_streams.transport.http_errors import RefusedError
from drizzle_streams.transport.http_fetch import Fetcher, answering
from drizzle_streams.transport.http_link import AcceptedSocket, DialledSocket, Link
from drizzle_streams.transport.http_peer import Peer
from drizzle_streams.transport.http_server import HttpServer
from drizzle_streams.transport.releases import (
    RELEASE_HEADER,
    another_release,
    own_release,
    refused_by_coordinator,
)
from drizzle_streams.transport.tasks import OwnedTasks

log = logging.getLogger("drizzle.transport")

LINK_PATH = "/link"
NODE_HEADER = "Drizzle-Node"
ADDRESS_HEADER = "Drizzle-Address"
TO_HEADER = "Drizzle-To"
# The library declares this class in a way that type checkers do not follow.
_WS_TIMEOUT: Any = aiohttp.ClientWSTimeout

NAME_CHARACTERS_MAX = 256
"""Longest node id or address in a header."""


class HttpTransport:
    """See `base.Transport`. Owns `server`: starts and closes it, and dials with its TLS files."""

    def __init__(
        self,
        node: NodeId,
        server: HttpServer,
        token: str,
        *,
        limits: LinkLimits | None = None,
    ) -> None:
        self.node = node
        self.on_frame: FrameHandler = unwired
        self.on_unreachable: UnreachableHandler = unwatched
        self.on_introduced: IntroducedHandler = unnoticed
        self.on_failure: FailureHandler = fail_loudly
        self.release = own_release()
        self._server = server
        self._limits = limits or LinkLimits()
        self.counters = LinkCounters(refused=server.refused)
        self._ring = Keyring.parse(token)
        self._ssl = server.client_ssl or True
        self._fetcher = Fetcher(self._authorization, self._limits, self.counters, server.client_ssl)
        self._peers: dict[tuple[NodeId, Address], Peer] = {}
        self._writers = OwnedTasks(self._failed)
        self._readers = OwnedTasks(self._failed)
        self._session: aiohttp.ClientSession | None = None
        server.add_routes([web.get(LINK_PATH, self._accept, allow_head=False)])

    @property
    def address(self) -> Address:
        """Where others reach this service; known once started."""
        return self._server.address

    @property
    def queued_frames(self) -> int:
        """Frames that wait to be sent, over all peers."""
        return sum(len(peer.outbound) for peer in self._peers.values())

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent, over all peers."""
        return sum(peer.outbound.bytes for peer in self._peers.values())

    @property
    def peers(self) -> int:
        """Peers known: connected, being dialled, or backing off."""
        return len(self._peers)

    def serve(self, path: str, handler: FetchHandler) -> None:
        """Answer fetches of `path` by `handler`. Before `start` only."""
        self._server.add_routes([web.get(path, answering(handler), allow_head=False)])

    async def start(self) -> None:
        """Begin to listen. Raises `ConfigError` when the address is taken."""
        await self._server.start()
        self._fetcher.open()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl),  # Bounded by `peers_max`.
            ws_response_class=DialledSocket,
            # `_dial` has its own bound for the whole.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.dial_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Send what waits for connected peers, close all, end all tasks. Bounded."""
        session, self._session = self._session, None
        peers = list(self._peers.values())
        await asyncio.gather(*(peer.flush() for peer in peers))
        await self._writers.close()
        await asyncio.gather(*(peer.retire() for peer in peers))
        await self._readers.close()
        await self._fetcher.close()
        if session is not None:
            await session.close()
        await self._server.close()

    def send(self, to: NodeId, address: Address, frame: bytes) -> None:
        """Queue `frame` for `to`; what cannot be sent is dropped and counted."""
        check_frame(frame, self._limits)
        peer = self._peers.get((to, address))
        if self._session is None:
            self.counters.dropped[DropReason.CLOSED] += 1
        elif peer is not None:
            peer.offer(frame)
        elif self._has_room(to, address):
            self._peer(to, address).offer(frame)
        else:
            self.counters.dropped[DropReason.PEERS_MAX] += 1

    def holds(self, to: NodeId, address: Address) -> bool:
        """Whether something that was sent to that peer has yet to leave here."""
        peer = self._peers.get((to, address))
        return peer is not None and peer.holds

    async def fetch(
        self, address: Address, path: str, params: Mapping[str, str], timeout_s: float, bytes_max: int
    ) -> bytes:
        """Bulk GET; see `base.Transport.fetch` for what it raises."""
        return await self._fetcher.fetch(address, path, params, timeout_s, bytes_max)

    def _has_room(self, node: NodeId, address: Address) -> bool:
        return (node, address) in self._peers or len(self._peers) < self._limits.peers_max

    def _peer(self, node: NodeId, address: Address) -> Peer:
        """The peer, known from now until it has neither connection nor frames."""
        peer = self._peers.get((node, address))
        if peer is None:
            peer = Peer(
                node,
                address,
                self._limits,
                self.counters,
                dial=self._dial,
                on_unreachable=self._unreachable,
            )
            self._peers[node, address] = peer
            self._writers.start(self._run(peer), f"link to {node}")
        return peer

    async def _run(self, peer: Peer) -> None:
        try:
            await peer.run()
        finally:
            del self._peers[peer.node, peer.address]

    async def _dial(self, peer: Peer, within_s: float) -> Link:
        session, limits = self._session, self._limits
        if session is None:
            raise UnreachableError("this service's transport is closed")
        try:
            async with asyncio.timeout(within_s):
                socket = await session.ws_connect(
                    peer.address + LINK_PATH,
                    headers=self._introduction(peer.node),
                    compress=0,
                    heartbeat=limits.heartbeat_s,
                    max_msg_size=limits.message_bytes_max,
                    timeout=_WS_TIMEOUT(ws_close=limits.close_timeout_s),
                )
        except (aiohttp.ClientError, OSError) as error:
            unfit = refused_by_coordinator(self.node, peer.node, peer.address, error, self.release)
            if unfit is not None:
                self._failed(unfit)
            raise UnreachableError(_not_dialled(peer, error, within_s)) from error
        assert isinstance(socket, DialledSocket)
        link = Link(socket, peer.node, limits, self.counters)
        self._readers.start(self._read(peer, link), f"link from {peer.node}")
        return link

    async def _read(self, peer: Peer, link: Link) -> None:
        try:
            await link.receive(self._frame)
        finally:
            peer.detach(link)

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        """A peer dials: the route of `LINK_PATH`; the server has checked the token."""
        node, address = self._introduced(request)
        if self._session is None or not self._has_room(node, address):
            self.counters.refused[RefuseReason.PEERS_MAX] += 1
            raise _full(self._limits)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the peer hung up while dialling")
        socket = AcceptedSocket(
            transport,
            compress=False,
            heartbeat=self._limits.heartbeat_s,
            max_msg_size=self._limits.message_bytes_max,
            timeout=self._limits.close_timeout_s,
        )
        await socket.prepare(request)
        link = Link(socket, node, self._limits, self.counters)
        peer = self._peer(node, address)
        peer.attach(link, accepted=True)
        self.on_introduced(node, address)
        try:
            await self._read(peer, link)
        except Exception as error:  # noqa: BLE001 - this task is aiohttp's: only `on_failure` reaches the service
            self._failed(error)
        return socket

    def _introduction(self, to: NodeId) -> dict[str, str]:
        return {
            hdrs.AUTHORIZATION: self._authorization(),
            NODE_HEADER: self.node,
            ADDRESS_HEADER: self.address,
            TO_HEADER: to,
            RELEASE_HEADER: self.release,
        }

    def _authorization(self) -> str:
        """A token for one dial or fetch. A link that it opened lives until it breaks."""
        return auth.header(self._ring.mint(TokenKind.CLUSTER, self.node, time.time(), DIAL_TTL_S))

    def _introduced(self, request: web.Request) -> tuple[NodeId, Address]:
        """Who dials, from where; refused when it means somebody else than us."""
        headers = request.headers
        node, address, to = (headers.get(name, "") for name in (NODE_HEADER, ADDRESS_HEADER, TO_HEADER))
        if not (0 < len(node) <= NAME_CHARACTERS_MAX and 0 < len(address) <= NAME_CHARACTERS_MAX):
            self.counters.refused[RefuseReason.GARBAGE] += 1
            raise RefusedError(
                400,
                LINK_PATH,
                wanted=f"{NODE_HEADER} and {ADDRESS_HEADER}, at most {NAME_CHARACTERS_MAX} characters",
                found=f"{len(node)} and {len(address)} characters",
                remedy="Only services of a cluster dial links.",
            )
        if to != self.node:
            self.counters.refused[RefuseReason.NODE] += 1
            raise RefusedError(
                421,
                LINK_PATH,
                wanted=f"a dial for {self.node}",
                found=f"one for {to[:NAME_CHARACTERS_MAX] or 'nobody'}",
                remedy="That one does not live here any more.",
            )
        release = headers.get(RELEASE_HEADER, "")
        if release != self.release:
            self.counters.refused[RefuseReason.RELEASE] += 1
            raise another_release(LINK_PATH, NodeId(node), wanted=self.release, found=release)
        return NodeId(node), address

    # The callbacks are attributes that a runtime may set after a link was made.

    def _frame(self, sender: NodeId, frame: bytes) -> None:
        self.on_frame(sender, frame)

    def _failed(self, error: BaseException) -> None:
        self.on_failure(error)

    def _unreachable(self, node: NodeId) -> None:
        self.on_unreachable(node)


def _full(limits: LinkLimits) -> RefusedError:
    return RefusedError(
        503,
        LINK_PATH,
        wanted=f"at most {limits.peers_max} peers of an open service",
        found="one more, or a service that stops",
        remedy="Dial again later.",
    )


def _not_dialled(peer: Peer, error: Exception, within_s: float) -> str:
    found = str(error) or repr(error)
    if isinstance(error, aiohttp.WSServerHandshakeError):
        found = {
            401: "another secret (or clock) there",
            409: "another release there",
            421: "another node there",
        }.get(error.status, found)
    elif isinstance(error, TimeoutError):
        found = f"no answer within {within_s:g} s"
    return explain(
        f"{peer.node} at {peer.address}", wanted="a link", found=found, remedy="Dialled again when needed."
    )

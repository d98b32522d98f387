"""The transport inside one process, for tests and for `dz.testing`.

`MemoryNetwork` is the wire: transports that share one can reach each other by
address. It keeps the promises of `base.Transport` and no more: frames are packed
into messages as on the wire, arrive in another turn of the loop than they were
sent in, and are lost where HTTP would lose them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from drizzle_streams.errors import BackPressureError, ConfigError, ProtocolError, UnreachableError, explain
from drizzle_streams.model.ids import NodeId
from drizzle_streams.protocol.tokens import DIAL_TTL_S, Keyring, TokenKind
from drizzle_streams.transport.auth import CLUSTER, admits, header
from drizzle_streams.transport.base import (
    Address,
    DropReason,
    FailureHandler,
    FetchHandler,
    FrameHandler,
    IntroducedHandler,
    LinkCounters,
    LinkLimits,
    NotFoundError,
    RefuseReason,
    UnreachableHandler,
    fail_loudly,
    unnoticed,
    unwatched,
    unwired,
)
from drizzle_streams.transport.framing import Outbound, check_frame, unpack

log = logging.getLogger("drizzle.transport")

Wire = tuple[NodeId, Address]
"""A peer as a transport knows it."""


class MemoryNetwork:
    """Who listens where."""

    def __init__(self) -> None:
        self._listening: dict[Address, MemoryTransport] = {}
        self._free_port = 1

    def listen(self, transport: MemoryTransport, address: Address) -> Address:
        """Take `address` ("" takes a free one). Raises `ConfigError` when it is taken."""
        if not address:
            address = f"http://memory:{self._free_port}"
            self._free_port += 1
        if address in self._listening:
            raise ConfigError(
                explain(
                    f"the address {address}",
                    wanted="to listen there",
                    found=f"{self._listening[address].node} on it",
                    remedy="Choose another address, or close the other transport.",
                )
            )
        self._listening[address] = transport
        return address

    def leave(self, address: Address) -> None:
        """Nobody listens there any more."""
        self._listening.pop(address, None)

    def at(self, address: Address) -> MemoryTransport:
        """Who listens at `address`. Raises `UnreachableError`."""
        try:
            return self._listening[address]
        except KeyError:
            raise UnreachableError(f"nobody listens at {address}") from None


@dataclass(slots=True)
class _Peer:
    """What waits for a peer, and the transport at the other end while linked."""

    outbound: Outbound
    linked: MemoryTransport | None = None
    next_turn: asyncio.Handle | None = None
    """The flush that is due, or the end of the rest after a failed dial."""
    failures: int = 0


NOW = 0.0
"""No time passes for a token here."""


class MemoryTransport:
    """See `base.Transport`. `address` "" takes a free one of the network."""

    def __init__(
        self,
        node: NodeId,
        network: MemoryNetwork,
        token: str,
        *,
        address: Address = "",
        limits: LinkLimits | None = None,
    ) -> None:
        self.node = node
        self.on_frame: FrameHandler = unwired
        self.on_unreachable: UnreachableHandler = unwatched
        self.on_introduced: IntroducedHandler = unnoticed
        self.on_failure: FailureHandler = fail_loudly
        self.counters = LinkCounters()
        self._network = network
        self._ring = Keyring.parse(token)
        self._presented = header(self._ring.mint(TokenKind.CLUSTER, node, NOW, DIAL_TTL_S))
        self._limits = limits or LinkLimits()
        self._address = address
        self._handlers: dict[str, FetchHandler] = {}
        self._peers: dict[Wire, _Peer] = {}
        self._open = False

    @property
    def address(self) -> Address:
        """Where others reach this service; known once started."""
        return self._address

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
        self._handlers[path] = handler

    async def start(self) -> None:
        """Begin to listen. Raises `ConfigError` when the address is taken."""
        self._address = self._network.listen(self, self._address)
        self._open = True

    async def close(self) -> None:
        """Send what waits for connected peers, then leave them and the network."""
        if not self._open:
            return
        self._open = False
        self._network.leave(self._address)
        for wire, peer in list(self._peers.items()):
            if peer.next_turn is not None:
                peer.next_turn.cancel()
            other = peer.linked
            if other is not None:
                self._write(peer, other)
                asyncio.get_running_loop().call_soon(other.lost, self.wire)
            peer.outbound.drop(DropReason.CLOSED)
            del self._peers[wire]

    def send(self, to: NodeId, address: Address, frame: bytes) -> None:
        """Queue `frame` for `to`; what cannot be sent is dropped and counted."""
        check_frame(frame, self._limits)
        if not self._open:
            self.counters.dropped[DropReason.CLOSED] += 1
        elif not self._has_room((to, address)):
            self.counters.dropped[DropReason.PEERS_MAX] += 1
        else:
            peer = self._peer((to, address))
            if peer.outbound.put(frame) and peer.next_turn is None:
                loop = asyncio.get_running_loop()
                peer.next_turn = loop.call_soon(self._flush, (to, address), peer)

    def holds(self, to: NodeId, address: Address) -> bool:
        """Whether something that was sent to that peer has yet to leave here."""
        peer = self._peers.get((to, address))
        return peer is not None and len(peer.outbound) > 0

    async def fetch(
        self, address: Address, path: str, params: Mapping[str, str], timeout_s: float, bytes_max: int
    ) -> bytes:
        """Bulk GET; see `base.Transport.fetch` for what it raises."""
        try:
            async with asyncio.timeout(timeout_s):
                body = await self._network.at(address).answer(self._presented, path, dict(params))
        except TimeoutError:
            raise UnreachableError(f"{address}{path}: no answer within {timeout_s} s") from None
        if len(body) > bytes_max:
            raise ProtocolError(
                explain(
                    f"the answer to {path}",
                    wanted=f"at most {bytes_max} bytes",
                    found=str(len(body)),
                    remedy="Ask for less at a time.",
                )
            )
        self.counters.fetches += 1
        self.counters.fetched_bytes += len(body)
        return body

    # What the network calls at the other end.

    @property
    def wire(self) -> Wire:
        """This end as its peers know it."""
        return self.node, self._address

    def accept(self, other: MemoryTransport, presented: str, to: NodeId) -> None:
        """`other` dials. Raises `UnreachableError` when it may not, or means another node."""
        if admits(CLUSTER, self._ring, presented, {}, NOW):
            self.counters.refused[RefuseReason.TOKEN] += 1
            raise UnreachableError(f"{self._address} wants another cluster token")
        if to != self.node:
            self.counters.refused[RefuseReason.NODE] += 1
            raise UnreachableError(f"{self._address} is {self.node}, not {to}")
        if not self._has_room(other.wire):
            self.counters.refused[RefuseReason.PEERS_MAX] += 1
            raise UnreachableError(f"{self._address} has {len(self._peers)} peers already")
        self._link(self._peer(other.wire), other)
        self.on_introduced(*other.wire)

    def arrive(self, sender: Wire, message: bytes) -> None:
        """A message from a linked peer."""
        peer = self._peers.get(sender)
        if peer is None or peer.linked is None:
            return  # It crossed with the end of the link, as on a real wire.
        try:
            frames = unpack(message, self._limits)
            self.counters.messages_received += 1
            self.counters.frames_received += len(frames)
            self.counters.bytes_received += len(message)
            for frame in frames:
                self.on_frame(sender[0], frame)
        except ProtocolError:
            self.counters.refused[RefuseReason.GARBAGE] += 1
            self._break(sender, peer.linked)
        except Exception as error:  # noqa: BLE001 - the sender's turn must not pay for the receiver's fault
            self._break(sender, peer.linked)
            self.on_failure(error)

    def lost(self, sender: Wire) -> None:
        """The link to `sender` is no more, and it was not this end that closed it."""
        peer = self._peers.get(sender)
        if peer is None or peer.linked is None:
            return
        peer.linked = None
        self.counters.links_broken += 1
        self._forget_idle(sender, peer)
        self.on_unreachable(sender[0])

    async def answer(self, presented: str, path: str, params: Mapping[str, str]) -> bytes:
        """A fetch arrives."""
        if admits(CLUSTER, self._ring, presented, {}, NOW):
            self.counters.refused[RefuseReason.TOKEN] += 1
            raise ProtocolError(f"{self._address}{path} wants another cluster token")
        handler = self._handlers.get(path)
        if handler is None:
            raise NotFoundError(f"{self._address} has no {path}")
        try:
            return await handler(params)
        except (NotFoundError, BackPressureError):
            raise
        except Exception as error:
            log.exception("request failed", extra={"path": path})
            raise ProtocolError(f"{self._address}{path} could not answer") from error

    def _has_room(self, wire: Wire) -> bool:
        return wire in self._peers or len(self._peers) < self._limits.peers_max

    def _peer(self, wire: Wire) -> _Peer:
        peer = self._peers.get(wire)
        if peer is None:
            peer = self._peers[wire] = _Peer(Outbound(self._limits, self.counters))
        return peer

    def _flush(self, wire: Wire, peer: _Peer) -> None:
        peer.next_turn = None
        if not len(peer.outbound):
            self._forget_idle(wire, peer)
            return
        other = peer.linked or self._dial(wire, peer)
        if other is not None:
            self._write(peer, other)

    def _write(self, peer: _Peer, other: MemoryTransport) -> None:
        while len(peer.outbound) and peer.linked is other:
            other.arrive(self.wire, peer.outbound.take())

    def _dial(self, wire: Wire, peer: _Peer) -> MemoryTransport | None:
        self.counters.dials += 1
        try:
            other = self._network.at(wire[1])
            other.accept(self, self._presented, wire[0])
        except UnreachableError:
            self._rest(wire, peer)
            return None
        self._link(peer, other)
        return other

    def _rest(self, wire: Wire, peer: _Peer) -> None:
        self.counters.dials_failed += 1
        peer.outbound.drop(DropReason.UNREACHABLE)
        rest_s = min(self._limits.backoff_first_s * 2**peer.failures, self._limits.backoff_max_s)
        peer.failures += 1
        peer.next_turn = asyncio.get_running_loop().call_later(rest_s, self._flush, wire, peer)
        self.on_unreachable(wire[0])

    def _link(self, peer: _Peer, other: MemoryTransport) -> None:
        peer.linked = other
        peer.failures = 0
        self.counters.links_opened += 1

    def _break(self, sender: Wire, other: MemoryTransport) -> None:
        asyncio.get_running_loop().call_soon(other.lost, self.wire)
        self.lost(sender)

    def _forget_idle(self, wire: Wire, peer: _Peer) -> None:
        if peer.linked is None and peer.next_turn is None and not len(peer.outbound):
            self._peers.pop(wire, None)

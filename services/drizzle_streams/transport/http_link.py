"""One open WebSocket between two services, the same from either end.

aiohttp has one class for each end; this is what they have in common, plus what
the network makes necessary: a close that is bounded in time, and an abort, since
an orderly close towards a host that vanished would wait for its buffers for ever.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web

from drizzle_streams.errors import ProtocolError
from drizzle_streams.model.ids import NodeId
from drizzle_streams.transport.base import FrameHandler, LinkCounters, LinkLimits, RefuseReason
from drizzle_streams.transport.framing import unpack

log = logging.getLogger("drizzle.transport")

AT_ONCE_BYTES_MAX = 32 * 1024
"""Messages of up to so many bytes are written without a task, if nothing waits: half of what a transport
takes before it asks for a pause."""
REASON_BYTES_MAX = 120
"""RFC 6455 leaves 123 bytes for the words of a close frame."""


class DialledSocket(aiohttp.ClientWebSocketResponse):
    """A client's WebSocket which can also be cut."""

    @property
    def wire(self) -> asyncio.Transport | None:
        """The connection below; None once it is lost."""
        return self._writer.transport

    def abort(self) -> None:
        """Drop the connection and whatever waits in its buffers."""
        self._set_closed()
        self._writer.transport.abort()
        self._response.close()


class AcceptedSocket(web.WebSocketResponse):
    """A server's WebSocket which can also be cut."""

    def __init__(self, transport: asyncio.Transport, **options: Any) -> None:
        super().__init__(**options)
        self._transport = transport

    @property
    def wire(self) -> asyncio.Transport | None:
        """The connection below."""
        return self._transport

    def abort(self) -> None:
        """Drop the connection and whatever waits in its buffers."""
        self._set_closed()
        self._transport.abort()


Socket = DialledSocket | AcceptedSocket


class Link:
    """Messages to and from one peer over one connection."""

    __slots__ = ("_counters", "_limits", "_socket", "peer", "retired")

    def __init__(self, socket: Socket, peer: NodeId, limits: LinkLimits, counters: LinkCounters) -> None:
        self._socket = socket
        self._limits = limits
        self._counters = counters
        self.peer = peer
        self.retired = False
        """True once its owner gave it up: that it ends is then no news."""

    async def write(self, message: bytes) -> None:
        """Send; waits only while the peer does not read. `ConnectionError` when it is gone.

        Must not be cancelled: all who wait to write on a connection share one future
        of aiohttp, and cancelling one of them cancels it for all. `cut` ends a wait.
        """
        await self._socket.send_bytes(message)

    def takes(self, message_bytes: int) -> bool:
        """Whether a message of that size would be written at once."""
        wire = self._socket.wire
        small = message_bytes <= AT_ONCE_BYTES_MAX
        return small and wire is not None and not wire.is_closing() and not wire.get_write_buffer_size()

    def write_at_once(self, message: bytes) -> None:
        """Send what the link `takes`; `ConnectionError` when it is gone.

        One step of aiohttp's coroutine writes; it goes on only to wait for a buffer that is full, and this
        one is empty. A task of its own would write when others had their turn.
        """
        writing = self._socket.send_bytes(message)
        try:
            writing.send(None)
        except StopIteration:
            return
        writing.close()

    async def receive(self, deliver: FrameHandler) -> None:
        """Hand over every frame until the connection ends, however it ends."""
        try:
            while True:
                message = await self._socket.receive()
                if message.type is WSMsgType.BINARY:
                    self._deliver(message.data, deliver)
                elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING):
                    return
                elif message.type is WSMsgType.TEXT:
                    raise ProtocolError("text on a link: wanted binary messages only")
                else:
                    self._broke(message.data)
                    return
        except ConnectionError as error:
            self._broke(error)  # seen while a ping was answered
        except ProtocolError as error:
            self._counters.refused[RefuseReason.GARBAGE] += 1
            log.warning("hung up on garbage", extra={"peer": self.peer, "error": str(error)})
            await self._hang_up(WSCloseCode.POLICY_VIOLATION, str(error))
        except BaseException:
            self._socket.abort()
            raise

    async def retire(self, reason: str) -> None:
        """The owner gives it up, orderly and bounded."""
        self.retired = True
        await self._hang_up(WSCloseCode.GOING_AWAY, reason)

    def cut(self) -> None:
        """The owner gives it up, at once."""
        self.retired = True
        self._socket.abort()

    async def _hang_up(self, code: int, reason: str) -> None:
        words = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore").encode()
        closing = asyncio.ensure_future(self._socket.close(code=code, message=words))
        _, waiting = await asyncio.wait({closing}, timeout=self._limits.close_timeout_s)
        if waiting:
            log.info("cut a link that would not close", extra={"peer": self.peer})
        self._socket.abort()
        await closing

    def _deliver(self, message: bytes, deliver: FrameHandler) -> None:
        frames = unpack(message, self._limits)
        counters = self._counters
        counters.messages_received += 1
        counters.frames_received += len(frames)
        counters.bytes_received += len(message)
        for frame in frames:
            deliver(self.peer, frame)

    def _broke(self, cause: object) -> None:
        """The library gave up: what it could not read it has already hung up on."""
        if isinstance(cause, aiohttp.WebSocketError):
            oversized = cause.code == WSCloseCode.MESSAGE_TOO_BIG
            self._counters.refused[RefuseReason.OVERSIZED if oversized else RefuseReason.GARBAGE] += 1
        if not self.retired:
            log.info("link broke", extra={"peer": self.peer, "error": str(cause)})
        self._socket.abort()

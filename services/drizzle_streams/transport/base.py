"""What services need from the network, without saying which network.

Two things only. Frames: small messages to a peer, like datagrams that arrive
in order while one connection lives. Fetches: one bulk answer to one question.

Rules:
- `send` never blocks and never promises. A frame may be lost (queue full, peer
  gone, connection broken) or overtaken (two services that dial each other at
  the same moment have two connections). Numbering, repeating and ordering are
  `core/outbox.py`'s work, once, for every transport.
- Every queue and every wait has a bound in `LinkLimits`; what happens at the
  bound is counted in `LinkCounters`, by reason.
- A peer is a node at an address. A node that lives on at another address (the
  coordinator's standby) is another peer, and a frame for a node is never taken
  by another life that listens on the same port.
- Implementations pass `tests/transport/test_conformance.py`, all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from drizzle_streams.errors import ConfigError, ProtocolError, explain
from drizzle_streams.model.ids import NodeId

Address = str
"""Where a service listens: "http://host:port" (or "https://…")."""

FrameHandler = Callable[[NodeId, bytes], None]
UnreachableHandler = Callable[[NodeId], None]
IntroducedHandler = Callable[[NodeId, Address], None]
FailureHandler = Callable[[BaseException], None]
FetchHandler = Callable[[Mapping[str, str]], Awaitable[bytes]]
"""Answers a fetch. Raises `NotFoundError` or `BackPressureError` to say no."""

MIB = 1024 * 1024
FRAME_HEADER_BYTES = 4
"""Each frame in a message is preceded by its length."""


class NotFoundError(ProtocolError):
    """The peer is there and has no such thing (any more)."""


class DropReason(StrEnum):
    """Why a frame was not sent."""

    QUEUE_FULL = "queue_full"
    UNREACHABLE = "unreachable"
    PEERS_MAX = "peers_max"
    CLOSED = "closed"
    NOT_LEADING = "not_leading"


class RefuseReason(StrEnum):
    """Why something that came in was not taken."""

    TOKEN = "token"
    KIND = "kind"
    """A genuine token that opens other doors."""
    HEADERS_TIMEOUT = "headers_timeout"
    """A connection that did not get to the end of its first request's headers in time."""
    NODE = "node"
    RELEASE = "release"
    """A dial from another release of Drizzle."""
    GARBAGE = "garbage"
    OVERSIZED = "oversized"
    PEERS_MAX = "peers_max"
    CONNECTIONS_MAX = "connections_max"


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Every bound of a transport. Times in seconds, sizes in bytes."""

    queue_frames_max: int = 16_384
    """Frames waiting for one peer; the newest is dropped beyond it."""
    queue_bytes_max: int = 32 * MIB
    """Bytes waiting for one peer; the newest frame is dropped beyond it."""
    frame_bytes_max: int = 8 * MIB
    """Longest frame: `send` refuses a longer one, a receiver hangs up on it."""
    message_frames_max: int = 4_096
    """Frames that go out in one write (bounds the receiver's work per message)."""
    message_bytes_max: int = 16 * MIB
    """Longest write; leaves room for a longest frame and what waits beside it."""
    peers_max: int = 1_024
    """Peers known at a time: connected, being dialled, or backing off."""
    dial_timeout_s: float = 2.0
    """From the first packet to the end of the handshake; doubles with each further dial that failed:
    whoever is too busy to answer in time is not helped by being asked anew all the time. Until it is
    connected a dial never gets longer: packets that a cut network swallowed are repeated ever more rarely."""
    dial_timeout_s_max: float = 32.0
    """Longest time that a dial gets."""
    backoff_first_s: float = 0.05
    """Rest after the first failed dial; doubles with each further one."""
    backoff_max_s: float = 2.0
    """Longest rest between dials, and how long a silent failed peer is remembered."""
    heartbeat_s: float = 4.0
    """Silence after which a peer is pinged; half as long again without an
    answer and the connection is broken. Catches hosts that vanish without a
    word, so it may be slower than a lease: only leases declare a death."""
    close_timeout_s: float = 1.0
    """What an orderly close may take before the connection is cut."""
    fetch_connections_max: int = 64
    """Fetches in the air at a time, and connections kept for them."""
    fetch_buffer_bytes: int = 1 * MIB
    """Read buffer per fetch; half of it is read ahead of the taker. With 64 KiB the
    sender waits for the reader again and again; beyond this nothing is gained
    (measured: 4 MiB in 5 ms over loopback)."""

    def __post_init__(self) -> None:
        if self.frame_bytes_max > self.message_bytes_max - FRAME_HEADER_BYTES:
            raise ConfigError(
                explain(
                    "frame_bytes_max",
                    wanted=f"at most {self.message_bytes_max - FRAME_HEADER_BYTES} (it must fit a message)",
                    found=str(self.frame_bytes_max),
                    remedy="Raise message_bytes_max or lower frame_bytes_max.",
                )
            )


@dataclass(slots=True)
class LinkCounters:
    """What a transport did since it was made. Only grows; telemetry reads it."""

    messages_sent: int = 0
    frames_sent: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    frames_received: int = 0
    bytes_received: int = 0
    dials: int = 0
    dials_failed: int = 0
    links_opened: int = 0
    links_broken: int = 0
    fetches: int = 0
    fetched_bytes: int = 0
    dropped: Counter[DropReason] = field(default_factory=Counter[DropReason])
    refused: Counter[RefuseReason] = field(default_factory=Counter[RefuseReason])


def unwired(sender: NodeId, frame: bytes) -> None:
    """`on_frame` until a runtime sets it: a frame that nobody handles is a fault."""
    raise RuntimeError(f"a frame of {len(frame)} bytes from {sender} came before on_frame was set")


def unwatched(node: NodeId) -> None:
    """`on_unreachable` until a runtime sets it: who only fetches need not care."""


def unnoticed(node: NodeId, address: Address) -> None:
    """`on_introduced` until a runtime sets it: who only answers fetches need not care."""


def fail_loudly(error: BaseException) -> None:
    """`on_failure` until a runtime sets it."""
    raise error


class Transport(Protocol):
    """One service's end of the network. Used from its event loop only."""

    node: NodeId
    counters: LinkCounters
    on_frame: FrameHandler
    """Called with (sender, frame). May raise `ProtocolError`: the connection is
    closed with that reason. Anything else it raises goes to `on_failure`."""
    on_unreachable: UnreachableHandler
    """Called once for each failed dial and each time a peer's last connection
    broke; not for connections closed from this side."""
    on_introduced: IntroducedHandler
    """Called with (node, address) when a peer has dialled us: where it can be answered, before
    its first frame. A service that restarted knows nobody else's address yet."""
    on_failure: FailureHandler
    """Called when the transport itself failed: the service must stop."""

    @property
    def address(self) -> Address:
        """Where others reach this service; known once started."""
        ...

    @property
    def queued_frames(self) -> int:
        """Frames that wait to be sent, over all peers."""
        ...

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be sent, over all peers."""
        ...

    @property
    def peers(self) -> int:
        """Peers known: connected, being dialled, or backing off."""
        ...

    def serve(self, path: str, handler: FetchHandler) -> None:
        """Answer fetches of `path` by `handler`. Before `start` only."""
        ...

    async def start(self) -> None:
        """Begin to listen. Raises `ConfigError` when the address is taken."""
        ...

    async def close(self) -> None:
        """Send what waits for connected peers, close all, end all tasks. Bounded."""
        ...

    def send(self, to: NodeId, address: Address, frame: bytes) -> None:
        """Queue `frame` for `to`; what cannot be sent is dropped and counted.

        Everything queued in one turn of the loop goes out in one write. A frame
        beyond `frame_bytes_max` can never arrive, so it raises `ProtocolError`.
        """
        ...

    def holds(self, to: NodeId, address: Address) -> bool:
        """Whether something that was sent to that peer has yet to leave here."""
        ...

    async def fetch(
        self, address: Address, path: str, params: Mapping[str, str], timeout_s: float, bytes_max: int
    ) -> bytes:
        """Bulk GET.

        Raises `UnreachableError` (no answer within `timeout_s`), `BackPressureError`
        (later), `NotFoundError`, or `ProtocolError` (refused, longer than
        `bytes_max`, anything else).
        """
        ...

"""How several frames share one message: a list of (length, bytes).

A message is the unit of writing: whatever waits for a peer is written at once,
so that a burst costs one system call and one wake-up of the receiver. Each
frame is preceded by its length (u32, little-endian); the lengths fill the
message exactly, else it is garbage and the connection is not to be trusted.
"""

from __future__ import annotations

import struct
from collections import deque

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.transport.base import FRAME_HEADER_BYTES, DropReason, LinkCounters, LinkLimits

_LENGTH = struct.Struct("<I")


class Outbound:
    """Frames that wait for one peer, bounded in number and bytes."""

    __slots__ = ("_counters", "_frames", "_limits", "bytes")

    def __init__(self, limits: LinkLimits, counters: LinkCounters) -> None:
        self._limits = limits
        self._counters = counters
        self._frames: deque[bytes] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes) -> bool:
        """Queue `frame`; False and counted when a bound says no."""
        size = len(frame)
        limits = self._limits
        if len(self._frames) >= limits.queue_frames_max or self.bytes + size > limits.queue_bytes_max:
            self._counters.dropped[DropReason.QUEUE_FULL] += 1
            return False
        self._frames.append(frame)
        self.bytes += size
        return True

    def take(self) -> bytes:
        """The next message: as many frames as its bounds allow. One copy."""
        frames, counters = self._frames, self._counters
        if len(frames) == 1:
            frame = frames.popleft()
            self.bytes = 0
            message, count = _LENGTH.pack(len(frame)) + frame, 1
        else:
            message, count = self._take_many(frames)
        counters.messages_sent += 1
        counters.frames_sent += count
        counters.bytes_sent += len(message)
        return message

    def _take_many(self, frames: deque[bytes]) -> tuple[bytes, int]:
        room = self._limits.message_bytes_max
        parts: list[bytes] = []
        for _ in range(min(len(frames), self._limits.message_frames_max)):
            size = len(frames[0])
            room -= FRAME_HEADER_BYTES + size
            if room < 0:
                break
            parts.append(_LENGTH.pack(size))
            parts.append(frames.popleft())
            self.bytes -= size
        return b"".join(parts), len(parts) // 2

    def drop(self, reason: DropReason) -> None:
        """Forget everything that waits, counted under `reason`."""
        self._counters.dropped[reason] += len(self._frames)
        self._frames.clear()
        self.bytes = 0


def check_frame(frame: bytes, limits: LinkLimits) -> None:
    """Raise `ProtocolError` for a frame no receiver would take: repeating cannot help."""
    if not 0 < len(frame) <= limits.frame_bytes_max:
        raise ProtocolError(
            explain(
                "a frame to send",
                wanted=f"1 to {limits.frame_bytes_max} bytes",
                found=f"{len(frame)} bytes",
                remedy="Split it, or offer it for a fetch.",
            )
        )


def unpack(message: bytes, limits: LinkLimits) -> list[bytes]:
    """The frames of a message. Raises `ProtocolError` for garbage, never anything else."""
    frames: list[bytes] = []
    at, end = 0, len(message)
    while at < end and len(frames) < limits.message_frames_max:
        start = at + FRAME_HEADER_BYTES
        if start > end:
            raise _garbage(f"{end - at} bytes where a length should be")
        (size,) = _LENGTH.unpack_from(message, at)
        at = start + size
        if not 0 < size <= limits.frame_bytes_max or at > end:
            raise _garbage(f"a frame of {size} bytes where {end - start} are left")
        frames.append(message[start:at])
    if at != end or not frames:
        raise _garbage(f"{end - at} bytes after {len(frames)} frames")
    return frames


def _garbage(found: str) -> ProtocolError:
    return ProtocolError(
        explain(
            "a message of a peer",
            wanted="frames that fill it, within the limits of a link",
            found=found,
            remedy="Run the same version, with the same limits, everywhere.",
        )
    )

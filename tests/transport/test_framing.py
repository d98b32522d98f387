"""Frames in messages: what goes in comes out, and garbage is only ever a ProtocolError."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.errors import ConfigError, ProtocolError
from drizzle_streams.transport.base import DropReason, LinkCounters, LinkLimits
from drizzle_streams.transport.framing import Outbound, unpack

LIMITS = LinkLimits(
    queue_frames_max=30,
    queue_bytes_max=200,
    frame_bytes_max=40,
    message_frames_max=7,
    message_bytes_max=100,
)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=40))
def test_taken_messages_hold_what_was_put_and_keep_to_the_bounds(frames: list[bytes]) -> None:
    counters = LinkCounters()
    outbound = Outbound(LIMITS, counters)
    taken_in = [frame for frame in frames if outbound.put(frame)]
    assert outbound.bytes == sum(map(len, taken_in)) <= LIMITS.queue_bytes_max
    assert len(outbound) == len(taken_in) <= LIMITS.queue_frames_max
    assert counters.dropped[DropReason.QUEUE_FULL] == len(frames) - len(taken_in)

    out: list[bytes] = []
    while len(outbound):
        message = outbound.take()
        assert len(message) <= LIMITS.message_bytes_max
        some = unpack(message, LIMITS)
        assert 1 <= len(some) <= LIMITS.message_frames_max
        out += some
    assert out == taken_in
    assert outbound.bytes == 0
    assert counters.frames_sent == len(taken_in)


@given(st.binary(max_size=120))
def test_any_bytes_are_frames_or_a_protocol_error(message: bytes) -> None:
    try:
        frames = unpack(message, LIMITS)
    except ProtocolError:
        return
    assert b"".join(len(frame).to_bytes(4, "little") + frame for frame in frames) == message
    assert frames
    assert all(frames)


def test_a_message_of_too_many_frames_is_garbage() -> None:
    frame = b"\x01\x00\x00\x00x"
    assert unpack(frame * LIMITS.message_frames_max, LIMITS) == [b"x"] * LIMITS.message_frames_max
    with pytest.raises(ProtocolError, match="5 bytes after 7 frames"):
        unpack(frame * (LIMITS.message_frames_max + 1), LIMITS)


def test_dropping_forgets_and_counts() -> None:
    counters = LinkCounters()
    outbound = Outbound(LIMITS, counters)
    outbound.put(b"x")
    outbound.put(b"yy")
    outbound.drop(DropReason.CLOSED)
    assert (len(outbound), outbound.bytes) == (0, 0)
    assert counters.dropped == {DropReason.CLOSED: 2}


def test_limits_that_could_never_send_a_longest_frame_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 96"):
        LinkLimits(frame_bytes_max=97, message_bytes_max=100)

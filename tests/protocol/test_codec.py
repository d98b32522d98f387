"""The codec: every message there and back, and hostile bytes become a ProtocolError, nothing else."""

from __future__ import annotations

import typing
from dataclasses import fields, is_dataclass
from enum import Enum

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.errors import ProtocolError
from drizzle_streams.model.ids import Generation, WorkerId
from drizzle_streams.model.placement import Placement
from drizzle_streams.protocol import codec
from drizzle_streams.protocol.messages import Envelope, Heartbeat, Item, Message
from drizzle_streams.protocol.records import AssignRecord, JobRecord, Record

SCALARS = {
    int: st.integers(-(2**31), 2**53),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=8),
    bytes: st.binary(max_size=8),
    bool: st.booleans(),
}


def values(kind: typing.Any) -> st.SearchStrategy:
    """Any value of a declared type."""
    while isinstance(kind, typing.NewType):
        kind = kind.__supertype__
    if kind in SCALARS:
        return SCALARS[kind]
    if isinstance(kind, type) and is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{f.name: values(hints[f.name]) for f in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(list(kind))
    args = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        if args[-1] is Ellipsis:
            return st.lists(values(args[0]), max_size=2).map(tuple)
        return st.tuples(*(values(arg) for arg in args))
    return st.one_of(*(st.none() if arg is type(None) else values(arg) for arg in args))


MESSAGES = st.one_of(*(values(kind) for kind in typing.get_args(Message)))


@given(st.lists(MESSAGES, max_size=4), st.integers(0, 2**40))
def test_every_message_comes_back_as_it_went(messages: list, session: int) -> None:
    items = tuple(Item(i, message) for i, message in enumerate(messages))
    envelope = Envelope("a", session, 1, 2, 3, 4, items)  # type: ignore[arg-type]
    payloads = tuple(b"x" * i if i % 2 else None for i in range(len(items)))
    assert codec.decode_envelope(codec.encode_envelope(envelope, payloads)) == (envelope, payloads)


@given(st.one_of(*(values(kind) for kind in typing.get_args(Record))))
def test_every_record_comes_back_as_it_went(record: object) -> None:
    assert codec.decode_record(type(record), codec.encode_record(record)) == record


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        codec.decode_envelope(data)
    with pytest.raises(ProtocolError):
        codec.decode_record(JobRecord, data)


@given(MESSAGES, st.data())
def test_a_damaged_message_is_a_protocol_error_or_another_valid_message(message, data: st.DataObject) -> None:
    frame = codec.encode_envelope(Envelope("a", 1, 1, 0, 0, 0, (Item(1, message),)), (None,))  # type: ignore[arg-type]
    at = data.draw(st.integers(0, len(frame) - 1))
    damaged = frame[:at] + bytes([data.draw(st.integers(0, 255))]) + frame[at + 1 :]
    try:
        envelope, payloads = codec.decode_envelope(damaged)
    except ProtocolError:
        return
    assert len(envelope.items) == len(payloads)


def test_a_frame_cut_short_is_refused() -> None:
    frame = codec.encode_envelope(Envelope("a", 1, 1, 0, 0, 0, (Item(1, Heartbeat("a", 0.5)),)), (None,))  # type: ignore[arg-type]
    for end in range(len(frame)):
        with pytest.raises(ProtocolError):
            codec.decode_envelope(frame[:end])


def test_another_version_is_named() -> None:
    with pytest.raises(ProtocolError, match="wanted 1, found 99"):
        codec.decode_envelope(msgpack.packb([99, [], []]))


def test_an_unknown_tag_is_named() -> None:
    body = ["a", 1, 1, 0, 0, 0, [[1, [999]]]]
    with pytest.raises(ProtocolError, match="message tag"):
        codec.decode_envelope(msgpack.packb([1, body, [None]]))


def test_an_oversized_frame_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "ENVELOPE_BYTES_MAX", 10)
    with pytest.raises(ProtocolError, match="at most 10 bytes"):
        codec.decode_envelope(b"x" * 11)


def test_a_bool_is_no_int() -> None:
    body = [True, 1, 1, 0, 0, 0, []]
    with pytest.raises(ProtocolError, match="wanted str"):
        codec.decode_envelope(msgpack.packb([1, body, []]))
    body = ["a", True, 1, 0, 0, 0, []]
    with pytest.raises(ProtocolError, match="wanted int"):
        codec.decode_envelope(msgpack.packb([1, body, []]))


def test_a_record_of_an_older_release_gets_the_defaults_of_what_came_since() -> None:
    record = AssignRecord(Generation(3), Placement(((WorkerId("a"),),)))
    version, body = msgpack.unpackb(codec.encode_record(record))
    assert codec.decode_record(AssignRecord, msgpack.packb([version, body[:2]])) == record
    with pytest.raises(ProtocolError, match="AssignRecord"):
        codec.decode_record(AssignRecord, msgpack.packb([version, body[:1]]))
    with pytest.raises(ProtocolError, match="AssignRecord"):
        codec.decode_record(AssignRecord, msgpack.packb([version, [*body, 0]]))

"""The only file that knows MessagePack: frozen dataclasses to positional lists and back.

A coder is compiled once per class from its type hints (`coders`), so the hot path has no reflection.
Decoding checks every type and length: bytes from outside become a value of the declared
shape or a `ProtocolError`, nothing in between.
"""

from __future__ import annotations

import typing
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import msgpack

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.protocol.coders import Decoder, decoder, encoder, listed, shown
from drizzle_streams.protocol.messages import Envelope, Item

PROTOCOL_VERSION = 1
ENVELOPE_BYTES_MAX = 64 * 1024 * 1024

T = TypeVar("T")

_ENVELOPE = encoder(Envelope), decoder(Envelope)
_PAYLOADS: Decoder = decoder(tuple[bytes | None, ...])


def encode_envelope(envelope: Envelope, payloads: tuple[bytes | None, ...]) -> bytes:
    """One frame: the envelope and, per item, the payload that rides along (or None)."""
    packed: bytes = msgpack.packb([PROTOCOL_VERSION, _ENVELOPE[0](envelope), payloads])
    return packed


def decode_envelope(frame: bytes) -> tuple[Envelope, tuple[bytes | None, ...]]:
    """The reverse of `encode_envelope`; raises `ProtocolError` on anything else."""
    version, body, raw = listed(_unpack(frame), 3, "frame")
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            explain(
                "protocol version",
                wanted=str(PROTOCOL_VERSION),
                found=shown(version),
                remedy="Run the same release of Drizzle on every node.",
            )
        )
    envelope: Envelope = _ENVELOPE[1](body)
    payloads = _PAYLOADS(raw)
    if len(payloads) != len(envelope.items):
        raise ProtocolError("frame: payloads and items differ in number. The sender is broken.")
    return envelope, payloads


def encode_record(value: object) -> bytes:
    """A ledger record: any frozen dataclass of ours, by its declared type."""
    packed: bytes = msgpack.packb([PROTOCOL_VERSION, encoder(type(value))(value)])
    return packed


def decode_record(kind: type[T], data: bytes) -> T:
    """The reverse of `encode_record` for a known type; raises `ProtocolError`.

    An older release's record may end early: fields that were added since have defaults.
    """
    version, body = listed(_unpack(data), 2, f"record of {kind.__name__}")
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            explain(
                f"record of {kind.__name__}",
                wanted=f"version {PROTOCOL_VERSION}",
                found=shown(version),
                remedy="Start the release that wrote it, or migrate.",
            )
        )
    value: T = decoder(kind)(_completed(kind, body))
    return value


def _completed(kind: type[Any], body: object) -> object:
    """A record's fields with the defaults of those at its end that came after the release that wrote it."""
    if not isinstance(body, list):
        return body
    found = typing.cast("list[Any]", body)
    hints = typing.get_type_hints(kind)
    for missing in fields(kind)[len(found) :]:
        if missing.default is MISSING:
            break
        found = [*found, encoder(hints[missing.name])(missing.default)]
    return found


def _unpack(data: bytes) -> object:
    if len(data) > ENVELOPE_BYTES_MAX:
        raise ProtocolError(
            explain(
                "frame",
                wanted=f"at most {ENVELOPE_BYTES_MAX} bytes",
                found=str(len(data)),
                remedy="Let the receiver pull large payloads instead.",
            )
        )
    try:
        return msgpack.unpackb(data, use_list=True, strict_map_key=True, max_ext_len=0)
    except Exception as error:  # msgpack raises many unrelated types on hostile bytes
        raise ProtocolError(f"bytes are not MessagePack: {error!r}. Check the sender.") from error


__all__ = ["Item", "decode_envelope", "decode_record", "encode_envelope", "encode_record"]

"""The only file that knows MessagePack: frozen dataclasses to positional lists and back.

A coder is compiled once per class from its type hints, so the hot path has no reflection.
Decoding checks every type and length: bytes from outside become a value of the declared
shape or a `ProtocolError`, nothing in between.
"""

from __future__ import annotations

import reprlib
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import msgpack

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.protocol.messages import Envelope, Item, Message

PROTOCOL_VERSION = 1
ENVELOPE_BYTES_MAX = 64 * 1024 * 1024

_MESSAGES: tuple[type[Any], ...] = typing.get_args(Message)
_TAG_OF: dict[type[Any], int] = {kind: tag for tag, kind in enumerate(_MESSAGES)}

T = TypeVar("T")
Decoder = Callable[[Any], Any]
Encoder = Callable[[Any], Any]


def encode_envelope(envelope: Envelope, payloads: tuple[bytes | None, ...]) -> bytes:
    """One frame: the envelope and, per item, the payload that rides along (or None)."""
    encode = _encoder(Envelope)
    packed: bytes = msgpack.packb([PROTOCOL_VERSION, encode(envelope), payloads])
    return packed


def decode_envelope(frame: bytes) -> tuple[Envelope, tuple[bytes | None, ...]]:
    """The reverse of `encode_envelope`; raises `ProtocolError` on anything else."""
    version, body, raw = _fields(_unpack(frame), 3, "frame")
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            explain(
                "protocol version",
                wanted=str(PROTOCOL_VERSION),
                found=_shown(version),
                remedy="Run the same release of Drizzle on every node.",
            )
        )
    envelope: Envelope = _decoder(Envelope)(body)
    payloads = _decoder(tuple[bytes | None, ...])(raw)
    if len(payloads) != len(envelope.items):
        raise ProtocolError("frame: payloads and items differ in number. The sender is broken.")
    return envelope, payloads


def encode_record(value: object) -> bytes:
    """A ledger record: any frozen dataclass of ours, by its declared type."""
    packed: bytes = msgpack.packb([PROTOCOL_VERSION, _encoder(type(value))(value)])
    return packed


def decode_record(kind: type[T], data: bytes) -> T:
    """The reverse of `encode_record` for a known type; raises `ProtocolError`.

    An older release's record may end early: fields that were added since have defaults.
    """
    version, body = _fields(_unpack(data), 2, f"record of {kind.__name__}")
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            explain(
                f"record of {kind.__name__}",
                wanted=f"version {PROTOCOL_VERSION}",
                found=_shown(version),
                remedy="Start the release that wrote it, or migrate.",
            )
        )
    value: T = _decoder(kind)(_completed(kind, body))
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
        found = [*found, _encoder(hints[missing.name])(missing.default)]
    return found


def _fields(value: object, count: int, thing: str) -> list[Any]:
    """`value` as a list of `count` fields, or a `ProtocolError` that names the thing."""
    found = typing.cast("list[Any]", value) if isinstance(value, list) else None
    if found is None or len(found) != count:
        raise ProtocolError(
            explain(
                thing,
                wanted=f"{count} fields",
                found=_shown(typing.cast("object", value)),
                remedy="Run one release of Drizzle on every node.",
            )
        )
    return found


def _shown(value: object) -> str:
    """The beginning of a value; bounded in depth, too, since what is shown here may be hostile."""
    return reprlib.repr(value)[:60]


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


@cache
def _encoder(kind: Any) -> Encoder:
    """A function from a value of `kind` to plain MessagePack values."""
    kind = _bare(kind)
    if kind == Message:
        return _encode_message
    if is_dataclass(kind):
        return _dataclass_encoder(typing.cast("type[Any]", kind))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            inner = _encoder(args[0])
            return (lambda v: v) if inner is _same else (lambda v: [inner(x) for x in v])
        inners = [_encoder(arg) for arg in args]
        return lambda v: [f(x) for f, x in zip(inners, v, strict=True)]
    if origin in (typing.Union, types.UnionType):
        inner = _encoder(_optional(kind))
        return lambda v: None if v is None else inner(v)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda v: v.value
    return _same


def _same(value: Any) -> Any:
    return value


def _encode_message(message: Any) -> Any:
    kind = typing.cast("type[Any]", type(message))
    return [_TAG_OF[kind], *_encoder(kind)(message)]


def _dataclass_encoder(kind: type[Any]) -> Encoder:
    hints = typing.get_type_hints(kind)
    parts = [(f.name, _encoder(hints[f.name])) for f in fields(kind)]
    return lambda v: [encode(getattr(v, name)) for name, encode in parts]


@cache
def _decoder(kind: Any) -> Decoder:
    """A function from plain MessagePack values to a value of `kind`, checking all the way."""
    kind = _bare(kind)
    if kind == Message:
        return _decode_message
    if is_dataclass(kind):
        return _dataclass_decoder(typing.cast("type[Any]", kind))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return _tuple_decoder(args)
    if origin in (typing.Union, types.UnionType):
        inner = _decoder(_optional(kind))
        return lambda v: None if v is None else inner(v)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_decoder(kind)
    return _scalar_decoder(kind)


def _decode_message(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        raise ProtocolError("message: wanted a tagged list. The sender is broken.")
    tag, *body = typing.cast("list[Any]", value)
    if not isinstance(tag, int) or not 0 <= tag < len(_MESSAGES):
        raise ProtocolError(
            explain(
                "message tag",
                wanted=f"0..{len(_MESSAGES) - 1}",
                found=_shown(tag),
                remedy="Run one release everywhere.",
            )
        )
    return _decoder(_MESSAGES[tag])(body)


def _dataclass_decoder(kind: type[Any]) -> Decoder:
    hints = typing.get_type_hints(kind)
    parts = [_decoder(hints[f.name]) for f in fields(kind)]
    count = len(parts)

    def decode(value: Any) -> Any:
        found = _fields(value, count, kind.__name__)
        return kind(*[part(x) for part, x in zip(parts, found, strict=True)])

    return decode


def _tuple_decoder(args: tuple[Any, ...]) -> Decoder:
    repeated = len(args) == 2 and args[1] is Ellipsis
    parts = [_decoder(args[0])] if repeated else [_decoder(arg) for arg in args]

    def decode(value: Any) -> Any:
        if not isinstance(value, list):
            raise ProtocolError(
                explain("sequence", wanted="a list", found=_shown(value), remedy="Check the sender.")
            )
        items = typing.cast("list[Any]", value)
        if repeated:
            part = parts[0]
            return tuple([part(x) for x in items])
        if len(items) != len(parts):
            raise ProtocolError(
                explain(
                    "tuple", wanted=f"{len(parts)} items", found=str(len(items)), remedy="Check the sender."
                )
            )
        return tuple(part(x) for part, x in zip(parts, items, strict=True))

    return decode


def _enum_decoder(kind: type[Enum]) -> Decoder:
    def decode(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError as error:
            names = ", ".join(str(member.value) for member in kind)
            raise ProtocolError(
                explain(kind.__name__, wanted=names, found=_shown(value), remedy="Check the sender.")
            ) from error

    return decode


def _scalar_decoder(kind: Any) -> Decoder:
    wanted = {int: (int,), float: (float, int), str: (str,), bytes: (bytes,), bool: (bool,)}.get(kind)
    if wanted is None:
        raise TypeError(f"no coder for {kind!r}: add the type to protocol/codec.py")

    def decode(value: Any) -> Any:
        if not isinstance(value, wanted) or (kind is not bool and isinstance(value, bool)):
            raise ProtocolError(
                explain(
                    "field",
                    wanted=kind.__name__,
                    found=_shown(value),
                    remedy="Run one release everywhere.",
                )
            )
        return value

    return decode


def _bare(kind: Any) -> Any:
    """The type below a NewType."""
    while isinstance(kind, typing.NewType):
        kind = kind.__supertype__
    return kind


def _optional(kind: Any) -> Any:
    """The one type beside None in `X | None`; other unions do not travel."""
    others = [arg for arg in typing.get_args(kind) if arg is not type(None)]
    if len(others) != 1:
        raise TypeError(f"no coder for {kind!r}: only `X | None` travels")
    return others[0]


__all__ = ["Item", "decode_envelope", "decode_record", "encode_envelope", "encode_record"]

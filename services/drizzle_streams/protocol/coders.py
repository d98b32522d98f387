"""A coder for each type that travels, compiled once from its type hints: no reflection on the hot path.

An encoder makes plain values (lists, numbers, text, bytes) of a value; a decoder does the reverse and
checks every type and length. Rules:

- What goes wrong is told exactly, by the slow way: part by part, each with its own check.
- Nearly everything is right, and the types of a list's parts say so at once: `tuple(map(type, value))`
  is one look at all of them. What a shape was found right for once need not be checked again, since
  whether a number, text or bytes is one depends on its type alone; other parts have their own decoders.
- Lists are the decoder's own, fresh from the wire: parts are put in their places, and nothing is copied.
"""

from __future__ import annotations

import reprlib
import types
import typing
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any

from drizzle_streams.errors import ProtocolError, explain
from drizzle_streams.protocol.messages import Message

MESSAGES: tuple[type[Any], ...] = typing.get_args(Message)
TAG_OF: dict[type[Any], int] = {kind: tag for tag, kind in enumerate(MESSAGES)}

PLAIN: dict[Any, tuple[type[Any], ...]] = {
    int: (int,),
    float: (float, int),
    str: (str,),
    bytes: (bytes,),
    bool: (bool,),
}
"""Which types of values are right for a field of that type."""

SHAPES_MAX = 64
"""Shapes of a dataclass that are remembered to be right; beyond it others are checked part by part."""

Decoder = Callable[[Any], Any]
Encoder = Callable[[Any], Any]


def listed(value: object, count: int, thing: str) -> list[Any]:
    """`value` as a list of `count` fields, or a `ProtocolError` that names the thing."""
    found = typing.cast("list[Any]", value) if isinstance(value, list) else None
    if found is None or len(found) != count:
        raise ProtocolError(
            explain(
                thing,
                wanted=f"{count} fields",
                found=shown(typing.cast("object", value)),
                remedy="Run one release of Drizzle on every node.",
            )
        )
    return found


def shown(value: object) -> str:
    """The beginning of a value; bounded in depth, too, since what is shown here may be hostile."""
    return reprlib.repr(value)[:60]


@cache
def encoder(kind: Any) -> Encoder:
    """A function from a value of `kind` to plain MessagePack values."""
    kind = _bare(kind)
    if kind == Message:
        return _encode_message
    if is_dataclass(kind):
        return _dataclass_encoder(typing.cast("type[Any]", kind))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            inner = encoder(args[0])
            return _same if inner is _same else (lambda v: [inner(x) for x in v])
        inners = [encoder(arg) for arg in args]
        return lambda v: [f(x) for f, x in zip(inners, v, strict=True)]
    if origin in (typing.Union, types.UnionType):
        inner = encoder(_optional(kind))
        return _same if inner is _same else (lambda v: None if v is None else inner(v))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda v: v.value
    return _same


def _same(value: Any) -> Any:
    return value


def _encode_message(message: Any) -> Any:
    kind = typing.cast("type[Any]", type(message))
    return [TAG_OF[kind], *encoder(kind)(message)]


def _dataclass_encoder(kind: type[Any]) -> Encoder:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    parts = [(at, encoder(hints[name])) for at, name in enumerate(names)]
    others = [(at, part) for at, part in parts if part is not _same]
    if len(names) < 2:
        return lambda v: [part(getattr(v, names[at])) for at, part in parts]
    every = attrgetter(*names)

    def encode(value: Any) -> Any:
        row = [*every(value)]
        for at, part in others:
            row[at] = part(row[at])
        return row

    return encode


@cache
def decoder(kind: Any) -> Decoder:
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
        inner = decoder(_optional(kind))
        return lambda v: None if v is None else inner(v)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_decoder(kind)
    return _scalar_decoder(kind)


def _decode_message(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        raise ProtocolError("message: wanted a tagged list. The sender is broken.")
    row = typing.cast("list[Any]", value)
    tag = row[0]
    if not isinstance(tag, int) or not 0 <= tag < len(MESSAGES):
        raise ProtocolError(
            explain(
                "message tag",
                wanted=f"0..{len(MESSAGES) - 1}",
                found=shown(tag),
                remedy="Run one release everywhere.",
            )
        )
    return decoder(MESSAGES[tag])(row[1:])


def _dataclass_decoder(kind: type[Any]) -> Decoder:
    hints = typing.get_type_hints(kind)
    kinds = [hints[field.name] for field in fields(kind)]
    parts = [decoder(part) for part in kinds]
    others = [(at, part) for at, part in enumerate(parts) if not _plain(kinds[at])]
    right: set[tuple[type[Any], ...]] = set()

    def decode(value: Any) -> Any:
        if type(value) is list:
            row = typing.cast("list[Any]", value)
            if tuple(map(type, row)) in right:
                for at, part in others:
                    row[at] = part(row[at])
                return kind(*row)
        found = listed(typing.cast("object", value), len(parts), kind.__name__)
        made = kind(*[part(x) for part, x in zip(parts, found, strict=True)])
        if len(right) < SHAPES_MAX:
            right.add(tuple(map(type, found)))
        return made

    return decode


def _tuple_decoder(args: tuple[Any, ...]) -> Decoder:
    repeated = len(args) == 2 and args[1] is Ellipsis
    parts = [decoder(args[0])] if repeated else [decoder(arg) for arg in args]
    right = frozenset(_plain(args[0]) if repeated else ())

    def decode(value: Any) -> Any:
        if right and type(value) is list and right.issuperset(map(type, typing.cast("list[Any]", value))):
            return tuple(typing.cast("list[Any]", value))
        if not isinstance(value, list):
            raise ProtocolError(
                explain("sequence", wanted="a list", found=shown(value), remedy="Check the sender.")
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
                explain(kind.__name__, wanted=names, found=shown(value), remedy="Check the sender.")
            ) from error

    return decode


def _scalar_decoder(kind: Any) -> Decoder:
    wanted = PLAIN.get(kind)
    if wanted is None:
        raise TypeError(f"no coder for {kind!r}: add the type to protocol/coders.py")

    def decode(value: Any) -> Any:
        if not isinstance(value, wanted) or (kind is not bool and isinstance(value, bool)):
            raise ProtocolError(
                explain(
                    "field",
                    wanted=kind.__name__,
                    found=shown(value),
                    remedy="Run one release everywhere.",
                )
            )
        return value

    return decode


def _plain(kind: Any) -> tuple[type[Any], ...]:
    """The types that values of that kind are right by; none where that depends on more than the type."""
    kind = _bare(kind)
    if kind != Message and typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = _plain(_optional(kind))
        return (*inner, type(None)) if inner else ()
    return PLAIN.get(kind, ())


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

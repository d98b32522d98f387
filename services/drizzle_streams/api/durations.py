"""Durations as users write them: "50ms", "10s", "1m", "1h30m", or a `datetime.timedelta`.

A bare number is refused: 10 could be milliseconds or seconds, and both have been meant.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from drizzle_streams.errors import BuildError, explain

Duration = str | timedelta

_UNIT_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0, "d": 86_400_000.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern}\s*)+")
_REMEDY: Final = (
    'Write a number and a unit: us, ms, s, m (minutes), h or d; for example "50ms", "10s", "1m30s".'
)

DURATION_MS_MAX: Final = 366 * 86_400_000.0
"""A year: longer than any state a job should keep, and far from overflow of int64 milliseconds."""


def parse_ms(
    value: Duration, thing: str, *, at_least_ms: float = 0.0, at_most_ms: float = DURATION_MS_MAX
) -> float:
    """A duration in milliseconds; raises `BuildError` that names `thing` when it is none or out of bounds."""
    millis = _millis(value, thing)
    if not at_least_ms <= millis <= at_most_ms:
        raise BuildError(
            explain(
                thing,
                wanted=f"{format_ms(at_least_ms)} to {format_ms(at_most_ms)}",
                found=repr(value),
                remedy=_REMEDY,
            )
        )
    return millis


def parse_whole_ms(value: Duration, thing: str, *, at_least_ms: int = 0) -> int:
    """Like `parse_ms`, for event time, which is counted in whole milliseconds."""
    millis = parse_ms(value, thing, at_least_ms=at_least_ms)
    if millis != int(millis):
        raise BuildError(explain(thing, wanted="whole milliseconds", found=repr(value), remedy=_REMEDY))
    return int(millis)


def format_ms(millis: float) -> str:
    """The shortest way to write a duration: 1500.0 is "1.5s"."""
    for unit in ("d", "h", "m"):
        if millis >= _UNIT_MS[unit] and millis % _UNIT_MS[unit] == 0:
            return f"{millis / _UNIT_MS[unit]:g}{unit}"
    return f"{millis / 1000:.12g}s" if millis >= _UNIT_MS["s"] else f"{millis:.12g}ms"


def _millis(value: Duration, thing: str) -> float:
    if isinstance(value, timedelta):
        return value / timedelta(milliseconds=1)
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        return sum(float(number) * _UNIT_MS[unit] for number, unit in _PART.findall(value))
    raise BuildError(explain(thing, wanted="a duration", found=repr(value), remedy=_REMEDY))

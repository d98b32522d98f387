"""Finding the bad records of a payload that cannot be read as a whole.

The reader itself is the judge, so that a record is judged alike on the fast path and here:
the lines are halved until what fails is one line. A flood of garbage must not cost one
reader call per line, so lines that Python's own JSON parser refuses are judged by it first:
whatever it refuses the reader refuses too (the reverse is not so, hence the halving). A test
holds the two parsers against each other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import polars as pl

from drizzle_streams.engine.failures import POLARS_ERRORS

ReadLines = Callable[[Sequence[bytes]], pl.DataFrame]


def good_lines(lines: Sequence[bytes], read: ReadLines) -> tuple[pl.DataFrame, dict[int, str]]:
    """The good lines as one frame, in order, and the reasons against the bad ones by their number."""
    reasons = {number: reason for number, line in enumerate(lines) if (reason := _plainly_bad(line))}
    frames = [read([])]
    # A stack instead of recursion: stretches of suspects, the leftmost on top.
    waiting = [[number for number in range(len(lines)) if number not in reasons]]
    while waiting:
        numbers = waiting.pop()
        try:
            frame = read([lines[number] for number in numbers])
        except POLARS_ERRORS as error:
            if len(numbers) == 1:
                reasons[numbers[0]] = f"cannot be read: {error}"
                continue
            frame = None
        if frame is not None and frame.height == len(numbers):
            frames.append(frame)
        elif len(numbers) == 1:
            reasons[numbers[0]] = "cannot be read: not one JSON object on a line of its own"
        else:
            middle = len(numbers) // 2
            waiting += [numbers[middle:], numbers[:middle]]
    return pl.concat(frames), dict(sorted(reasons.items()))


def _plainly_bad(line: bytes) -> str | None:
    try:
        value = json.loads(line, strict=False)
    except RecursionError:
        return None
    except ValueError as error:
        return f"not JSON: {error}"
    return None if isinstance(value, dict) else f"not a JSON object: {type(value).__name__}"

"""Windows: which event times belong together, and when a result is given out.

"update" (the default) gives a window's new totals with every batch that changed it, so the freshest
value is in the sink one batch after the event; a sink keeps the last. "close" gives each window once,
when no more rows are expected for it: later, but final.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from drizzle_streams.api.durations import Duration, format_ms, parse_whole_ms
from drizzle_streams.errors import BuildError, explain

Emit = Literal["update", "close"]


@dataclass(frozen=True, slots=True)
class Tumbling:
    """Windows [n*size, (n+1)*size) of event time, counted from the Unix epoch. Made by `tumbling`."""

    size_ms: int
    allowed_lateness_ms: int
    emit: Emit

    def __repr__(self) -> str:
        lateness = (
            f", allowed_lateness={format_ms(self.allowed_lateness_ms)!r}" if self.allowed_lateness_ms else ""
        )
        return f"dz.tumbling({format_ms(self.size_ms)!r}{lateness}, emit={self.emit!r})"


def tumbling(size: Duration, *, allowed_lateness: Duration = "0s", emit: Emit = "update") -> Tumbling:
    """Fixed windows side by side: `tumbling("10s")`.

    `allowed_lateness`: how long after the watermark passed its end a window still takes rows. It adds to
    the stream's `max_delay`; what comes later is counted and kept aside as late.
    `emit`: "update" gives new totals with every batch that changed them, "close" each window once.
    """
    thing = f"tumbling({size!r})"
    if emit not in get_args(Emit):
        raise BuildError(
            explain(
                f"{thing}: emit",
                wanted=" or ".join(repr(choice) for choice in get_args(Emit)),
                found=repr(emit),
                remedy='Leave it out for "update".',
            )
        )
    return Tumbling(
        parse_whole_ms(size, f"{thing}: size", at_least_ms=1),
        parse_whole_ms(allowed_lateness, f"{thing}: allowed_lateness"),
        emit,
    )

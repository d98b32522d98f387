"""A time in which more events are due than usual: which event is due when, before, in and after it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from drizzle_loadgen.errors import UsageError

MS_MAX = 10**9


@dataclass(frozen=True, slots=True)
class Surge:
    """`rate` events per second instead of the usual, for `for_ms`, `from_ms` after the start."""

    from_ms: int
    for_ms: int
    rate: int

    def __post_init__(self) -> None:
        if not (0 <= self.from_ms <= MS_MAX and 0 < self.for_ms <= MS_MAX and self.rate >= 1):
            raise UsageError(f"surge: wanted times in seconds and at least 1 event per second, found {self}")

    @classmethod
    def parse(cls, text: str) -> Surge:
        """From `FROM:SECONDS:RATE`; UsageError if it is something else."""
        try:
            begins, lasts, rate = text.split(":")
            return cls(round(float(begins) * 1000), round(float(lasts) * 1000), int(rate))
        except (ValueError, OverflowError) as error:
            raise UsageError(f"surge: wanted FROM:SECONDS:RATE, found {text!r}") from error

    def events(self, usual: int, seconds: float) -> int:
        """How many events are due in the first seconds, where `usual` a second are due at other times."""
        surged_s = min(max(0.0, seconds - self.from_ms / 1000), self.for_ms / 1000)
        return round(usual * (seconds - surged_s) + self.rate * surged_s)

    def due_ms(self, index: int, usual: int) -> float:
        """Milliseconds from the start to when an event is due, not rounded."""
        first, end = self._span(usual)
        if index < first:
            return index * 1000 / usual
        if index < end:
            return self.from_ms + (index - first) * 1000 / self.rate
        return self.from_ms + self.for_ms + (index - end) * 1000 / usual

    def due(self, index: pl.Expr, usual: int) -> pl.Expr:
        """The same for a column of numbers (Int64), in whole milliseconds."""
        first, end = self._span(usual)
        surged = self.from_ms + (index - first) * 1000 // self.rate
        after = self.from_ms + self.for_ms + (index - end) * 1000 // usual
        return (
            pl.when(index < first).then(index * 1000 // usual).when(index < end).then(surged).otherwise(after)
        )

    def _span(self, usual: int) -> tuple[int, int]:
        """The first event of the surge, and the first after it."""
        first = -(-usual * self.from_ms // 1000)
        return first, first + -(-self.rate * self.for_ms // 1000)

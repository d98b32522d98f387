"""Results in the memory of this process, for tests and `drizzle_streams.testing`.

    results = MemoryResults()
    job = counts.to(memory(results)).job("test")

A spec may be pickled with its program: within the process, the copy writes to the same results.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from weakref import WeakValueDictionary

import polars as pl

from drizzle_streams.connectors.base import Sink, SinkSettings, SinkToken, TokenBook, data_columns
from drizzle_streams.errors import ConfigError, StoreError, explain

ROWS_MAX = 10_000_000
"""Rows one `MemoryResults` holds, so that an endless job fails before the machine does."""


class MemoryResults:
    """What was written, in order, and which tokens were: it survives the sinks that write to it."""

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        self._rows_max = rows_max
        self._rows = 0
        self._writes: list[tuple[SinkToken, pl.DataFrame]] = []
        self._tokens = TokenBook()
        self._name = uuid.uuid4().hex
        _RESULTS[self._name] = self

    @property
    def writes(self) -> tuple[tuple[SinkToken, pl.DataFrame], ...]:
        """Every token that was written, with its rows, in order."""
        return tuple(self._writes)

    def frame(self) -> pl.DataFrame:
        """All rows ever written, in order; updates of a window are rows of their own."""
        frames = [frame for _, frame in self._writes]
        return pl.concat(frames) if frames else pl.DataFrame()

    def latest(self, keys: Sequence[str]) -> pl.DataFrame:
        """The last row for each combination of `keys`, sorted by them: what a store would hold."""
        rows = self.frame()
        return rows.unique(subset=keys, keep="last").sort(keys) if rows.width else rows

    def add(self, token: SinkToken, frame: pl.DataFrame) -> None:
        """Take the rows of a token unless it was written before. Raises StoreError when full."""
        if self._rows + frame.height > self._rows_max:
            raise StoreError(
                explain(
                    "Results in memory",
                    wanted=f"at most {self._rows_max} rows",
                    found=f"{self._rows + frame.height}",
                    remedy="Run fewer batches or write to a sink outside the process.",
                )
            )
        if frame.height and self._tokens.take(token):
            self._rows += frame.height
            self._writes.append((token, frame.select(data_columns(frame))))

    def __reduce__(self) -> tuple[object, ...]:
        return _find, (self._name,)


_RESULTS: WeakValueDictionary[str, MemoryResults] = WeakValueDictionary()


def _find(name: str) -> MemoryResults:
    results = _RESULTS.get(name)
    if results is None:
        raise ConfigError(
            explain(
                "Memory sink",
                wanted="the results object of the process that built the job",
                found="another process, or one that dropped it",
                remedy="Use it with dz.testing only; a cluster needs a sink like dz.redis.",
            )
        )
    return results


class MemorySink:
    """The spec, and the live sink as well: it has nothing to connect to."""

    __slots__ = ("results",)

    def __init__(self, results: MemoryResults) -> None:
        self.results = results

    @property
    def kind(self) -> str:
        """`memory`."""
        return "memory"

    def __repr__(self) -> str:
        return "memory(results)"

    def validate(self, schema: dict[str, pl.DataType], keys: tuple[str, ...]) -> None:
        """Accept everything."""

    def create(self, settings: SinkSettings) -> Sink:  # noqa: ARG002 - a spec's signature
        """Itself; all workers of the process write to the same results."""
        return self

    async def open(self) -> None:
        """Nothing to do."""

    async def write(self, writes: Sequence[tuple[SinkToken, pl.DataFrame]]) -> None:
        """Keep the rows; see `base.Sink`."""
        for token, frame in writes:
            self.results.add(token, frame)

    async def close(self) -> None:
        """Nothing to do; the results stay."""


def memory(results: MemoryResults) -> MemorySink:
    """Write to `results`; see this module."""
    return MemorySink(results)

"""Rows on their way to the sink: split by token, written in order, then forgotten.

A token is one batch of one partition (`connectors.base`). A sink is opened at its first write and
closed when its job ends here; what it raises fails the job, not the worker. Once it has raised,
nothing but its close is called: further writes get the same error. An outage is no such failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise

import polars as pl

from drizzle_streams.connectors.base import Sink, SinkToken
from drizzle_streams.engine.columns import KEY_GROUP
from drizzle_streams.engine.failures import USERS_ERRORS
from drizzle_streams.errors import OutageError
from drizzle_streams.model.ids import BatchId, PartitionId
from drizzle_streams.model.job import JobSpec, StageSpec, key_group_range, owner_of
from drizzle_streams.worker.cutting import positions

log = logging.getLogger("drizzle.worker")

PartitionRows = tuple[PartitionId, pl.DataFrame]
"""Rows of one partition of the stage that writes."""

SINK_OPEN_S = 30.0
SINK_CLOSE_S = 5.0
"""What a sink may take to open, to end its writes, and then to close; a write has the sink's own bound."""


class StageSink:
    """The live sink of one stage of one job: opened when first needed, closed once."""

    def __init__(self, sink: Sink, spec: JobSpec, stage: StageSpec) -> None:
        self._sink = sink
        self._spec = spec
        self._stage = stage
        self._opening = asyncio.Lock()
        self._open = False
        self._failure: BaseException | None = None
        self._writing = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def write(self, batches: Sequence[tuple[BatchId, Sequence[PartitionRows]]]) -> None:
        """Write the rows of batches in their order; raises what the sink raised, or `TimeoutError`."""
        writes = [
            (SinkToken(self._spec.run, self._stage.stage, batch, partition), rows)
            for batch, parts in batches
            for partition, rows in parts
        ]
        if not writes:
            return
        self._writing += 1
        self._idle.clear()
        try:
            if not self._open:
                await self._open_once()
            self._raise_again()
            await self._sink.write(writes)
        except OutageError:
            raise  # its system is away: who asked may ask again (`patience`)
        except USERS_ERRORS as error:
            self._failure = self._failure or error
            raise
        finally:
            self._writing -= 1
            if not self._writing:
                self._idle.set()

    async def close(self) -> None:
        """Let writes under way end, for `SINK_CLOSE_S` at most, and close the sink within as long."""
        try:
            async with asyncio.timeout(SINK_CLOSE_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("sink is closed while it writes", extra={"job": self._spec.job})
        try:
            async with asyncio.timeout(SINK_CLOSE_S):
                await self._sink.close()
        except USERS_ERRORS:  # a sink may be the user's own and raise anything
            log.exception("sink did not close", extra={"job": self._spec.job})

    def _raise_again(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _open_once(self) -> None:
        async with self._opening:
            self._raise_again()
            if not self._open:
                async with asyncio.timeout(SINK_OPEN_S):
                    await self._sink.open()
                self._open = True


def split_rows(
    rows: pl.DataFrame, token_column: str, partitions: int, key_groups: int
) -> tuple[PartitionRows, ...]:
    """Rows by the partition whose token they are written under; slices, no copies.

    `token_column` holds the partition itself, or the key group by which a partition owns the row.
    """
    if not rows.height:
        return ()
    column = rows.get_column(token_column)
    if not column.is_sorted():
        rows = rows.sort(token_column, maintain_order=True)
        column = rows.get_column(token_column)
    by_key_group = token_column == KEY_GROUP
    first, last = int(column[0]), int(column[-1])
    if by_key_group:
        first, last = (owner_of(group, partitions, key_groups) for group in (first, last))
    starts = [
        key_group_range(partition, partitions, key_groups)[0] if by_key_group else partition
        for partition in range(first + 1, last + 1)
    ]
    return tuple(_slices(rows, column, first, starts))


def _slices(
    rows: pl.DataFrame, column: pl.Series, first: int, starts: Sequence[int]
) -> Iterator[PartitionRows]:
    """Cut sorted rows at the first values of the partitions after `first`."""
    if not starts:
        yield PartitionId(first), rows
        return
    edges = [0, *positions(column, starts), rows.height]
    for number, (begin, end) in enumerate(pairwise(edges)):
        if end > begin:
            yield PartitionId(first + number), rows.slice(begin, end - begin)

"""Results on the standard output of the worker, for trying things out.

A token is printed once by a worker. What was printed cannot be taken back or asked for, so
after a failure the next worker prints again: at least once, unlike every other sink.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from drizzle_streams.connectors.base import Sink, SinkSettings, SinkToken, TokenBook, data_columns
from drizzle_streams.errors import BuildError, explain


@dataclass(frozen=True, slots=True)
class ConsoleSink:
    """Prints up to `rows_max` rows of each token."""

    rows_max: int = 10

    @property
    def kind(self) -> str:
        """`console`."""
        return "console"

    def validate(
        self,
        schema: dict[str, pl.DataType],  # noqa: ARG002 - any will do
        keys: tuple[str, ...],  # noqa: ARG002 - none are needed
    ) -> None:
        """Raise BuildError if there would be nothing to see."""
        if self.rows_max < 1:
            raise BuildError(
                explain(
                    "dz.console",
                    wanted="rows_max of 1 or more",
                    found=str(self.rows_max),
                    remedy="Leave it out for 10.",
                )
            )

    def create(self, settings: SinkSettings) -> Sink:  # noqa: ARG002 - a spec's signature
        """A live sink that writes to `sys.stdout`."""
        return ConsoleWriter(self.rows_max)


class ConsoleWriter:
    """The live console sink."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._tokens = TokenBook()

    async def open(self) -> None:
        """Nothing to do."""

    async def write(self, writes: Sequence[tuple[SinkToken, pl.DataFrame]]) -> None:
        """Print each new token under a line that names it; see `base.Sink`."""
        for token, frame in writes:
            if frame.height and self._tokens.take(token):
                sys.stdout.write(self._shown(token, frame.select(data_columns(frame))))
        sys.stdout.flush()

    async def close(self) -> None:
        """Nothing to do."""

    def _shown(self, token: SinkToken, rows: pl.DataFrame) -> str:
        with pl.Config(tbl_rows=self._rows_max, tbl_hide_dataframe_shape=True, tbl_cols=-1):
            return (
                f"{token.job} batch {token.batch} partition {token.partition}: {rows.height} rows\n{rows}\n"
            )


def console(rows_max: int = 10) -> ConsoleSink:
    """Print results where the workers run: at least once; see this module."""
    return ConsoleSink(rows_max)

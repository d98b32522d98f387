"""The live Redis sink: one script call per token, several tokens per pipeline.

Each call writes a token's rows and advances the token in one atomic step, so a pipeline may be
cut off anywhere, by the death of either side, and is simply sent again. The script also checks
that the partition's earlier token of the same call was written: Redis goes on after a command
that failed (its memory is full), and advancing past it would lose that token's rows for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import polars as pl

from drizzle_streams.connectors.base import SinkToken
from drizzle_streams.connectors.redis_rows import chunks, field_names, packed
from drizzle_streams.errors import StoreError, explain
from drizzle_streams.stores.base import require_within
from drizzle_streams.stores.redis_link import Command, LinkBounds, RedisLink, script

PIPELINE_BYTES_MAX = 4 * 1024 * 1024
"""Packed rows in one pipeline; more tokens than that go in several, one after the other."""

TOKEN_BYTES_MAX = 64 * 1024 * 1024
"""Packed rows of one token. They are written by one script call, which nothing interrupts: Redis
serves nobody else for about 2 µs per row, and holds the rows twice while it does."""

TOKEN_ROWS_MAX = 500_000
"""Rows of one token: about a second of that."""

ROWS_INLINE_MAX = 2_000
"""Rows of one call that are packed on the event loop, in 1 to 2 ms; more go to a thread."""

_WRITE = script("drizzle_streams.connectors", "redis_write")
_SKIPPED = 0
_REFUSED = -1


class RedisWriter:
    """Rows to hashes under a prefix; see `connectors.redis` for their form.

    `tokens_skipped` counts tokens that had been written before.
    """

    def __init__(
        self, url: str, prefix: str, keys: tuple[str, ...], bounds: LinkBounds | None = None
    ) -> None:
        self.link = RedisLink(url, bounds)
        self.tokens_skipped = 0
        self._prefix = prefix
        self._keys = keys

    async def open(self) -> None:
        """Connect; see `base.Sink`."""
        await self.link.open()

    async def close(self) -> None:
        """Close the connections; see `base.Sink`."""
        await self.link.close()

    async def write(self, writes: Sequence[tuple[SinkToken, pl.DataFrame]]) -> None:
        """Write the tokens; see `base.Sink`. Raises StoreError above `TOKEN_ROWS_MAX` or `_BYTES_MAX`."""
        with_rows = [(token, frame) for token, frame in writes if frame.height]
        for token, frame in with_rows:
            _require_rows(token, frame.height)
        if sum(frame.height for _, frame in with_rows) > ROWS_INLINE_MAX:
            calls = await asyncio.to_thread(self._calls, with_rows)
        else:
            calls = self._calls(with_rows)
        for pipeline in _pipelines(calls):
            replies = await self.link.run("writing results", pipeline)
            self.tokens_skipped += replies.count(_SKIPPED)
            if _REFUSED in replies:
                raise _gap(self.link.place)

    def _calls(self, writes: Sequence[tuple[SinkToken, pl.DataFrame]]) -> list[tuple[Command, int]]:
        """One script call per token, and how many bytes of rows it carries."""
        calls: list[tuple[Command, int]] = []
        before: dict[str, int] = {}
        for token, frame in writes:
            rows = list(chunks(frame, self._keys))
            rows_bytes = sum(map(len, rows))
            require_within(
                f"Rows of batch {token.batch}, partition {token.partition}", rows_bytes, TOKEN_BYTES_MAX
            )
            names = [f"{self._prefix}:{name}" for name in ("tokens", "windows", "keys")]
            head = (token.scope, token.batch, before.get(token.scope, ""), self._prefix)
            fields = packed(field_names(frame, self._keys))
            calls.append((("EVAL", _WRITE, len(names), *names, *head, fields, *rows), rows_bytes))
            before[token.scope] = token.batch
        return calls


def _pipelines(calls: Sequence[tuple[Command, int]]) -> Iterator[list[Command]]:
    """The calls in order, in runs of at most `PIPELINE_BYTES_MAX` (or one call that is larger)."""
    pipeline: list[Command] = []
    pipeline_bytes = 0
    for call, call_bytes in calls:
        if pipeline and pipeline_bytes + call_bytes > PIPELINE_BYTES_MAX:
            yield pipeline
            pipeline, pipeline_bytes = [], 0
        pipeline.append(call)
        pipeline_bytes += call_bytes
    if pipeline:
        yield pipeline


def _require_rows(token: SinkToken, rows: int) -> None:
    if rows > TOKEN_ROWS_MAX:
        raise StoreError(
            explain(
                f"Rows of batch {token.batch}, partition {token.partition}",
                wanted=f"at most {TOKEN_ROWS_MAX}",
                found=str(rows),
                remedy="Use more partitions, or shorter batches, so that each piece is smaller.",
            )
        )


def _gap(place: str) -> StoreError:
    return StoreError(
        explain(
            f"{place}, writing results",
            wanted="the partition's earlier batch written first",
            found="that it was not",
            remedy="Its own error says why; recovery writes the batches again.",
        )
    )

"""The live Redis sink: tokens and their rows go in one script call, which nothing interrupts.

The call writes each token's rows and advances the token, so it may be cut off anywhere, by the
death of either side, and is simply sent again. Several tokens share a call and not only a
pipeline, for two reasons. Redis goes on with a pipeline after a command that failed, and a later
batch of the same partition would advance the token past rows that were never written; a script
stops. And with `appendfsync always` Redis syncs once per turn of its event loop: a pipeline
takes several turns, a call takes one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import polars as pl

from drizzle_streams.connectors.base import SinkToken
from drizzle_streams.connectors.redis_rows import field_names, packed, packed_rows
from drizzle_streams.errors import StoreError, explain
from drizzle_streams.stores.base import require_within
from drizzle_streams.stores.redis_link import LinkBounds, RedisLink, script

CALL_BYTES_MAX = 1024 * 1024
"""Packed rows of the tokens that share a call; more tokens go in several, one after the other.
Redis serves nobody else during a call: some 15,000 rows, 2 to 3 µs each."""

TOKEN_BYTES_MAX = 64 * 1024 * 1024
"""Packed rows of one token, which is never divided: its call may be larger than `CALL_BYTES_MAX`."""

TOKEN_ROWS_MAX = 500_000
"""Rows of one token: more than a second in which Redis serves nobody else."""

ROWS_INLINE_MAX = 2_000
"""Rows of one `write` that are packed on the event loop, in 1 to 2 ms; more go to a thread."""

_WRITE = script("drizzle_streams.connectors", "redis_write")

Arguments = tuple[str | bytes | int, ...]


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
            tokens = await asyncio.to_thread(self._pack, with_rows)
        else:
            tokens = self._pack(with_rows)
        for call in _calls(tokens):
            await self._call(call)

    def _pack(self, writes: Sequence[tuple[SinkToken, pl.DataFrame]]) -> list[tuple[Arguments, int]]:
        """The script's arguments for each token, and the bytes of its rows."""
        if not writes:
            return []
        fields = packed(field_names(writes[0][1], self._keys))
        pieces = packed_rows([frame for _, frame in writes], self._keys)
        return [_arguments(token, fields, rows) for (token, _), rows in zip(writes, pieces, strict=True)]

    async def _call(self, arguments: Arguments) -> None:
        keys = [f"{self._prefix}:{name}" for name in ("tokens", "windows", "keys")]
        call = ("EVAL", _WRITE, len(keys), *keys, self._prefix, *arguments)
        (written,) = await self.link.run("writing results", [call])
        self.tokens_skipped += written.count(0)


def _arguments(token: SinkToken, fields: bytes, rows: Sequence[bytes]) -> tuple[Arguments, int]:
    rows_bytes = sum(map(len, rows))
    require_within(_rows_of(token), rows_bytes, TOKEN_BYTES_MAX)
    return (token.scope, token.batch, fields, len(rows), *rows), rows_bytes


def _calls(tokens: Sequence[tuple[Arguments, int]]) -> Iterator[Arguments]:
    """The arguments of the tokens in order, in runs of at most `CALL_BYTES_MAX` (or one token)."""
    call: list[str | bytes | int] = []
    call_bytes = 0
    for arguments, rows_bytes in tokens:
        if call and call_bytes + rows_bytes > CALL_BYTES_MAX:
            yield tuple(call)
            call, call_bytes = [], 0
        call.extend(arguments)
        call_bytes += rows_bytes
    if call:
        yield tuple(call)


def _rows_of(token: SinkToken) -> str:
    return f"Rows of batch {token.batch}, partition {token.partition}"


def _require_rows(token: SinkToken, rows: int) -> None:
    if rows > TOKEN_ROWS_MAX:
        raise StoreError(
            explain(
                _rows_of(token),
                wanted=f"at most {TOKEN_ROWS_MAX}",
                found=str(rows),
                remedy="Use more partitions, or shorter batches, so that each piece is smaller.",
            )
        )

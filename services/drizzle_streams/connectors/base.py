"""Where results leave Drizzle: what a sink is told, when, and what it owes.

**Who calls.** The user names a *spec* in the job file (`.to(dz.redis("ysb"))`). It is validated
once, where the job is built, and travels to the workers inside the pickled program: a spec
holds settings only, no connection, and importing it imports no client library. Each worker
that holds partitions of the job's last stage calls `create` once and gets a *live sink*.

**When.** `open` once, before any write. `write` after each batch that gave rows, with the rows
of one or more tokens: a token is one batch of one partition. `close` once, at the end of the
job or when the worker has no partition of the stage left. After `write` has raised, nothing but
`close` is called; only after an `OutageError` the same is tried again. A batch counts as done,
and so may end in a checkpoint, only when `write` has returned: what it returned for must not
get lost.

**How often.** Every batch interval, so every few milliseconds; the batch's latency ends when
`write` returns. It runs on the worker's event loop and must not block it. Calls for different
partitions may overlap. Calls for one partition never do, and their batches ascend; gaps are
normal, because batches without rows need not be written.

**Twice.** After a failure the same batches are computed again, by this worker or another one,
and written again with the same tokens. The rows are the same, because a batch is the same for
ever. A sink keeps, in the place it writes to and in one atomic step with the rows, the highest
batch written per (job, stage, partition); a token at or below it is skipped. So writing twice
is writing once, and a reader sees a token's rows all or not at all. A worker that was paused
and wakes up too late is harmless for the same reason: whatever it still writes is either
skipped or is what its successor would have written.

**The name of a job** in a token must stand for one submission. A job that starts again from
nothing under an old name in the same place would find its tokens there already and lose its
first batches.

**Failing.** A sink rides out an outage of its system within a bound, then raises `StoreError`.
That fails the job: nothing more is launched, and what was written stays written. A row that the
system refuses for good must be found by `validate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from drizzle_streams.engine.columns import is_reserved


@dataclass(frozen=True, slots=True)
class SinkToken:
    """What makes a write idempotent: one batch of one partition of a job's last stage."""

    job: str
    stage: int
    batch: int
    partition: int

    @property
    def scope(self) -> str:
        """What the batch is counted within, as text: partitions of a stage of a job."""
        return f"{self.job}:{self.stage}:{self.partition}"


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """What a worker knows and a spec does not.

    `keys` are the columns the job groups by (none for a job that does not); `redis_url` is the
    cluster's own Redis, if there is one.
    """

    keys: tuple[str, ...] = ()
    redis_url: str | None = None


class Sink(Protocol):
    """A live sink: one per worker, job and stage. The module states the contract."""

    async def open(self) -> None:
        """Connect. Raises StoreError or ConfigError if the system cannot be used."""
        ...

    async def write(self, writes: Sequence[tuple[SinkToken, pl.DataFrame]]) -> None:
        """Write the rows of each token atomically, in the order given; skip tokens written before.

        Columns are those of the schema that was validated, plus the engine's own, which start
        with `__` and are not written. A frame may be empty. Returns when all of it is durable
        by the system's standards. Raises StoreError; the tokens before the one that failed may
        be written then, and none after it in the same partition.
        """
        ...

    async def close(self) -> None:
        """Let go of all resources; twice is once."""
        ...


class SinkSpec(Protocol):
    """What the user writes: a picklable, immutable description of a sink."""

    @property
    def kind(self) -> str:
        """Its name in errors and on pages, for example `redis`."""
        ...

    def validate(self, schema: dict[str, pl.DataType], keys: tuple[str, ...]) -> None:
        """Refuse what `write` could not write: called once, while the user's file runs.

        `schema` is that of the rows without the engine's own columns; `keys` is what the job
        groups by. Raises BuildError naming the column.
        """
        ...

    def create(self, settings: SinkSettings) -> Sink:
        """A live sink, not open yet. Raises ConfigError if a setting it needs is missing."""
        ...


def data_columns(frame: pl.DataFrame) -> list[str]:
    """The columns that are the user's: all but the engine's own."""
    return [name for name in frame.columns if not is_reserved(name)]


class TokenBook:
    """The highest batch per partition, for sinks whose place of writing is this process."""

    def __init__(self) -> None:
        self._written: dict[str, int] = {}

    def take(self, token: SinkToken) -> bool:
        """Whether the token is new; it counts as written from then on."""
        if self._written.get(token.scope, -1) >= token.batch:
            return False
        self._written[token.scope] = token.batch
        return True

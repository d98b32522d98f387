"""The program of a job: stages of Polars expressions, cut where rows must change partition.

Made once by `api.compile`, pickled (cloudpickle) and sent to every worker beside the
`JobSpec`; the engine only reads it. Rules:

- A stage either reads a stream (`read`) or merges the blocks of the stages before it
  (`merge`), then runs `steps`, then shuffles (`shuffle`), writes (`sink`) or both.
- Where a join is a stage of its own, the stage that reads is closed by it (`route`), and the next
  one opened (`join`) with the same `Route`; that one shuffles. See `engine.joining`.
- `shuffle` of a stage and `merge` of the stage after it are the same `Aggregation`: its
  partial half runs before the shuffle, its merging and finishing half after it.
- Expressions are pure: same rows, same result. Nothing here runs anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

import polars as pl

from drizzle_streams.engine.parted import PartedTable
from drizzle_streams.model.files import FileSet
from drizzle_streams.model.ids import JobId, StageId, StreamId


@dataclass(frozen=True, slots=True)
class Filter:
    """Keep the rows for which `predicate` is true (null is not).

    `movable`: it gives a value for any row, so it may change places with a neighbour that does.
    """

    predicate: pl.Expr
    movable: bool = False


@dataclass(frozen=True, slots=True)
class Select:
    """Replace the columns by these; a row in is a row out, in the same order."""

    exprs: tuple[pl.Expr, ...]


@dataclass(frozen=True, slots=True)
class WithColumns:
    """Add or replace columns; a row in is a row out, in the same order."""

    exprs: tuple[pl.Expr, ...]


@dataclass(frozen=True, slots=True)
class JoinTable:
    """Join with a static table of `Program.tables`; a null key matches nothing.

    The table's columns other than `right_on` are added. A name that the stream has
    already gets the suffix `_right`. Several matching rows of the table give several rows,
    in the table's order. `strategy` is the user's word on where it is made, for who compiles.
    """

    table: str
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    how: Literal["inner", "left"] = "inner"
    strategy: Literal["auto", "broadcast", "shuffled"] = "auto"


@dataclass(frozen=True, slots=True)
class Explode:
    """Put a row for each element of a list column in place of the row, in the list's order.

    An empty list, or null, gives no row. Of the other columns those in `kept` are repeated; None: all.
    """

    column: str
    kept: tuple[str, ...] | None = None


Step = Filter | Select | WithColumns | JoinTable | Explode


@dataclass(frozen=True, slots=True)
class Route:
    """A join that may be shuffled: rows go by its key to the `partitions` of a stage of its own.

    `columns`: what is needed of the rows from here on. `pinned`: the job says that it is to be shuffled.
    """

    join: JoinTable
    columns: tuple[str, ...]
    partitions: int
    pinned: bool = False


class AggregateKind(StrEnum):
    """Aggregates that split into partial, merge and finish (95 % of those in use; Drizzle, section 3.5)."""

    COUNT = "count"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    MEAN = "mean"
    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One output column of an aggregation.

    `expr` is evaluated per row before the aggregation. COUNT without an expression counts
    rows, with one it counts the values that are not null. The other kinds ignore nulls too:
    SUM of none is 0, the others of none are null.
    FIRST and LAST go by event time where there is one, then by upstream partition, then by
    offset: an order that does not depend on where batches were cut.
    """

    name: str
    kind: AggregateKind
    expr: pl.Expr | None = None


@dataclass(frozen=True, slots=True)
class TumblingWindow:
    """Windows [n*size, (n+1)*size) of event time, n any integer; counted from the Unix epoch."""

    size_ms: int


@dataclass(frozen=True, slots=True)
class Aggregation:
    """Group by `keys` (and the window), aggregate, keep the groups as state.

    Without a window the state lasts as long as the job and every change is emitted.
    With one, the watermark (min over upstream partitions of the highest event time seen,
    minus `max_delay_ms`) closes a window when it reaches the window's end plus
    `allowed_lateness_ms`; rows of closed windows are late and kept aside.

    `emit`: "update" gives each group that a batch changed, with its new totals; "close" gives
    each group once, when the watermark closes its window.
    `idle_batches`: an upstream partition without rows for so many batches in a row no longer
    holds the watermark back. `partial` computes one row per group before the shuffle instead
    of sending every row; the results are the same.
    """

    keys: tuple[str, ...]
    aggregates: tuple[Aggregate, ...]
    window: TumblingWindow | None = None
    event_time: str | None = None
    max_delay_ms: int = 0
    allowed_lateness_ms: int = 0
    emit: Literal["update", "close"] = "update"
    idle_batches: int = 20
    partial: bool = True


@dataclass(frozen=True, slots=True)
class Read:
    """The stream a stage reads. Only the columns in `schema` are parsed.

    `event_time` names an integer column (ms since the Unix epoch) or a Datetime column.
    `files` are what the stream is made of, where nobody posts to it.
    """

    stream: StreamId
    schema: dict[str, pl.DataType]
    event_time: str | None = None
    files: FileSet | None = None


@dataclass(frozen=True, slots=True)
class StageProgram:
    """One stage. Exactly one of `read`, `join` and `merge` is set.

    At least one of `route`, `shuffle` and `sink` is. `steps` run on the parsed rows, on those that `join`
    gives, or on those that `merge` emits. `sink` is the spec of a connector, opaque to the engine; its
    presence says that the stage gives rows out. `calls_python`: some of its expressions call functions of
    the user's, which may take any time.
    """

    stage: StageId
    read: Read | None = None
    merge: Aggregation | None = None
    steps: tuple[Step, ...] = ()
    shuffle: Aggregation | None = None
    sink: object | None = None
    join: Route | None = None
    route: Route | None = None
    calls_python: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """A whole job as the engine runs it. `stages[i].stage == i`.

    `tables` are the static join sides that each worker holds whole, `parted` those that need not be.
    """

    job: JobId
    stages: tuple[StageProgram, ...]
    tables: dict[str, pl.DataFrame]
    key_groups: int = 1024
    parted: dict[str, PartedTable] = field(default_factory=dict[str, PartedTable])

    def stage(self, stage: StageId) -> StageProgram:
        """The program of a stage."""
        return self.stages[stage]

    def light(self) -> Program:
        """The same without the rows of its tables, where only types matter."""
        tables = {name: table.clear() for name, table in self.tables.items()}
        return replace(self, tables=tables, parted={name: one.clear() for name, one in self.parted.items()})

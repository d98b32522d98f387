"""Which join becomes a stage of its own: at most one of those before the first aggregation.

A join may, where an aggregation follows in the same line and the event time that it goes by is known before
the join: the stage that reads tells how far the stream's time has come. It does where its table is large
or the user says so; of several the one with the largest table. The others are made with the whole table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from drizzle_streams.api.plan import Plan
from drizzle_streams.api.tables import TABLE_BYTES_MAX
from drizzle_streams.engine.operators import Steps
from drizzle_streams.engine.program import Aggregation, JoinTable, Read, Step
from drizzle_streams.errors import BuildError, explain
from drizzle_streams.model.replanning import JOIN_BROADCAST_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Reading:
    """A stage as it would be with all its joins: what opens it, its steps with `tables`, what closes it.

    `read` is None behind an aggregation.
    """

    plan: Plan
    read: Read | None
    steps: Sequence[Step]
    tables: Mapping[str, pl.DataFrame]
    closing: Aggregation | None

    def joins(self) -> list[tuple[int, JoinTable]]:
        """Its joins, with their places among the steps."""
        return [(place, step) for place, step in enumerate(self.steps) if isinstance(step, JoinTable)]

    def size(self, join: JoinTable) -> int:
        """Bytes of a join's table in memory, about."""
        return int(self.tables[join.table].estimated_size())

    def name(self, join: JoinTable) -> str:
        """What the user calls the table."""
        return self.plan.tables[int(join.table.split(":", 1)[0])].name


def join_to_cut(reading: Reading) -> tuple[int, JoinTable] | None:
    """The join that becomes a stage of its own, with its place among the steps; None: none does.

    Raises `BuildError` where the user's wish cannot be had, or a table is too large to be held whole.
    """
    lacks = {place: _lacking(reading, place) for place, _ in reading.joins()}
    for place, join in reading.joins():
        lacking = lacks[place]
        if join.strategy == "shuffled" and lacking is not None:
            raise _refused(reading, join, *lacking)
    wishes = [one for one in reading.joins() if one[1].strategy == "shuffled"]
    if len(wishes) > 1:
        raise _refused(reading, wishes[1][1], "one such join", "two")
    large = min(JOIN_BROADCAST_BYTES_MAX, TABLE_BYTES_MAX)
    fit = [
        one
        for one in reading.joins()
        if lacks[one[0]] is None and one[1].strategy == "auto" and reading.size(one[1]) > large
    ]
    chosen = max(wishes or fit, key=lambda one: reading.size(one[1]), default=None)
    for place, join in reading.joins():
        if chosen is None or place != chosen[0]:
            _check_whole(reading, join, may_be_cut=chosen is None and lacks[place] is None)
    return chosen


def _lacking(reading: Reading, place: int) -> tuple[str, str] | None:
    """What the join at that place would need to be a stage of its own, and what it has; None: nothing."""
    if reading.read is None:
        return "it before the first aggregation", "it behind one"
    if reading.closing is None:
        return "an aggregation behind it", "none"
    time = reading.closing.event_time
    if time is None:
        return None
    empty = {name: table.clear() for name, table in reading.tables.items()}
    if Steps(reading.steps, empty, reading.read.schema).settled(time) <= place:
        return None
    return f"the event time {time!r} before it", "it computed behind it"


def _check_whole(reading: Reading, join: JoinTable, *, may_be_cut: bool) -> None:
    """Raise where a table that every worker will hold whole is too large for that."""
    size = reading.size(join)
    if size <= TABLE_BYTES_MAX:
        return
    other = ', or join with strategy="shuffled".' if may_be_cut else "."
    raise BuildError(
        explain(
            f"table {reading.name(join)!r}",
            wanted=f"at most {TABLE_BYTES_MAX} bytes for a table that every worker holds whole",
            found=f"{size} bytes in {reading.tables[join.table].height} rows",
            remedy=f"Keep only the rows that can match, use narrower types{other}",
        )
    )


def _refused(reading: Reading, join: JoinTable, wanted: str, found: str) -> BuildError:
    return BuildError(
        explain(
            f'join with table {reading.name(join)!r}, strategy="shuffled"',
            wanted=wanted,
            found=found,
            remedy="Leave strategy out: the table is then held whole by every worker.",
        )
    )

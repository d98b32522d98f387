"""A small world for engine tests: events, a job over them, a player of batches, and an oracle.

The oracle is plain Python over dictionaries and knows nothing of frames, hashes, runs or
cohorts: it says what a job has to give, batch by batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from drizzle_streams.engine.execute import (
    Block,
    InputEntry,
    StageExecutor,
    StageOutput,
    StageState,
    decode_block,
    encode_block,
    slice_block,
)
from drizzle_streams.engine.program import (
    Aggregate,
    AggregateKind,
    Aggregation,
    Filter,
    Program,
    Read,
    StageProgram,
    TumblingWindow,
)
from drizzle_streams.model.ids import JobId, StageId, StreamId

STREAM = StreamId("events")
SCHEMA: dict[str, pl.DataType] = {
    "k": pl.String(),
    "j": pl.Int64(),
    "t": pl.Int64(),
    "v": pl.Int64(),
    "f": pl.Float64(),
    "keep": pl.Boolean(),
}
MAP, REDUCE = StageId(0), StageId(1)


@dataclass(frozen=True)
class Event:
    """One record. `f` should be a multiple of 1/4, so that sums do not round."""

    k: str | None
    t: int
    j: int | None = 0
    v: int | None = 1
    f: float | None = 0.5
    keep: bool = True

    def line(self) -> bytes:
        return json.dumps(self.__dict__).encode()


Batch = Mapping[int, Sequence[Event]]
"""Events by stream partition, in order of offset."""

EVERYTHING = (
    Aggregate("n", AggregateKind.COUNT),
    Aggregate("nv", AggregateKind.COUNT, pl.col("v")),
    Aggregate("sv", AggregateKind.SUM, pl.col("v")),
    Aggregate("sf", AggregateKind.SUM, pl.col("f") * 2),
    Aggregate("lo", AggregateKind.MIN, pl.col("v")),
    Aggregate("hi", AggregateKind.MAX, pl.col("f")),
    Aggregate("mean", AggregateKind.MEAN, pl.col("v")),
    Aggregate("first", AggregateKind.FIRST, pl.col("v")),
    Aggregate("last", AggregateKind.LAST, pl.col("f")),
)


def aggregation(**changes: Any) -> Aggregation:
    given: dict[str, Any] = {
        "keys": ("k", "j"),
        "aggregates": EVERYTHING,
        "window": TumblingWindow(10),
        "event_time": "t",
        "max_delay_ms": 5,
        "allowed_lateness_ms": 0,
        "emit": "update",
        "idle_batches": 3,
    }
    return Aggregation(**{**given, **changes})


def program(spec: Aggregation, key_groups: int = 16) -> Program:
    read = StageProgram(MAP, read=Read(STREAM, SCHEMA, "t"), steps=(Filter(pl.col("keep")),), shuffle=spec)
    return Program(JobId("job"), (read, StageProgram(REDUCE, merge=spec, sink=object())), {}, key_groups)


@dataclass
class Log:
    """Gives every batch its entries, offsets counted per partition; `per_entry` records each."""

    per_entry: int = 3
    ends: dict[int, int] = field(default_factory=dict)

    def entries(self, batch: Batch) -> list[InputEntry]:
        found: list[InputEntry] = []
        for partition, events in batch.items():
            for first in range(0, len(events), self.per_entry):
                some = events[first : first + self.per_entry]
                offset = self.ends.get(partition, 0)
                self.ends[partition] = offset + len(some)
                payload = b"\n".join(event.line() for event in some)
                found.append(InputEntry(partition, offset, len(some), "ndjson", payload))
        return found


@dataclass
class Player:
    """Runs the two stages over batches, as cohorts of workers would, and keeps what they gave."""

    spec: Aggregation
    streams: int = 2
    reducers: int = 3
    map_cohorts: Sequence[Sequence[int]] | None = None
    reduce_cohorts: Sequence[Sequence[int]] | None = None
    key_groups: int = 16

    def __post_init__(self) -> None:
        made = program(self.spec, self.key_groups)
        self.mapper = StageExecutor(made, MAP)
        self.reducer = StageExecutor(made, REDUCE, self.reducers)
        self.maps = self.map_cohorts or [range(self.streams)]
        cohorts = self.reduce_cohorts or [range(self.reducers)]
        self.states: list[StageState] = [self.reducer.empty_state(cohort) for cohort in cohorts]
        self.log = Log()
        self.batch = 0
        self.outputs: list[list[StageOutput]] = []

    def map(self, batch: Batch) -> list[Block]:
        entries = self.log.entries(batch)
        blocks: list[Block] = []
        for cohort in self.maps:
            mine = [entry for entry in entries if entry.partition in cohort]
            output = self.mapper.run_input(cohort, mine)
            assert output.blocks is not None
            assert output.dead_letters == ()
            blocks.append(output.blocks)
        return blocks

    def play(self, batch: Batch) -> list[StageOutput]:
        """One batch through both stages; what each reduce cohort gave."""
        return self.reduce(self.map(batch))

    def reduce(self, blocks: Sequence[Block]) -> list[StageOutput]:
        outputs: list[StageOutput] = []
        for number, state in enumerate(self.states):
            mine = [self.through_the_wire(slice_block(block, state.ranges)) for block in blocks]
            self.states[number], output = self.reducer.run_blocks(state, self.batch, mine)
            outputs.append(output)
        self.batch += 1
        self.outputs.append(outputs)
        return outputs

    @staticmethod
    def through_the_wire(block: Block) -> Block:
        return decode_block(encode_block(block))

    def play_all(self, batches: Sequence[Batch]) -> Player:
        for batch in batches:
            self.play(batch)
        return self

    def rows(self, number: int) -> list[dict[str, Any]]:
        """What all cohorts gave in a batch, sorted."""
        return rows_of([output.rows for output in self.outputs[number]])

    def state_rows(self) -> list[dict[str, Any]]:
        """All groups in state as finished rows, sorted."""
        plan = self.reducer.layout.plan
        return rows_of([plan.finish(state.groups()) for state in self.states])

    def finals(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """The last row given for every group."""
        last: dict[tuple[Any, ...], dict[str, Any]] = {}
        for number in range(len(self.outputs)):
            for row in self.rows(number):
                last[group_of(row)] = row
        return last

    def late_records(self) -> int:
        return sum(output.late_records for outputs in self.outputs for output in outputs)


def rows_of(frames: Sequence[pl.DataFrame | None]) -> list[dict[str, Any]]:
    rows = [row for frame in frames if frame is not None for row in frame.to_dicts()]
    for row in rows:
        for name in [name for name in row if name.startswith("__")]:
            del row[name]
    return sorted(rows, key=lambda row: repr(group_of(row)))


def group_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row.get("window_start"), row["k"], row["j"])


@dataclass
class Oracle:
    """What a job has to give, by the rules of `Aggregation`, one event at a time."""

    spec: Aggregation
    partitions: int = 2
    highest: dict[int, int] = field(default_factory=dict)
    silent: dict[int, int] = field(default_factory=dict)
    watermark: int | None = None
    groups: dict[tuple[Any, ...], list[tuple[int, int, int, Event]]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    late: list[Event] = field(default_factory=list)

    def batch(self, batch: Batch) -> list[dict[str, Any]]:
        """The rows that the batch gives, sorted."""
        touched: set[tuple[Any, ...]] = set()
        for partition in range(self.partitions):
            for event in batch.get(partition, ()):
                offset = self.ends.get(partition, 0)
                self.ends[partition] = offset + 1
                if not event.keep:
                    continue
                start = self._start(event)
                if start is not None and self._is_closed(start):
                    self.late.append(event)
                    continue
                group = (start, event.k, event.j)
                self.groups.setdefault(group, []).append((event.t, partition, offset, event))
                touched.add(group)
        self._tick(batch)
        closed = [group for group in self.groups if group[0] is not None and self._is_closed(group[0])]
        given = touched if self.spec.emit == "update" else closed
        rows = [self._row(group) for group in given]
        for group in closed:
            del self.groups[group]
        return sorted(rows, key=lambda row: repr(group_of(row)))

    def state_rows(self) -> list[dict[str, Any]]:
        return sorted((self._row(group) for group in self.groups), key=lambda row: repr(group_of(row)))

    def _start(self, event: Event) -> int | None:
        return (
            None
            if self.spec.window is None
            else event.t // self.spec.window.size_ms * self.spec.window.size_ms
        )

    def _is_closed(self, start: int) -> bool:
        assert self.spec.window is not None
        end = start + self.spec.window.size_ms + self.spec.allowed_lateness_ms
        return self.watermark is not None and end <= self.watermark

    def _tick(self, batch: Batch) -> None:
        for partition in range(self.partitions):
            timed = self.spec.event_time is not None
            times = [event.t for event in batch.get(partition, ())] if timed else []
            if times:
                self.highest[partition] = max([*times, self.highest.get(partition, min(times))])
            self.silent[partition] = 0 if times else self.silent.get(partition, 0) + 1
        awake = [p for p in range(self.partitions) if self.silent[p] < self.spec.idle_batches]
        if awake and all(partition in self.highest for partition in awake):
            found = min(self.highest[partition] for partition in awake) - self.spec.max_delay_ms
            self.watermark = found if self.watermark is None else max(self.watermark, found)

    def _row(self, group: tuple[Any, ...]) -> dict[str, Any]:
        start, k, j = group
        timed = self.spec.event_time is not None
        order = sorted(self.groups[group], key=lambda one: one[:3] if timed else one[1:3])
        vs = [one[3].v for one in order if one[3].v is not None]
        fs = [one[3].f for one in order if one[3].f is not None]
        row: dict[str, Any] = {}
        if self.spec.window is not None:
            row |= {"window_start": start, "window_end": start + self.spec.window.size_ms}
        values = {
            "n": len(order),
            "nv": len(vs),
            "sv": sum(vs),
            "sf": float(sum(value * 2 for value in fs)),
            "lo": min(vs, default=None),
            "hi": max(fs, default=None),
            "mean": sum(vs) / len(vs) if vs else None,
            "first": vs[0] if vs else None,
            "last": fs[-1] if fs else None,
        }
        return row | {"k": k, "j": j} | {one.name: values[one.name] for one in self.spec.aggregates}

"""Programs of other shapes: no shuffle, several shuffles, steps everywhere, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import polars as pl
import pytest

from drizzle_streams.engine.execute import InputEntry, StageExecutor, StageOutput, output_schema, slice_block
from drizzle_streams.engine.program import (
    Aggregate,
    AggregateKind,
    Aggregation,
    Filter,
    JoinTable,
    Program,
    Read,
    Select,
    StageProgram,
    Step,
    TumblingWindow,
    WithColumns,
)
from drizzle_streams.errors import BuildError
from drizzle_streams.model.ids import JobId, StageId
from tests.engine.world import SCHEMA, STREAM, Event, Log, Player, aggregation

SUM = AggregateKind.SUM


def made(*stages: StageProgram, **tables: pl.DataFrame) -> Program:
    return Program(JobId("job"), stages, tables, 16)


def reading(*steps: Step, shuffle: Aggregation | None = None, event_time: str | None = "t") -> StageProgram:
    sink = None if shuffle else object()
    return StageProgram(StageId(0), Read(STREAM, SCHEMA, event_time), None, steps, shuffle, sink)


def entries(*events: Event, partition: int = 0) -> list[InputEntry]:
    return Log().entries({partition: events})


class TestMapOnly:
    def test_rows_go_to_the_sink_with_their_partition(self) -> None:
        job = made(reading(Filter(pl.col("v") > 0), Select((pl.col("k"), (pl.col("v") * 2).alias("w")))))
        log = Log()
        given = log.entries(
            {1: [Event("a", 1, v=1), Event("b", 1, v=-1)], 0: [Event("c", 1, v=3), Event("d", 2, v=4)]}
        )
        output = StageExecutor(job, StageId(0)).run_input([0, 1], given)
        assert output.blocks is None
        assert output.rows is not None
        assert output.rows.to_dicts() == [
            {"k": "c", "w": 6, "__partition": 0},
            {"k": "d", "w": 8, "__partition": 0},
            {"k": "a", "w": 2, "__partition": 1},
        ]
        assert (output.records_in, output.rows_out) == (4, 3)

    def test_no_input_gives_no_rows_of_the_right_type(self) -> None:
        job = made(reading(WithColumns((pl.col("v").cast(pl.Float64).alias("x"),))))
        output = StageExecutor(job, StageId(0)).run_input([0], [])
        assert output.rows is not None
        assert output.rows.height == 0
        assert output.rows.schema["x"] == pl.Float64

    def test_constants_are_repeated_for_every_row(self) -> None:
        job = made(reading(Select((pl.lit(7).alias("seven"), pl.col("k")))))
        output = StageExecutor(job, StageId(0)).run_input([0], entries(Event("a", 1), Event("b", 1)))
        assert output.rows is not None
        assert output.rows.get_column("seven").to_list() == [7, 7]


class TestSteps:
    def test_a_join_brings_the_key(self) -> None:
        table = pl.DataFrame({"ad": ["a", "b", "c"], "campaign": ["x", "x", "y"]})
        spec = aggregation(keys=("campaign",), aggregates=(Aggregate("n", AggregateKind.COUNT),))
        job = made(
            reading(JoinTable("ads", ("k",), ("ad",)), shuffle=spec),
            StageProgram(StageId(1), merge=spec, sink=object()),
            ads=table,
        )
        block = (
            StageExecutor(job, StageId(0)).run_input([0], entries(*(Event(k, 3) for k in "abcabd"))).blocks
        )
        assert block is not None
        reducer = StageExecutor(job, StageId(1), 2)
        _, output = reducer.run_blocks(reducer.empty_state([0, 1]), 0, [block])
        assert output.rows is not None
        assert {row["campaign"]: row["n"] for row in output.rows.to_dicts()} == {"x": 4, "y": 1}
        assert output_schema(job, StageId(1)) == {
            "window_start": pl.Int64,
            "window_end": pl.Int64,
            "campaign": pl.String,
            "n": pl.Int64,
        }

    def test_marks_are_taken_before_filters(self) -> None:
        job = made(reading(Filter(pl.col("v") > 5), shuffle=aggregation()))
        output = StageExecutor(job, StageId(0)).run_input(
            [0, 1, 2], entries(Event("a", 90), Event("b", 70, v=9))
        )
        assert output.blocks is not None
        assert output.blocks.marks == ((0, 90), (1, None), (2, None))
        assert output.blocks.rows == 1

    @pytest.mark.parametrize(
        "steps",
        [
            (WithColumns(((pl.col("t") * 1000).alias("t"),)), Filter(pl.col("v") > 5)),
            (
                Filter(pl.col("k") != "x"),
                Select((pl.col("k"), pl.col("j"), pl.col("v"), pl.col("f"), pl.col("t") * 1000)),
            ),
        ],
    )
    def test_marks_are_taken_when_the_event_time_has_its_value(self, steps: Sequence[Step]) -> None:
        spec = aggregation()
        executor = StageExecutor(made(reading(*steps, shuffle=spec)), StageId(0))
        output = executor.run_input(
            [1, 4], Log().entries({4: [Event("a", 90, v=9), Event("b", 95, v=7)], 1: []})
        )
        assert output.blocks is not None
        assert output.blocks.marks == ((1, None), (4, 95_000))

    def test_a_datetime_is_an_event_time(self) -> None:
        read = Read(STREAM, {"k": pl.String(), "at": pl.Datetime("us", "UTC")}, "at")
        spec = aggregation(keys=("k",), aggregates=(Aggregate("n", AggregateKind.COUNT),), event_time="at")
        job = made(StageProgram(StageId(0), read, shuffle=spec), StageProgram(StageId(1), merge=spec, sink=1))
        line = b'{"k": "a", "at": "1970-01-01T00:00:01.234Z"}'
        output = StageExecutor(job, StageId(0)).run_input([0], [InputEntry(0, 0, 1, "ndjson", line)])
        assert output.blocks is not None
        assert output.blocks.marks == ((0, 1234),)
        assert output.blocks.frame is not None
        assert output.blocks.frame.get_column("window_start").to_list() == [1230]

    def test_rows_whose_time_is_lost_on_the_way_are_kept_aside(self) -> None:
        lost = WithColumns((pl.when(pl.col("v") > 0).then(pl.col("t")).alias("t"),))
        job = made(reading(lost, shuffle=aggregation()))
        given = entries(Event("a", 5, v=1), Event("b", 5, v=-1), Event("b", 5, v=-2))
        output = StageExecutor(job, StageId(0)).run_input([0], given)
        assert output.blocks is not None
        assert output.blocks.rows == 1
        assert output.late_records == 2
        assert output.late is not None
        assert output.late.get_column("window_start").to_list() == [None]
        assert output.late.get_column("__records").to_list() == [2]

    def test_bad_records_are_given_back(self) -> None:
        job = made(reading(shuffle=aggregation()))
        given = [InputEntry(0, 10, 2, "ndjson", b'{"k": "a", "t": 1}\n{"k": "b", "t": "soon"}')]
        output = StageExecutor(job, StageId(0)).run_input([0], given)
        assert [(letter.partition, letter.offset) for letter in output.dead_letters] == [(0, 11)]
        assert output.records_in == 2

    @pytest.mark.parametrize("partial", [True, False])
    def test_rows_that_a_join_made_of_one_keep_the_order_of_the_table(self, partial: bool) -> None:
        table = pl.DataFrame({"id": ["a"] * 50, "w": range(50)})
        kinds = (AggregateKind.FIRST, AggregateKind.LAST)
        spec = aggregation(
            keys=("k",),
            aggregates=tuple(Aggregate(kind.value, kind, pl.col("w")) for kind in kinds),
            partial=partial,
        )
        job = made(
            reading(JoinTable("t", ("k",), ("id",)), shuffle=spec),
            StageProgram(StageId(1), merge=spec, sink=1),
            t=table,
        )
        block = StageExecutor(job, StageId(0)).run_input([0], entries(*[Event("a", 3)] * 20)).blocks
        assert block is not None
        reducer = StageExecutor(job, StageId(1), 1)
        _, output = reducer.run_blocks(reducer.empty_state([0]), 0, [block])
        assert output.rows is not None
        assert output.rows.select("first", "last").rows() == [(0, 49)]


class TestSeveralShuffles:
    """Counts per (k, j) and window of 10, then the sum per k and window of 20."""

    first = aggregation(aggregates=(Aggregate("n", AggregateKind.COUNT),), max_delay_ms=0, emit="close")

    def job(self, **changes: Any) -> Program:
        second = Aggregation(
            keys=("k",),
            aggregates=(
                Aggregate("total", SUM, pl.col("n")),
                Aggregate("last", AggregateKind.LAST, pl.col("n")),
                Aggregate("first", AggregateKind.FIRST, pl.col("n")),
            ),
            window=TumblingWindow(20),
            event_time="window_start",
            idle_batches=3,
            emit="close",
            **changes,
        )
        return made(
            reading(shuffle=self.first),
            StageProgram(StageId(1), merge=self.first, steps=(Filter(pl.col("n") > 0),), shuffle=second),
            StageProgram(StageId(2), merge=second, sink=object()),
        )

    def play(
        self, job: Program, cohorts: list[list[int]], batches: list[list[Event]]
    ) -> list[list[dict[str, Any]]]:
        mapper = StageExecutor(job, StageId(0))
        middle = StageExecutor(job, StageId(1), 4)
        last = StageExecutor(job, StageId(2), 2)
        states = [middle.empty_state(cohort) for cohort in cohorts]
        final = last.empty_state([0, 1])
        log = Log()
        found: list[list[dict[str, Any]]] = []
        for number, events in enumerate(batches):
            source = mapper.run_input([0], log.entries({0: events})).blocks
            assert source is not None
            outputs: list[StageOutput] = []
            for at, state in enumerate(states):
                states[at], output = middle.run_blocks(state, number, [slice_block(source, state.ranges)])
                outputs.append(output)
            blocks = [output.blocks for output in outputs if output.blocks is not None]
            assert sorted(p for block in blocks for p, _ in block.marks) == [0, 1, 2, 3]
            final, output = last.run_blocks(final, number, blocks)
            assert output.rows is not None
            assert output.late_records == 0
            found.append(
                sorted(
                    output.rows.drop("__key_group").to_dicts(),
                    key=lambda row: (row["window_start"], row["k"]),
                )
            )
        return found

    BATCHES: ClassVar = [
        [Event("a", 1), Event("a", 2, j=1), Event("b", 12)],
        [Event("a", 13), Event("a", 14), Event("a", 23)],
        [Event("b", 35)],
        [Event("b", 67)],
        [],
    ]

    def test_windows_of_windows(self) -> None:
        found = self.play(self.job(), [[0, 1, 2, 3]], self.BATCHES)
        totals = [(row["window_start"], row["k"], row["total"]) for rows in found for row in rows]
        assert totals == [(0, "a", 4), (0, "b", 1), (20, "a", 1), (20, "b", 1)]
        # The stage in between closes [0, 20) with batch 1 and says so: the window of windows closes at once.
        assert [len(rows) for rows in found] == [0, 2, 0, 2, 0]

    @pytest.mark.parametrize("changes", [{}, {"partial": False}])
    def test_cohorts_and_partial_do_not_matter(self, changes: dict[str, Any]) -> None:
        expected = self.play(self.job(), [[0, 1, 2, 3]], self.BATCHES)
        assert self.play(self.job(**changes), [[2], [0, 3], [1]], self.BATCHES) == expected

    def test_a_running_total_over_updates(self) -> None:
        first = aggregation(aggregates=(Aggregate("n", AggregateKind.COUNT),))
        second = Aggregation(keys=("k",), aggregates=(Aggregate("updates", AggregateKind.COUNT),))
        job = made(
            reading(shuffle=first),
            StageProgram(StageId(1), merge=first, steps=(Select((pl.col("k"),)),), shuffle=second),
            StageProgram(StageId(2), merge=second, sink=object()),
        )
        mapper, middle, last = (StageExecutor(job, StageId(n), 1) for n in range(3))
        state, final, log = middle.empty_state([0]), last.empty_state([0]), Log()
        counts: list[dict[str, int]] = []
        for number, keys in enumerate(["aab", "a", "bb"]):
            source = mapper.run_input([0], log.entries({0: [Event(k, 5) for k in keys]})).blocks
            assert source is not None
            state, output = middle.run_blocks(state, number, [source])
            assert output.blocks is not None
            final, result = last.run_blocks(final, number, [output.blocks])
            assert result.rows is not None
            counts.append({row["k"]: row["updates"] for row in result.rows.to_dicts()})
        assert counts == [{"a": 1, "b": 1}, {"a": 2}, {"b": 2}]


class TestTypes:
    @pytest.mark.parametrize(
        ("dtype", "expected"),
        [
            (pl.Int8(), pl.Int64),
            (pl.UInt16(), pl.UInt64),
            (pl.Boolean(), pl.Int64),
            (pl.Float32(), pl.Float64),
            (pl.Decimal(10, 2), pl.Decimal(38, 2)),
            (pl.Duration("ms"), pl.Duration("ms")),
        ],
    )
    def test_sums_are_wide(self, dtype: pl.DataType, expected: Any) -> None:
        spec = aggregation(keys=("k",), window=None, aggregates=(Aggregate("s", SUM, pl.col("x")),))
        read = Read(STREAM, {"k": pl.String(), "t": pl.Int64(), "x": dtype}, None)
        job = made(StageProgram(StageId(0), read, shuffle=spec), StageProgram(StageId(1), merge=spec, sink=1))
        assert output_schema(job, StageId(1))["s"] == expected

    @pytest.mark.parametrize(
        "dtype",
        [
            pl.Int8(),
            pl.UInt64(),
            pl.Boolean(),
            pl.String(),
            pl.Date(),
            pl.Datetime("us", "UTC"),
            pl.Decimal(10, 2),
        ],
    )
    def test_extremes_and_ends_keep_their_type_through_state(self, dtype: pl.DataType) -> None:
        kinds = (AggregateKind.MIN, AggregateKind.MAX, AggregateKind.FIRST, AggregateKind.LAST)
        spec = aggregation(
            keys=("k",),
            window=None,
            aggregates=tuple(Aggregate(kind.value, kind, pl.col("x")) for kind in kinds),
        )
        read = Read(STREAM, {"k": pl.String(), "t": pl.Int64(), "x": dtype}, None)
        job = made(StageProgram(StageId(0), read, shuffle=spec), StageProgram(StageId(1), merge=spec, sink=1))
        values = pl.Series("x", [1, 0, 1, 1], dtype=pl.Int64)
        typed = values.cast(pl.Int32).cast(pl.Date) if dtype == pl.Date else values.cast(dtype)
        mapper, reducer = StageExecutor(job, StageId(0)), StageExecutor(job, StageId(1), 1)
        state = reducer.empty_state([0])
        rows: pl.DataFrame | None = None
        for batch in range(4):
            frame = pl.DataFrame({"k": ["a"], "t": [batch], "x": typed.slice(batch, 1)})
            entry = InputEntry(0, batch, 1, "arrow", frame.write_ipc_stream(None).getvalue())
            block = mapper.run_input([0], [entry]).blocks
            assert block is not None
            state, output = reducer.run_blocks(state, batch, [block])
            rows = output.rows
        assert rows is not None
        (row,) = rows.to_dicts()
        low, high = typed.min(), typed.max()
        assert (row["min"], row["max"], row["first"], row["last"]) == (low, high, high, high)
        assert rows.schema["min"] == dtype


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"keys": ()}, "key columns"),
            ({"event_time": None}, "event time"),
            ({"window": None, "emit": "close"}, "a window"),
            ({"keys": ("f",)}, "'f'"),
            ({"aggregates": (Aggregate("s", SUM, pl.col("k")),)}, "'s'"),
            ({"aggregates": (Aggregate("s", SUM),)}, "an expression"),
            ({"aggregates": (Aggregate("m", AggregateKind.MEAN, pl.col("k")),)}, "numbers"),
            ({"aggregates": (Aggregate("m", AggregateKind.MIN, pl.col("v").implode()),)}, "order"),
            ({"event_time": "k"}, "event time"),
        ],
    )
    def test_what_cannot_run_is_refused_with_the_thing_and_the_remedy(
        self, changes: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(BuildError, match=words):
            Player(aggregation(**changes))

    @pytest.mark.parametrize("changes", [{"keys": ("gone",)}, {"event_time": "gone"}])
    def test_columns_that_are_not_there_are_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(BuildError, match="'gone'"):
            Player(aggregation(**changes))

    def test_a_stage_must_read_or_merge(self) -> None:
        with pytest.raises(BuildError, match="stage 0"):
            StageExecutor(made(StageProgram(StageId(0))), StageId(0))

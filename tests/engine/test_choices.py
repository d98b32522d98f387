"""However a stage is chosen to run, batch by batch and worker by worker, it gives the same rows."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import drizzle_streams as dz
from drizzle_streams.engine.execute import Block, StageExecutor
from drizzle_streams.engine.operators import Steps
from drizzle_streams.engine.program import Filter, Program, Select, StageProgram
from drizzle_streams.model.ids import JobId
from drizzle_streams.model.replanning import FilterSeen, StageChoice
from tests.engine.generated import batches, partitionings
from tests.engine.world import EVERYTHING, MAP, Batch, Event, Log, Player, aggregation, program

FILTERS = (
    Filter(pl.col("keep"), movable=True),
    Filter(pl.col("v") > -50, movable=True),
    Filter(pl.col("k").is_not_null(), movable=True),
)
choices = st.builds(
    StageChoice, stage=st.just(MAP), partial=st.booleans(), filters=st.permutations(range(3)).map(tuple)
)
FLOATS = st.floats(-1e6, 1e6, allow_nan=False)


class Chosen(Player):
    """A player whose every map task may run under a choice of its own, as if workers disagreed."""

    def __init__(self, spec: object, maps: list[list[int]], chosen: list[StageChoice]) -> None:
        super().__init__(spec, map_cohorts=maps)  # type: ignore[arg-type]
        made = program(self.spec)
        read = replace(made.stages[0], steps=FILTERS)
        self.mapper = StageExecutor(Program(JobId("job"), (read, made.stages[1]), {}, 16), MAP)
        self.chosen, self.seen = chosen, 0

    def map(self, batch: Batch) -> list[Block]:
        entries = self.log.entries(batch)
        blocks: list[Block] = []
        for cohort in self.maps:
            mine = [entry for entry in entries if entry.partition in cohort]
            choice = self.chosen[self.seen % len(self.chosen)] if self.chosen else None
            self.seen += 1
            output = self.mapper.run_input(cohort, mine, choice)
            assert output.blocks is not None
            assert output.seen is not None
            assert output.seen.shuffled <= output.seen.rows
            blocks.append(output.blocks)
        return blocks


@settings(max_examples=25)
@given(
    batches(3),
    partitionings(3),
    st.lists(choices, min_size=1, max_size=5),
    st.sampled_from(["update", "close"]),
)
def test_any_choice_gives_the_same_rows(
    given_batches: list[Batch], cohorts: list[list[int]], chosen: list[StageChoice], emit: str
) -> None:
    spec = aggregation(emit=emit)
    plain = Chosen(spec, cohorts, []).play_all(given_batches)
    other = Chosen(spec, cohorts, chosen).play_all(given_batches)
    for number in range(len(given_batches)):
        assert other.rows(number) == plain.rows(number)
    assert other.state_rows() == plain.state_rows()
    assert other.late_records() == plain.late_records()


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from("abc"), FLOATS), max_size=40), st.booleans())
def test_sums_that_round_are_the_same_to_the_last_bit(values: list[tuple[str, float]], ordered: bool) -> None:
    aggregates = tuple(one for one in EVERYTHING if ordered or one.name not in {"first", "last"})
    batch = {0: [Event(key, 1, f=value) for key, value in values], 1: [Event("a", 2, f=0.1)]}
    spec = aggregation(aggregates=aggregates)
    plain = Chosen(spec, [[0, 1]], []).play_all([batch])
    raw = Chosen(spec, [[0], [1]], [StageChoice(MAP, partial=False), StageChoice(MAP)]).play_all([batch])
    assert raw.rows(0) == plain.rows(0)


def test_what_was_seen_is_told() -> None:
    player = Chosen(aggregation(), [[0]], [])
    entries = Log().entries({0: [Event("a", 1), Event("a", 1, keep=False), Event("a", 1), Event(None, 2)]})
    seen = player.mapper.run_input([0], entries).seen
    assert seen is not None
    assert (seen.rows, seen.shuffled, seen.partial) == (2, 1, True)
    assert seen.filters == (FilterSeen(0, 0, 4, 3), FilterSeen(1, 0, 3, 3), FilterSeen(2, 0, 3, 2))
    raw = StageChoice(MAP, partial=False, filters=(2, 0, 1))
    output = player.mapper.run_input([0], entries, raw)
    assert output.seen is not None
    assert output.blocks is not None
    assert (output.seen.rows, output.seen.shuffled, output.seen.partial) == (2, 2, False)
    assert [one.step for one in output.seen.filters] == [2, 0, 1]
    _, merged = player.reducer.run_blocks(player.reducer.empty_state([0, 1, 2]), 0, [output.blocks])
    assert merged.seen is not None
    assert (merged.seen.merged_rows, merged.seen.merged_groups) == (2, 1)


def test_only_movable_neighbours_change_places() -> None:
    select = Select((pl.col("k"), pl.col("v"), pl.col("keep")))
    steps = Steps(
        (*FILTERS[:2], select, FILTERS[2]),
        {},
        pl.DataFrame(schema={"k": pl.String, "v": pl.Int64, "keep": pl.Boolean}).schema,
    )
    assert steps.ordered((1, 0)) == [1, 0, 2, 3]
    assert steps.ordered((3, 1, 0)) == [1, 0, 2, 3], "what is in no run stays"
    assert steps.ordered((1,)) is None, "a run is named whole or not at all"
    assert steps.ordered((9, 9, 0)) is None
    still = Steps(
        (replace(FILTERS[0], movable=False), FILTERS[1]), {}, {"keep": pl.Boolean(), "v": pl.Int64()}
    )
    assert still.ordered((1, 0)) is None


def test_a_filter_that_can_fail_on_a_row_keeps_its_place() -> None:
    stream = dz.stream("s", schema={"n": pl.String, "m": pl.Int64})
    guarded = stream.filter(pl.col("n").is_not_null()).filter(pl.col("n").str.to_integer() > 3)
    job = guarded.filter(pl.col("m") > 1).group_by("m").agg(n=dz.count()).to(dz.console()).job("j")
    (stage, _) = job.compile().program.stages
    assert isinstance(stage, StageProgram)
    assert [step.movable for step in stage.steps if isinstance(step, Filter)] == [True, False, True]

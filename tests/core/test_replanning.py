"""The planner of choices alone: what was seen in, choices and their reasons out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.core.replanning import BATCHES_MIN, CHOSEN_MAX, Replanning
from drizzle_streams.core.story import Story
from drizzle_streams.model.ids import NO_BATCH, BatchId, GroupId, JobId, StageId, StreamId
from drizzle_streams.model.job import JobSpec, Scheduling, StageSpec
from drizzle_streams.model.replanning import (
    JOIN_BROADCAST_BYTES_MAX,
    ChosenFrom,
    FilterSeen,
    StageChoice,
    StageSeen,
    added,
    choice_at,
)
from drizzle_streams.protocol.records import GroupRecord

MAP, REDUCE = StageId(0), StageId(1)
SPEC = JobSpec(
    JobId("j"),
    (
        StageSpec(MAP, 2, stream=StreamId("s")),
        StageSpec(REDUCE, 4, inputs=(MAP,), stateful=True, writes_output=True),
    ),
)
JOINED = JobSpec(
    JobId("j"),
    (
        StageSpec(MAP, 2, stream=StreamId("s")),
        StageSpec(REDUCE, 4, inputs=(MAP,)),
        StageSpec(StageId(2), 4, inputs=(REDUCE,), stateful=True, writes_output=True),
    ),
)


class Groups:
    """Launches groups of ten batches, telling first what was seen."""

    def __init__(self, spec: JobSpec = SPEC) -> None:
        self.story = Story()
        self.replanning = Replanning(spec, self.story)
        self.first = 0
        self.workers = 2

    def launch(self, *seen: StageSeen, committed: int = -1) -> GroupRecord:
        self.replanning.heard(seen)
        group = GroupRecord(GroupId(self.first // 10), BatchId(self.first), BatchId(self.first + 9), 0.0)
        self.first += 10
        return self.replanning.planned(group, BatchId(committed), 0.0, self.workers)


def mapped(left: float, *, partial: bool = True, batches: int = 10 * BATCHES_MIN) -> StageSeen:
    return StageSeen(MAP, batches, partial, 100_000, round(100_000 * left))


def merged(left: float) -> StageSeen:
    return StageSeen(REDUCE, 10 * BATCHES_MIN, merged_rows=100_000, merged_groups=round(100_000 * left))


@pytest.mark.parametrize(("left", "partial"), [(0.2, True), (0.9, True), (0.91, False), (1.0, False)])
def test_aggregation_before_the_shuffle_goes_where_it_leaves_most_rows(left: float, partial: bool) -> None:
    group = Groups().launch(mapped(left))
    choice = choice_at(group.chosen, group.first, MAP)
    assert (choice is None or choice.partial) is partial


def test_it_comes_back_only_where_it_clearly_pays() -> None:
    groups = Groups()
    groups.launch(mapped(1.0))
    raw = mapped(1.0, partial=False)
    assert groups.launch(raw, merged(0.8)).chosen[-1].choices == (StageChoice(MAP, partial=False),)
    groups.replanning.seen.clear()
    back = groups.launch(raw, merged(0.6))
    assert back.chosen[-1] == ChosenFrom(back.first, (StageChoice(MAP, partial=True),))
    assert [line.kind for line in groups.story.lines] == ["Replanned", "Replanned"]
    assert "leaves 100% of the rows" in groups.story.lines[0].text


def test_every_change_asks_for_twice_as_much_to_be_seen() -> None:
    groups = Groups()
    assert groups.launch(mapped(1.0, batches=BATCHES_MIN - 1)).chosen == ()
    assert groups.launch(mapped(1.0, batches=1)).chosen != ()
    raw = mapped(1.0, partial=False, batches=BATCHES_MIN)
    assert len(groups.launch(raw, merged(0.1)).chosen) == 1
    assert len(groups.launch(raw, merged(0.1)).chosen) == 2


def test_few_rows_say_nothing() -> None:
    few = StageSeen(MAP, 10_000, True, 900, 900)
    assert Groups().launch(few).chosen == ()


def filters(*steps: tuple[int, int, int]) -> StageSeen:
    return replace(mapped(0.5), filters=tuple(FilterSeen(step, 0, rows, out) for step, rows, out in steps))


def test_the_filter_that_lets_least_through_goes_first() -> None:
    group = Groups().launch(filters((0, 100_000, 90_000), (1, 90_000, 9_000), (2, 9_000, 4_500)))
    choice = choice_at(group.chosen, group.last, MAP)
    assert choice == StageChoice(MAP, partial=True, filters=(1, 2, 0))


def test_filters_stay_where_the_gain_is_small_and_runs_do_not_mix() -> None:
    assert Groups().launch(filters((0, 100_000, 50_000), (1, 50_000, 24_000))).chosen == ()
    seen = replace(
        mapped(0.5),
        filters=(
            FilterSeen(0, 0, 100_000, 99_000),
            FilterSeen(1, 0, 99_000, 10_000),
            FilterSeen(4, 4, 10_000, 9_900),
            FilterSeen(5, 4, 9_900, 990),
        ),
    )
    group = Groups().launch(seen)
    assert group.chosen[-1].choices[0].filters == (1, 0, 5, 4)


def test_an_order_that_was_chosen_is_kept_while_it_is_good() -> None:
    groups = Groups()
    groups.launch(filters((0, 100_000, 90_000), (1, 90_000, 9_000)))
    kept = groups.launch(filters((1, 100_000, 10_000), (0, 10_000, 9_000)))
    assert [one.choices[0].filters for one in kept.chosen] == [(1, 0)]


def test_a_batch_runs_as_the_newest_choice_before_it_says() -> None:
    chosen = (ChosenFrom(BatchId(10), (StageChoice(MAP, partial=False),)), ChosenFrom(BatchId(30), ()))
    found = [choice_at(chosen, BatchId(batch), MAP) for batch in (9, 10, 29, 30)]
    assert found == [None, StageChoice(MAP, partial=False), StageChoice(MAP, partial=False), None]


def test_choices_go_when_no_replay_needs_them_and_are_bounded() -> None:
    groups = Groups()
    group = groups.launch()
    for number in range(3 * CHOSEN_MAX):
        groups.replanning.changes.clear()
        groups.replanning.seen.clear()
        odd = number % 2 == 1
        group = groups.launch(mapped(1.0, partial=not odd), merged(0.1))
    assert len(group.chosen) == CHOSEN_MAX
    kept = groups.launch(committed=groups.first)
    assert len(kept.chosen) == 1


def test_what_a_cut_took_back_stays_chosen_since_somebody_may_have_begun_it() -> None:
    groups = Groups()
    groups.launch()
    launched = groups.launch(mapped(1.0)).chosen
    groups.first = 5
    assert groups.launch(mapped(0.1, partial=False), merged(0.1)).chosen == launched
    groups.first = launched[-1].first + 10
    assert len(groups.launch().chosen) == 2


def test_switched_off_or_without_groups_nothing_changes() -> None:
    for spec in (replace(SPEC, replanning=False), replace(SPEC, scheduling=Scheduling.BARRIER)):
        assert Groups(spec).launch(mapped(1.0)).chosen == ()


def test_a_new_coordinator_goes_on_with_the_choices() -> None:
    before = Groups()
    group = before.launch(mapped(1.0))
    after = Replanning(SPEC, Story())
    after.restore(group)
    due = GroupRecord(GroupId(1), BatchId(10), BatchId(19), 0.0)
    assert after.planned(due, NO_BATCH, 0.0, 2).chosen == group.chosen


def test_what_ran_under_other_choices_is_not_added_up() -> None:
    assert added(mapped(1.0), mapped(0.5, partial=False)) == mapped(0.5, partial=False)
    assert added(mapped(1.0), mapped(0.5)).shuffled == 150_000
    one, other = filters((0, 10, 5), (1, 5, 1)), filters((1, 10, 2), (0, 2, 1))
    assert added(one, other) == other
    assert added(one, one).filters[0] == FilterSeen(0, 0, 20, 10)


def test_reasons_name_everything_that_is_decided() -> None:
    groups = Groups()
    groups.launch(replace(filters((0, 100_000, 50_000), (1, 50_000, 24_000)), side_rows=7, side_bytes=100))
    reasons = groups.replanning.reasons(groups.replanning.choice(MAP))
    assert [(one.what, one.how) for one in reasons] == [
        ("aggregates", "before the shuffle and after it"),
        ("filters", "in the order [0, 1]"),
        ("join", "broadcast"),
    ]
    assert "50% of the rows" in reasons[0].why
    assert [one.what for one in groups.replanning.reasons(StageChoice(REDUCE))] == ["partitions"]


def joining(table_bytes: float, *, broadcast: bool = False) -> StageSeen:
    """What a stage saw whose join may be shuffled."""
    return StageSeen(
        MAP, 10 * BATCHES_MIN, join_rows=7_000_000, join_bytes=round(table_bytes), broadcast=broadcast
    )


@pytest.mark.parametrize(("workers", "broadcast"), [(1, True), (2, True), (4, None), (128, None)])
def test_a_table_is_shuffled_where_whole_it_is_much_more_than_a_workers_share(
    workers: int, broadcast: bool | None
) -> None:
    groups = Groups()
    groups.workers = workers
    group = groups.launch(joining(1.5 * JOIN_BROADCAST_BYTES_MAX))
    choice = choice_at(group.chosen, group.first, MAP)
    assert (None if choice is None else choice.broadcast) is broadcast


def test_the_join_follows_the_workers_with_a_gap_between_doing_and_undoing() -> None:
    groups = Groups()
    table = 1.5 * JOIN_BROADCAST_BYTES_MAX
    groups.launch(joining(table))
    assert groups.replanning.choice(MAP).broadcast is True
    for workers, table_bytes, wanted in (
        (4, table, False),  # 1.13 of the bound
        (2, 1.8 * JOIN_BROADCAST_BYTES_MAX, False),  # 0.9 of it: not little enough to go back
        (2, table, True),  # 0.75
        (3, 1.4 * JOIN_BROADCAST_BYTES_MAX, True),  # 0.93: not too much to stay
    ):
        groups.workers = workers
        now = groups.replanning.choice(MAP).broadcast
        for _ in range(10):
            groups.launch(joining(table_bytes, broadcast=now is True))
        assert groups.replanning.choice(MAP).broadcast is wanted


def test_a_join_says_where_it_is_made_and_why() -> None:
    groups = Groups()
    groups.workers = 8
    groups.launch(joining(100 << 20))
    (reason,) = (r for r in groups.replanning.reasons(groups.replanning.choice(MAP)) if r.what == "join")
    assert reason.how == "shuffled"
    assert "104,857,600 bytes" in reason.why
    assert "each of 8 workers" in reason.why
    groups.replanning.seen.clear()
    groups.workers = 1
    groups.launch(joining(100 << 20, broadcast=True))
    (reason,) = (r for r in groups.replanning.reasons(groups.replanning.choice(MAP)) if r.what == "join")
    assert reason.how == "broadcast"
    assert reason.why.endswith("the only worker holds the whole table anyway")


def test_rows_that_are_routed_to_a_join_say_nothing_about_aggregation() -> None:
    for seen in (joining(100 << 20), StageSeen(MAP, 10 * BATCHES_MIN)):  # the other's place is fixed
        groups = Groups(JOINED)
        group = groups.launch(replace(seen, rows=100_000, shuffled=100_000))
        choice = choice_at(group.chosen, group.first, MAP)
        assert choice is None or choice.partial
        assert "aggregates" not in [one.what for one in groups.replanning.reasons(StageChoice(MAP))]
        assert "aggregates" in [one.what for one in groups.replanning.reasons(StageChoice(REDUCE))]

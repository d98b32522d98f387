"""A job's tuner in its place: what it is told by the machine around it, and what it makes of that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drizzle_streams.core.group_sizing import GROUPS_MEASURED_MAX, GroupSizing
from drizzle_streams.core.interval import Interval
from drizzle_streams.core.story import Story
from drizzle_streams.core.tuning.band import Constraint
from drizzle_streams.model.ids import BatchId, GroupId, JobId, StageId, WorkerId
from drizzle_streams.model.job import JobSpec, Scheduling, StageSpec
from drizzle_streams.model.placement import Placement
from drizzle_streams.model.tuning import Tuning, TuningMode
from drizzle_streams.protocol.records import GroupRecord

ONE, TWO, THREE = WorkerId("one"), WorkerId("two"), WorkerId("three")
PLACEMENT = Placement(((ONE, TWO, ONE, TWO), (ONE, ONE, TWO, TWO)))
SPEC = JobSpec(
    JobId("j"),
    (StageSpec(StageId(0), 4), StageSpec(StageId(1), 4, inputs=(StageId(0),))),
    batch_interval_ms=50.0,
    group_size=2,
    tuning=Tuning(mode=TuningMode.MODEL),
)


def sizing_of(spec: JobSpec, story: Story | None = None) -> GroupSizing:
    return GroupSizing(spec, story or Story(), 0.3, Interval(False, spec.batch_interval_ms))


class Groups:
    """Launches group after group, as a coordinator would; every batch is done at once."""

    def __init__(self, spec: JobSpec = SPEC, *, stall_ms: float = 0.0, plan_s: float = 0.001) -> None:
        self.story = Story()
        self.sizing = sizing_of(spec, self.story)
        self.sizing.planned(frozenset((ONE, TWO)), 0.0)
        self.stall_ms, self.plan_s = stall_ms, plan_s
        self.latencies: dict[BatchId, float] = {}
        self.groups: list[GroupRecord] = []

    def launch(self, count: int = 1) -> GroupRecord:
        for _ in range(count):
            number, first = len(self.groups), self.groups[-1].last + 1 if self.groups else 0
            now = first * 0.05
            self.sizing.heard(ONE, 0.4, now)
            due = GroupRecord(GroupId(number), BatchId(first), BatchId(first + 1), now * 1000.0)
            group = self.sizing.sized(
                due, now, placement=PLACEMENT, frontier=BatchId(first - 1), latencies=self.latencies
            )
            self.groups.append(group)
            self.sizing.launch_measured(group.group, self.plan_s, 2 * self.plan_s)
            for batch in range(group.first, group.last + 1):
                self.latencies[BatchId(batch)] = 20.0 + self.stall_ms * (batch == group.first)
        return self.groups[-1]

    @property
    def inputs(self) -> dict[str, float]:
        assert self.sizing.decision is not None
        return dict(self.sizing.decision.inputs)


def size(group: GroupRecord) -> int:
    return group.last - group.first + 1


def test_a_stated_size_is_not_touched() -> None:
    stated = Groups(replace(SPEC, tuning=Tuning()))
    assert {size(stated.launch()) for _ in range(10)} == {2}
    assert stated.sizing.decision is not None
    assert stated.sizing.decision.binding is Constraint.FIXED


def test_modes_without_groups_are_not_touched() -> None:
    barrier = Groups(replace(SPEC, scheduling=Scheduling.BARRIER))
    due = GroupRecord(GroupId(0), BatchId(0), BatchId(0), 0.0)
    sized = barrier.sizing.sized(due, 0.0, placement=PLACEMENT, frontier=BatchId(-1), latencies={})
    assert (sized, barrier.sizing.decision) == (due, None)


def test_what_is_measured_becomes_what_it_reckons_with() -> None:
    groups = Groups(stall_ms=4.0)
    groups.launch(40)
    inputs = groups.inputs
    assert inputs["background_seconds"] == pytest.approx(0.003)
    assert inputs["critical_seconds"] == pytest.approx(0.004)
    assert inputs["utilisation_ratio"] == pytest.approx(0.4)
    assert (inputs["workers"], inputs["tasks"]) == (2.0, 4.0)
    assert inputs["catch_up_ratio"] == 0.0, "checkpoints do not follow groups"


def test_groups_grow_to_what_the_adaptation_objective_allows() -> None:
    groups = Groups(stall_ms=4.0)
    groups.launch(12)
    assert size(groups.groups[-1]) == pytest.approx((5.0 - 0.3) / 0.05, abs=1)
    assert [size(g) for g in groups.groups[:3]] == [2, 4, 8], "once something was measured"
    assert all(a.last + 1 == b.first for a, b in zip(groups.groups, groups.groups[1:], strict=False))


def test_measurements_count_once() -> None:
    once, twice = Groups(), Groups()
    for groups in (once, twice):
        groups.launch(10)
    twice.sizing.launch_measured(GroupId(3), 9.0, 9.0)
    twice.sizing.launch_measured(GroupId(9), 9.0, 9.0)
    twice.sizing.launch_measured(GroupId(77), 9.0, 9.0)
    assert once.launch() == twice.launch()
    assert once.inputs == twice.inputs


def test_a_new_coordinator_goes_on_with_the_size_of_the_newest_group() -> None:
    before = Groups()
    last = before.launch(8)
    after = sizing_of(SPEC)
    after.restore(last)
    due = GroupRecord(GroupId(9), BatchId(last.last + 1), BatchId(last.last + 2), 0.0)
    sized = after.sized(due, 0.0, placement=PLACEMENT, frontier=BatchId(-1), latencies={})
    assert size(sized) == size(last)


def test_workers_that_come_or_go_by_wish_are_an_adaptation_and_the_lost_a_failure() -> None:
    groups = Groups()
    groups.launch()
    before = groups.inputs["failures_per_second"]
    groups.sizing.planned(frozenset((ONE, TWO, THREE)), 1.0)
    groups.launch()
    assert groups.inputs["adaptations_per_second"] > 0.0
    assert groups.inputs["failures_per_second"] == pytest.approx(before, rel=1e-3)
    groups.sizing.lost(THREE, 2.0)
    adapted = groups.inputs["adaptations_per_second"]
    groups.sizing.planned(frozenset((ONE, TWO)), 2.1)
    groups.launch()
    assert groups.inputs["failures_per_second"] > 1.5 * before
    assert groups.inputs["adaptations_per_second"] <= adapted


def test_heartbeats_of_others_do_not_count() -> None:
    groups = Groups()
    groups.sizing.heard(THREE, 1.0, 0.0)
    groups.launch(2)
    assert groups.inputs["utilisation_ratio"] == pytest.approx(0.4)


def test_groups_that_ran_into_a_new_generation_are_not_measured() -> None:
    groups = Groups(plan_s=1.0)
    groups.launch()
    groups.sizing.planned(frozenset((ONE, TWO)), 0.1)
    groups.launch()
    assert groups.inputs["coordination_seconds"] == 0.0


def test_what_waits_to_be_measured_is_bounded() -> None:
    sizing = sizing_of(replace(SPEC, tuning=Tuning()))
    for number in range(3 * GROUPS_MEASURED_MAX):
        due = GroupRecord(GroupId(number), BatchId(number), BatchId(number), 0.0)
        sizing.sized(due, 0.0, placement=PLACEMENT, frontier=BatchId(-1), latencies={})
    assert len(sizing._launched) == GROUPS_MEASURED_MAX


def test_a_contradiction_is_told_once() -> None:
    dear = Groups(replace(SPEC, tuning=Tuning(mode=TuningMode.MODEL, tail_quantile=0.999)), stall_ms=500.0)
    dear.launch(20)
    told = [line.text for line in dear.story.lines if line.kind == "NoGroupSizeFits"]
    assert len(told) == 1
    assert "tail asks for more batches than adaptation allows" in told[0]

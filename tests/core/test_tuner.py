"""The tuner as a machine: measurements in, a size and its reasons out."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_streams.core.tuner import HYSTERESIS, START_SIZE, Tuner
from drizzle_streams.core.tuning.aimd import DECREMENT, PERIOD_GROUPS
from drizzle_streams.core.tuning.band import Alarm, Constraint
from drizzle_streams.core.tuning.facts import Decision, Environment, GroupMeasured, Recovered
from drizzle_streams.model.ids import GroupId
from drizzle_streams.model.tuning import Objective, Tuning, TuningMode

MODEL = Tuning(mode=TuningMode.MODEL)
PAPER = Environment(
    batch_interval_ms=100.0, workers=128, tasks_per_batch=512, pipelined=False, detection_s=2.0
)
"""128 machines, coordination on the critical path, replay from the last boundary."""


def run(
    tuner: Tuner,
    cost_s: float,
    *,
    groups: int = 40,
    environment: Environment = PAPER,
    utilisation: float = 0.5,
    barrier_s: float | None = 0.0,
) -> list[Decision]:
    """So many groups, each measured before the next is decided; a second between boundaries."""
    decisions: list[Decision] = []
    for number in range(groups):
        tuner.utilised(float(number), utilisation)
        measured = GroupMeasured(GroupId(number), tuner.size, 0.3 * cost_s, 0.7 * cost_s, barrier_s)
        tuner.observe(measured, environment)
        decisions.append(tuner.decide(float(number), environment))
    return decisions


# --- fixed --------------------------------------------------------------------------------


def test_a_stated_size_is_kept_whatever_it_costs() -> None:
    tuner = Tuner(Tuning(mode=TuningMode.FIXED, group_size_max=10), 20)
    decisions = run(tuner, 5.0)
    assert {(d.group_size, d.binding, d.mode) for d in decisions} == {
        (20, Constraint.FIXED, TuningMode.FIXED)
    }
    assert decisions[-1].alarm is None
    assert decisions[-1].inputs["coordination_seconds"] == pytest.approx(5.0), "shown all the same"


# --- aimd ---------------------------------------------------------------------------------


def test_the_papers_controller_settles_where_the_paper_says() -> None:
    """Two stages at 128 machines: 245 ms. At 100 ms batches the paper's run went to 49, at 250 ms to 8."""
    for interval_ms, least, most in ((100.0, 22, 49), (250.0, 8, 20)):
        tuner = Tuner(Tuning(mode=TuningMode.AIMD))
        environment = replace(PAPER, batch_interval_ms=interval_ms)
        decisions = run(tuner, 0.245, groups=100, environment=environment)
        sizes = {d.group_size for d in decisions[-30:]}
        assert len(sizes) == 1, sizes
        assert least <= sizes.pop() <= most
        assert decisions[-1].mode is TuningMode.AIMD
        assert 0.05 <= decisions[-1].inputs["overhead_ratio"] <= 0.10


def test_the_papers_controller_subtracts_when_coordination_gets_cheap() -> None:
    tuner = Tuner(Tuning(mode=TuningMode.AIMD), 64)
    sizes = [d.group_size for d in run(tuner, 0.05, groups=4 * PERIOD_GROUPS)]
    assert sorted(set(sizes), reverse=True) == [
        64,
        64 - DECREMENT,
        64 - 2 * DECREMENT,
        64 - 3 * DECREMENT,
        44,
    ]


def test_one_slow_group_does_not_move_the_papers_controller() -> None:
    tuner = Tuner(Tuning(mode=TuningMode.AIMD), 32)
    run(tuner, 0.25, groups=30)
    before = tuner.size
    tuner.observe(GroupMeasured(GroupId(99), before, 0.0, 0.4), PAPER)
    assert tuner.decide(99.0, PAPER).group_size == before


def test_the_papers_controller_keeps_to_what_the_job_allows() -> None:
    tuner = Tuner(Tuning(mode=TuningMode.AIMD, group_size_min=3, group_size_max=11), 4)
    assert {d.group_size for d in run(tuner, 9.0, groups=60)[-10:]} == {11}
    assert {d.group_size for d in run(tuner, 1e-6, groups=60)[-10:]} == {3}


# --- model --------------------------------------------------------------------------------


def test_without_measurements_it_falls_back_and_says_so() -> None:
    decision = Tuner(MODEL).decide(0.0, PAPER)
    assert (decision.group_size, decision.mode, decision.binding) == (
        START_SIZE,
        TuningMode.AIMD,
        Constraint.UNMEASURED,
    )


def test_it_goes_to_the_optimum_when_the_band_allows_that() -> None:
    tuner = Tuner(replace(MODEL, adaptation_objective_ms=1e9, recovery_objective_ms=1e9))
    decisions = run(tuner, 0.25)
    last = decisions[-1]
    assert last.binding is Constraint.OPTIMUM
    assert abs(math.log2(last.group_size / last.optimum)) <= HYSTERESIS
    rate = last.inputs["failures_per_second"] * (last.inputs["catch_up_ratio"] + last.inputs["rewire_ratio"])
    assert last.optimum == pytest.approx(math.sqrt(2 * 0.25 / rate) / 0.1)
    steps = [b.group_size / a.group_size for a, b in pairwise(decisions)]
    assert max(steps) == 2.0, "twice as long at most, from one group to the next"


def test_the_adaptation_objective_binds_by_default() -> None:
    last = run(Tuner(MODEL), 0.25)[-1]
    assert (last.group_size, last.binding) == (50, Constraint.ADAPTATION)
    assert (last.lower, last.binds_lower) == (23, Constraint.OVERHEAD)


def test_an_empty_band_is_an_alarm_with_its_pair() -> None:
    tuner = Tuner(replace(MODEL, tail_quantile=0.99))
    last = run(tuner, 0.25)[-1]
    assert last.alarm == Alarm(Constraint.TAIL, Constraint.ADAPTATION)
    assert last.group_size == 50


def test_noise_does_not_move_the_size() -> None:
    tuner = Tuner(replace(MODEL, adaptation_objective_ms=1e9))
    run(tuner, 0.25)
    sizes = {run(tuner, cost, groups=1)[0].group_size for cost in [0.3, 0.2, 4.0, 0.27, 0.22] * 20}
    assert len(sizes) == 1


def test_latency_asks_for_smaller_groups_than_utilisation() -> None:
    free = replace(MODEL, adaptation_objective_ms=1e9, recovery_objective_ms=1e9, tail_quantile=0.0)
    sizes = {
        objective: run(Tuner(replace(free, objective=objective, group_size_max=10_000)), 0.02)[-1].optimum
        for objective in Objective
    }
    assert sizes[Objective.LATENCY] < sizes[Objective.UTILISATION] / 3


def test_pipelined_groups_count_the_stall_and_a_share_of_the_rest() -> None:
    """Launching ahead takes 245 of 250 ms off the critical path: the band opens, the optimum falls."""
    settings = replace(MODEL, objective=Objective.LATENCY, adaptation_objective_ms=1e9)
    environment = replace(PAPER, pipelined=True, look_ahead_s=0.3)
    ahead = run(Tuner(settings), 0.245, environment=environment, barrier_s=0.005)[-1]
    stalled = run(Tuner(settings), 0.25)[-1]
    assert ahead.inputs["critical_seconds"] == pytest.approx(0.005)
    assert ahead.inputs["background_seconds"] == pytest.approx(0.245)
    assert ahead.inputs["pipelining_pays"] == 1.0
    assert ahead.optimum < stalled.optimum / 10
    unseen = run(Tuner(settings), 0.245, environment=environment, barrier_s=None)[-1]
    assert unseen.inputs["critical_seconds"] == pytest.approx(0.245), "unknown counts as a stall"


def test_a_boundary_that_is_no_later_than_others_costs_nothing() -> None:
    environment = replace(PAPER, pipelined=True)
    last = run(Tuner(MODEL), 0.01, environment=environment, barrier_s=-0.02)[-1]
    assert last.inputs["critical_seconds"] == 0.0


def test_adaptations_count_by_how_much_the_load_was_beyond_its_target() -> None:
    free = replace(MODEL, adaptation_objective_ms=1e9, recovery_objective_ms=1e9)
    idle, busy = Tuner(free), Tuner(free)
    for tuner, utilisation in ((idle, 0.3), (busy, 0.9)):
        run(tuner, 0.25, utilisation=utilisation)
        for second in range(40, 60):
            tuner.adaptation(float(second))
    calm, pressed = idle.decide(60.0, PAPER), busy.decide(60.0, PAPER)
    assert calm.inputs["wait_cost_ratio"] == 0.0
    assert pressed.inputs["wait_cost_ratio"] == pytest.approx(0.2)
    assert pressed.optimum < calm.optimum / 5
    cuts = busy.decide(61.0, replace(PAPER, cut_round_trip_s=0.01))
    assert cuts.optimum > pressed.optimum, "a group that can be cut need not be short"


def test_what_recoveries_show_replaces_the_formulas() -> None:
    tuner = Tuner(replace(MODEL, recovery_objective_ms=5_000.0))
    for _ in range(30):
        tuner.recovered(Recovered(2.0, 1.0, catch_up_s=3.0, since_boundary_s=2.0, rewire_s=0.512, tasks=512))
    last = run(tuner, 0.05, groups=60)[-1]
    assert last.inputs["failure_seconds"] == pytest.approx(3.0)
    assert last.inputs["catch_up_ratio"] == pytest.approx(1.5)
    assert last.inputs["rewire_ratio"] == pytest.approx(0.001 * 512 / 0.1)
    assert last.upper == math.floor((5.0 - 3.0) / (1.5 + 5.12) / 0.1)


def test_checkpoints_of_their_own_untie_replay_from_the_group() -> None:
    own = replace(PAPER, replays_group=False)
    tuner = Tuner(replace(MODEL, adaptation_objective_ms=1e9, recovery_objective_ms=1e9))
    assert run(tuner, 0.01, environment=own)[-1].inputs["catch_up_ratio"] == 0.0


def test_the_size_survives_a_restart_and_estimates_do_not() -> None:
    before = Tuner(MODEL)
    run(before, 0.25)
    after = Tuner(MODEL, before.size)
    decision = after.decide(0.0, PAPER)
    assert (decision.group_size, decision.binding) == (before.size, Constraint.UNMEASURED)


@pytest.mark.parametrize("start", [1, 2, 3, 7, 1000])
def test_steps_never_exceed_a_factor_of_two(start: int) -> None:
    tuner = Tuner(replace(MODEL, adaptation_objective_ms=1_700.0), start)
    sizes = [start] + [d.group_size for d in run(tuner, 0.05, groups=14)]
    for before, after in pairwise(sizes):
        assert before / 2 <= after <= before * 2
    assert sizes[-1] == 17 or abs(math.log2(17 / sizes[-1])) <= HYSTERESIS


# --- always -------------------------------------------------------------------------------

tunings = st.builds(
    Tuning,
    mode=st.sampled_from([TuningMode.AIMD, TuningMode.MODEL]),
    objective=st.sampled_from(Objective),
    group_size_min=st.integers(1, 20),
    group_size_max=st.integers(20, 2_000),
    overhead_lower=st.floats(0.001, 0.05),
    overhead_upper=st.floats(0.05, 0.5),
    recovery_objective_ms=st.floats(1.0, 1e6),
    adaptation_objective_ms=st.floats(1.0, 1e6),
    tail_quantile=st.none() | st.floats(0.0, 0.999),
    wait_cost=st.none() | st.floats(0.0, 1.0),
    memory_bytes=st.integers(0, 1 << 30),
)
environments = st.builds(
    Environment,
    batch_interval_ms=st.floats(1.0, 10_000.0),
    workers=st.integers(0, 500),
    tasks_per_batch=st.integers(0, 5_000),
    pipelined=st.booleans(),
    look_ahead_s=st.floats(0.0, 1.0),
    look_ahead_groups=st.sampled_from([0.0, 1.0, 2.0]),
    cut_round_trip_s=st.none() | st.floats(0.0, 1.0),
    replays_group=st.booleans(),
    detection_s=st.floats(0.0, 60.0),
    batch_bytes=st.floats(0.0, 1e9),
    retention_s=st.floats(0.01, 1e6) | st.just(math.inf),
)
happenings = st.lists(
    st.tuples(
        st.sampled_from(["group", "failure", "adaptation", "recovered"]),
        st.floats(0.0, 1e4),
        st.floats(0.0, 2.0),
        st.floats(0.0, 1.0),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(tunings, st.integers(1, 5_000), st.lists(environments, min_size=1, max_size=3), happenings)
def test_whatever_happens_sizes_stay_in_bounds_and_move_in_steps(
    settings: Tuning,
    start: int,
    worlds: list[Environment],
    happens: list[tuple[str, float, float, float]],
) -> None:
    tuner, now = Tuner(settings, start), 0.0
    for number, (what, passed, cost, share) in enumerate(happens):
        now, world = now + passed, worlds[number % len(worlds)]
        match what:
            case "group":
                tuner.utilised(now, share)
                tuner.observe(GroupMeasured(GroupId(number), tuner.size, cost, cost, cost - 1.0), world)
            case "failure":
                tuner.failure(now)
            case "adaptation":
                tuner.adaptation(now)
            case _:
                tuner.recovered(Recovered(cost, cost, cost, share, cost, number))
        before = tuner.size
        decision = tuner.decide(now, world)
        assert 1 <= decision.group_size <= settings.group_size_max
        assert decision.group_size == tuner.size
        assert all(math.isfinite(value) for value in decision.inputs.values())
        if decision.mode is TuningMode.MODEL:
            assert before / 2 <= decision.group_size <= before * 2
            if decision.group_size != before:
                toward = decision.target - before
                assert (decision.group_size - before) * toward > 0, "only ever towards the target"
        assert (decision.alarm is not None) == (decision.lower > decision.upper)


@given(st.floats(0.001, 0.5), st.floats(1.5, 50.0), st.sampled_from(Objective))
def test_dearer_coordination_makes_longer_groups(cost: float, factor: float, objective: Objective) -> None:
    settings = replace(MODEL, objective=objective)
    cheap, dear = (run(Tuner(settings), c, groups=20)[-1] for c in (cost, cost * factor))
    assert dear.optimum > cheap.optimum
    assert dear.target >= cheap.target


@given(st.floats(0.001, 0.5), st.integers(1, 30), st.sampled_from(Objective))
def test_failures_make_shorter_groups(cost: float, failures: int, objective: Objective) -> None:
    settings = replace(MODEL, objective=objective)
    calm, stormy = Tuner(settings), Tuner(settings)
    for _ in range(failures):
        stormy.failure(0.0)
    assert run(stormy, cost, groups=20)[-1].optimum < run(calm, cost, groups=20)[-1].optimum

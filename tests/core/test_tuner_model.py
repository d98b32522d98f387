"""The model of a group's costs: its minimum is one, found where a search finds it, and moves as it must."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.tuning.model import (
    Costs,
    best_for_latency,
    best_for_utilisation,
    catch_up_by_rollback,
    catch_up_in_parallel,
    checkpoint_interval_s,
    latency_loss,
    pipelining_pays,
    utilisation_loss,
)

HOUR = 3600.0

costs = st.builds(
    Costs,
    coordination_s=st.floats(1e-3, 1.0),
    utilisation=st.floats(0.0, 0.95),
    failures_per_s=st.floats(1e-6, 1e-2),
    failure_s=st.floats(0.1, 30.0),
    catch_up=st.floats(0.01, 10.0),
    rewire_s=st.floats(0.0, 0.1),
    adaptations_per_s=st.floats(0.0, 0.1),
    wait_cost=st.floats(0.0, 1.0),
    cut_s=st.none() | st.floats(0.001, 2.0),
    look_ahead_groups=st.sampled_from([0.0, 1.0]),
)


def searched(loss: Callable[[float], float]) -> float:
    """The least point of a fine logarithmic grid."""
    return min((10 ** (power / 100) for power in range(-600, 900)), key=loss)


@given(costs)
def test_the_formula_finds_the_least_loss_of_capacity(given_costs: Costs) -> None:
    best = best_for_utilisation(given_costs)
    least = utilisation_loss(given_costs, searched(lambda x: utilisation_loss(given_costs, x)))
    assert utilisation_loss(given_costs, best) <= least * (1 + 1e-9)


@given(costs)
def test_bisection_finds_the_least_loss_of_latency(given_costs: Costs) -> None:
    best = best_for_latency(given_costs)
    least = latency_loss(given_costs, searched(lambda x: latency_loss(given_costs, x)))
    assert latency_loss(given_costs, best) <= least * (1 + 1e-9)


@given(costs, st.floats(1.0, 100.0))
def test_more_coordination_asks_for_longer_groups(given_costs: Costs, factor: float) -> None:
    dearer = replace(given_costs, coordination_s=given_costs.coordination_s * factor)
    assert best_for_utilisation(dearer) >= best_for_utilisation(given_costs) * (1 - 1e-9)
    assert best_for_latency(dearer) >= best_for_latency(given_costs) * (1 - 1e-9)


@given(costs, st.floats(1.0, 100.0))
def test_more_failures_ask_for_shorter_groups(given_costs: Costs, factor: float) -> None:
    worse = replace(given_costs, failures_per_s=given_costs.failures_per_s * factor)
    assert best_for_utilisation(worse) <= best_for_utilisation(given_costs) * (1 + 1e-9)
    assert best_for_latency(worse) <= best_for_latency(given_costs) * (1 + 1e-9)


def test_a_factor_of_two_off_costs_a_quarter() -> None:
    plain = Costs(coordination_s=0.25, failures_per_s=1 / HOUR, catch_up=1.0)
    best = best_for_utilisation(plain)
    for factor in (0.5, 2.0):
        worse = utilisation_loss(plain, best * factor) / utilisation_loss(plain, best)
        assert worse == pytest.approx(1.25)


def test_young_daly_is_the_special_case() -> None:
    plain = Costs(coordination_s=0.25, failures_per_s=1 / HOUR, catch_up=1.0)
    assert best_for_utilisation(plain) == pytest.approx(checkpoint_interval_s(0.25, 1 / HOUR, 1.0))
    assert checkpoint_interval_s(0.25, 1 / HOUR, 1.0) == pytest.approx(math.sqrt(2 * 0.25 * HOUR))
    assert checkpoint_interval_s(0.25, 0.0, 1.0) == math.inf


@pytest.mark.parametrize(
    ("rate", "kappa", "latency_s", "utilisation_s"),
    [(1 / (4 * HOUR), 0.019, 135.0, 616.0), (1 / HOUR, 2.3, 3.2, 28.0)],
)
def test_latency_asks_for_much_shorter_groups(
    rate: float, kappa: float, latency_s: float, utilisation_s: float
) -> None:
    """A quarter of a second of coordination at 70 %: parallel recovery, and rollback of everybody."""
    given_costs = Costs(0.25, utilisation=0.7, failures_per_s=rate, failure_s=10.0, catch_up=kappa)
    assert best_for_utilisation(given_costs) == pytest.approx(utilisation_s, rel=0.02)
    shorter = best_for_latency(given_costs)
    assert shorter < utilisation_s / 3
    # The limits in closed form: the fixed cost dominates, or the replay does.
    no_replay = best_for_latency(replace(given_costs, failure_s=1e4))
    assert no_replay == pytest.approx(0.25 / math.sqrt(rate * 1e4 * kappa), rel=0.01)
    no_fixed = best_for_latency(replace(given_costs, failure_s=0.0))
    assert no_fixed == pytest.approx((3 * 0.25**2 / (2 * rate * kappa**2)) ** (1 / 3), rel=1e-6)


def test_group_cut_unties_the_group_from_adaptations() -> None:
    """Figures of the issue's simulation: one adaptation a minute, one failure an hour, A = 250 ms."""
    waiting = Costs(0.25, failures_per_s=1 / HOUR, catch_up=1.0, adaptations_per_s=1 / 60, wait_cost=1.0)
    cutting = replace(waiting, cut_s=0.25 + 0.1)
    assert best_for_utilisation(waiting) < 6.0
    assert best_for_utilisation(cutting) > 35.0
    assert utilisation_loss(waiting, best_for_utilisation(waiting)) > 0.08
    assert utilisation_loss(cutting, best_for_utilisation(cutting)) < 0.02


def test_nothing_to_fear_asks_for_endless_groups_and_free_coordination_for_none() -> None:
    assert best_for_utilisation(Costs(0.25)) == math.inf
    assert best_for_latency(Costs(0.25)) == math.inf
    assert best_for_utilisation(Costs(0.0, failures_per_s=1.0, catch_up=1.0)) == 0.0
    assert best_for_latency(Costs(0.0, failures_per_s=1.0, catch_up=1.0)) == 0.0


def test_catching_up_in_parallel_is_quicker_and_has_its_limit() -> None:
    assert catch_up_by_rollback(0.7) == pytest.approx(0.7 / 0.3)
    assert catch_up_in_parallel(0.7, 128) == pytest.approx(0.7 / 128 / (1 - 0.7 * 128 / 127))
    assert catch_up_in_parallel(0.7, 1) == catch_up_by_rollback(0.7)
    assert catch_up_in_parallel(0.9, 4) == catch_up_by_rollback(0.9), "three survivors cannot carry it"
    assert catch_up_by_rollback(1.0) < 100.0


@given(st.floats(0.0, 1.0), st.integers(1, 500))
def test_catching_up_is_never_slower_in_parallel(utilisation: float, workers: int) -> None:
    assert 0.0 <= catch_up_in_parallel(utilisation, workers) <= catch_up_by_rollback(utilisation) <= 100.0


def test_pipelining_pays_when_most_of_the_work_can_be_done_ahead() -> None:
    assert pipelining_pays(0.01, 0.03, 1.0)
    assert not pipelining_pays(0.02, 0.03, 1.0)
    assert pipelining_pays(0.02, 0.03, 0.0), "ahead by moments, not by groups"

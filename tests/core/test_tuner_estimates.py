"""Estimators: what moves them, what does not, and the two approximations against what they approximate."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.tuning.estimates import (
    ADAPTATION_HALF_LIFE_S,
    FAILURE_HALF_LIFE_S,
    RECENT_SAMPLES_MAX,
    WEEK_S,
    AdaptationRate,
    DecayingCount,
    FailureRate,
    RecentQuantile,
    Smoothed,
    gamma_quantile,
)


def test_spikes_do_not_move_an_average_and_a_step_does() -> None:
    smoothed = Smoothed()
    assert smoothed.value is None
    for measured in [1.0, 1.0, 1.0, 50.0, 1.0, 80.0, 1.0, 1.0, 1.0, 99.0, 1.0]:
        smoothed.observe(measured)
    assert smoothed.value == 1.0
    for _ in range(12):
        smoothed.observe(20.0)
    assert smoothed.value is not None
    assert 1.0 + 0.85 * 19.0 < smoothed.value < 20.0


def test_a_recent_quantile_forgets_what_is_old_but_never_the_newest() -> None:
    recent = RecentQuantile(quantile=0.9, window_s=60.0)
    assert recent.value is None
    for second in range(10):
        recent.observe(float(second), float(second))
    assert recent.value == 8.0, "nearest rank: the ninth of ten"
    recent.observe(1_000.0, 3.0)
    assert recent.value == 3.0


def test_a_recent_quantile_keeps_a_bounded_number() -> None:
    recent = RecentQuantile(quantile=1.0, window_s=1e9)
    recent.observe(0.0, 5.0)
    for second in range(RECENT_SAMPLES_MAX):
        recent.observe(float(second), 1.0)
    assert recent.value == 1.0


def poisson_tail(shape: int, rate: float, x: float) -> float:
    """P(Gamma(shape, rate) > x) for whole shapes: a Poisson process has seen fewer than `shape` by then."""
    mean = rate * x
    return sum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(shape))


def test_the_quantile_for_half_a_failure_is_that_of_a_squared_normal() -> None:
    assert gamma_quantile(0.5, 1.0) == pytest.approx(1.6424 / 2, rel=0.015)


@pytest.mark.parametrize("shape", [1, 2, 3, 5, 10, 40])
def test_the_quantile_of_a_gamma_is_that_of_its_distribution(shape: int) -> None:
    found = gamma_quantile(float(shape), 7.0)
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if poisson_tail(shape, 7.0, middle) > 0.2 else (low, middle)
    assert found == pytest.approx(high, rel=0.007 if shape < 3 else 0.002)


def test_a_decaying_count_of_a_steady_rate_is_that_rate() -> None:
    count = DecayingCount(half_life_s=100.0)
    for second in range(0, 5_000, 10):
        count.pass_to(float(second))
        count.add()
    assert count.count / count.exposure == pytest.approx(0.1, rel=0.05)


def test_time_that_goes_back_changes_nothing() -> None:
    count = DecayingCount(half_life_s=10.0)
    count.pass_to(100.0)
    count.add()
    count.pass_to(50.0)
    count.pass_to(100.0)
    assert (count.count, count.exposure) == (1.0, 0.0)


def test_failures_start_at_one_per_worker_week_rated_pessimistically() -> None:
    assert FailureRate().per_worker_second == pytest.approx(0.8212 / (0.5 * WEEK_S), rel=0.02)


def test_failures_raise_the_rate_at_once_and_quiet_days_lower_it() -> None:
    rate = FailureRate()
    rate.pass_to(0.0, 10)
    before = rate.per_worker_second
    for _ in range(3):
        rate.failed()
    stormy = rate.per_worker_second
    assert stormy > 3 * before
    for hour in range(1, 24 * 14):
        rate.pass_to(hour * 3600.0, 10)
    assert rate.per_worker_second < before, "ten workers lived on for weeks"


def test_a_known_rate_of_failures_is_found_within_what_chance_allows() -> None:
    """Ten workers, one of which fails each hour: 1/36,000 per worker-second, seen for two days."""
    rate = FailureRate()
    for hour in range(int(2 * FAILURE_HALF_LIFE_S / 3600.0)):
        rate.pass_to(hour * 3600.0, 10)
        rate.failed()
    known = rate.per_worker_second * 36_000.0
    assert 0.85 <= known <= 1.3, "the prior still pulls it down, the quantile up"


def test_adaptations_are_forgotten_within_hours() -> None:
    rate = AdaptationRate()
    rate.pass_to(0.0)
    assert rate.per_second == 0.0
    rate.adapted()
    assert rate.per_second == pytest.approx(1.0 / ADAPTATION_HALF_LIFE_S)
    rate.pass_to(10 * ADAPTATION_HALF_LIFE_S)
    assert rate.per_second < 1e-3 / ADAPTATION_HALF_LIFE_S * 2


@given(st.lists(st.tuples(st.floats(0.0, 1e5), st.booleans()), max_size=40), st.integers(0, 100))
def test_rates_are_finite_and_never_negative(steps: list[tuple[float, bool]], workers: int) -> None:
    failures, adaptations, now = FailureRate(), AdaptationRate(), 0.0
    for passed, happened in steps:
        now += passed
        failures.pass_to(now, workers)
        adaptations.pass_to(now)
        if happened:
            failures.failed()
            adaptations.adapted()
        assert 0.0 < failures.per_worker_second < math.inf
        assert 0.0 <= adaptations.per_second < math.inf

"""The feasible band: each bound by its formula, and what is kept when promises contradict each other."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.tuning.band import Alarm, Constraint, Promises, band_of

EASY = Promises(
    interval_s=0.1,
    critical_s=0.0,
    background_s=0.0,
    utilisation=0.7,
    overhead_max=0.1,
    tail_quantile=0.0,
    failure_s=2.0,
    catch_up=0.0,
    rewire_s=0.0,
    recovery_s=math.inf,
    adaptation_s=math.inf,
    ahead_s=0.0,
    ahead_groups=0.0,
    cuts=False,
    batch_bytes=0.0,
    memory_bytes=math.inf,
    retention_s=math.inf,
    minimum=1,
    maximum=10_000,
)

promises = st.builds(
    Promises,
    interval_s=st.floats(0.001, 60.0),
    critical_s=st.floats(0.0, 2.0),
    background_s=st.floats(0.0, 2.0),
    utilisation=st.floats(0.0, 1.0),
    overhead_max=st.floats(0.01, 0.9),
    tail_quantile=st.sampled_from([0.0, 0.5, 0.99, 0.999]),
    failure_s=st.floats(0.0, 30.0),
    catch_up=st.floats(0.0, 100.0),
    rewire_s=st.floats(0.0, 1.0),
    recovery_s=st.floats(0.0, 100.0),
    adaptation_s=st.floats(0.0, 100.0),
    ahead_s=st.floats(0.0, 1.0),
    ahead_groups=st.sampled_from([0.0, 1.0]),
    cuts=st.booleans(),
    batch_bytes=st.floats(0.0, 1e9),
    memory_bytes=st.floats(1.0, 1e12),
    retention_s=st.floats(0.0, 1e6),
    minimum=st.integers(1, 50),
    maximum=st.integers(1, 10_000),
)


@pytest.mark.parametrize(
    ("change", "lower", "binds"),
    [
        ({"critical_s": 0.25, "overhead_max": 0.9}, 9, Constraint.STABILITY),  # 0.25 / 0.03 = 8.3
        ({"critical_s": 0.245}, 23, Constraint.OVERHEAD),  # the paper's two stages: 22.05
        ({"critical_s": 0.25, "tail_quantile": 0.99}, 834, Constraint.TAIL),
        ({"critical_s": 0.003, "utilisation": 0.6, "tail_quantile": 0.99}, 8, Constraint.TAIL),
        ({"background_s": 0.4, "overhead_max": 0.9}, 8, Constraint.COORDINATOR),
        ({"minimum": 7}, 7, Constraint.MINIMUM),
    ],
)
def test_bounds_from_below(change: dict[str, float], lower: int, binds: Constraint) -> None:
    band = band_of(replace(EASY, **change))
    assert (band.lower, band.binds_lower, band.least, band.alarm) == (lower, binds, lower, None)
    assert band.binds(0.0) is binds


@pytest.mark.parametrize(
    ("change", "upper", "binds"),
    [
        ({"recovery_s": 10.0, "catch_up": 2.0}, 40, Constraint.RECOVERY),
        ({"recovery_s": 10.0, "catch_up": 1.5, "rewire_s": 0.5}, 40, Constraint.RECOVERY),
        ({"adaptation_s": 5.0}, 50, Constraint.ADAPTATION),
        ({"adaptation_s": 5.0, "ahead_s": 0.3}, 47, Constraint.ADAPTATION),
        ({"adaptation_s": 5.0, "ahead_groups": 1.0}, 25, Constraint.ADAPTATION),
        ({"adaptation_s": 5.0, "cuts": True}, 10_000, Constraint.MAXIMUM),
        ({"batch_bytes": 1e6, "memory_bytes": 33.3e6}, 33, Constraint.MEMORY),
        ({"retention_s": 60.0}, 600, Constraint.RETENTION),
    ],
)
def test_bounds_from_above(change: dict[str, float], upper: int, binds: Constraint) -> None:
    band = band_of(replace(EASY, **change))
    assert (band.upper, band.binds_upper, band.most, band.alarm) == (upper, binds, upper, None)
    assert band.binds(1e9) is binds
    assert band.binds(1.0) is Constraint.OPTIMUM


def test_an_empty_band_names_the_pair_and_keeps_what_weighs_more() -> None:
    """A clean p99 asks 834 batches, adapting within 5 s allows 50: users wait for the latter."""
    band = band_of(replace(EASY, critical_s=0.25, tail_quantile=0.99, adaptation_s=5.0))
    assert band.alarm == Alarm(Constraint.TAIL, Constraint.ADAPTATION)
    assert str(band.alarm) == "tail asks for more batches than adaptation allows"
    assert (band.lower, band.upper) == (834, 50)
    assert (band.least, band.most) == (50, 50)


def test_what_would_never_catch_up_weighs_more_than_what_is_waited_for() -> None:
    band = band_of(replace(EASY, critical_s=0.25, adaptation_s=0.5))
    assert band.alarm == Alarm(Constraint.OVERHEAD, Constraint.ADAPTATION)
    assert (band.least, band.most) == (9, 9), "stability asks 9, adaptation allows 5, overhead asks 23"


def test_memory_weighs_more_than_stability() -> None:
    band = band_of(replace(EASY, critical_s=0.25, batch_bytes=1.0, memory_bytes=4.0))
    assert (band.least, band.most) == (4, 4)


def test_overload_is_told_but_does_not_make_groups_endless() -> None:
    band = band_of(replace(EASY, critical_s=0.25, utilisation=1.0, adaptation_s=5.0))
    assert band.alarm == Alarm(Constraint.STABILITY, Constraint.ADAPTATION)
    assert band.lower == math.inf
    assert (band.least, band.most) == (23, 50)


@given(promises, st.floats(0.0, 1e6) | st.just(math.inf))
def test_what_is_left_to_choose_from_is_never_empty_nor_out_of_bounds(of: Promises, wanted: float) -> None:
    band = band_of(of)
    assert 1 <= band.least <= band.most <= of.maximum
    assert band.least <= band.clamp(wanted) <= band.most
    assert (band.alarm is not None) == (band.lower > band.upper)
    if band.alarm is None and math.isfinite(band.lower):
        assert (band.least, band.most) == (band.lower, band.upper)


@given(promises, st.floats(1.0, 100.0))
def test_dearer_coordination_never_lowers_the_lower_bound(of: Promises, factor: float) -> None:
    dearer = replace(of, critical_s=of.critical_s * factor, background_s=of.background_s * factor)
    assert band_of(dearer).lower >= band_of(of).lower


@given(promises, st.floats(1.0, 100.0))
def test_slower_recovery_never_raises_the_upper_bound(of: Promises, factor: float) -> None:
    assert band_of(replace(of, catch_up=of.catch_up * factor)).upper <= band_of(of).upper

"""Reading an outage off the windows of a run."""

from __future__ import annotations

import pytest

from drizzle_benchmarks.outages import Window, outage


def windows(latencies: list[float], first_end: float = 0.0) -> list[Window]:
    return [(first_end + 200.0 * number, late, late / 2) for number, late in enumerate(latencies)]


def test_nothing_happened() -> None:
    found = outage(windows([30.0] * 60), 6_000.0)
    assert found.normal_ms == 30.0
    assert found.seconds_to_normal == 0.0
    assert found.peak_ms == 30.0


def test_late_windows_after_the_fault() -> None:
    # Fault at 6.0 s; the windows that end at 6.0, 6.2 and 6.4 become visible at 6.9, 6.95 and 6.97.
    late = windows([30.0] * 30 + [900.0, 750.0, 570.0] + [30.0] * 30)
    found = outage(late, 6_000.0)
    assert found.seconds_to_normal == 0.97
    assert found.peak_ms == 900.0
    assert found.normal_max_ms == 45.0
    assert found.first_rows_max_gap_ms == pytest.approx(6_000 + 450 - (5_800 + 15))


def test_a_spike_within_the_steady_time_counts() -> None:
    found = outage(windows([30.0] * 30 + [500.0] + [30.0] * 5 + [200.0] + [30.0] * 30), 6_000.0)
    assert found.seconds_to_normal == pytest.approx((7_200 + 200 - 6_000) / 1000)


def test_a_spike_long_after_is_another_matter() -> None:
    found = outage(windows([30.0] * 30 + [500.0] + [30.0] * 20 + [200.0] + [30.0] * 30), 6_000.0)
    assert found.seconds_to_normal == 0.5


def test_never_normal_again() -> None:
    assert outage(windows([30.0] * 30 + [500.0] * 30), 6_000.0).seconds_to_normal is None


def test_start_up_is_not_what_is_normal() -> None:
    found = outage(windows([2_000.0] * 5 + [30.0] * 55), 6_000.0)
    assert found.normal_max_ms == 45.0


def test_a_fault_before_anything_is_known() -> None:
    with pytest.raises(ValueError, match="run for longer"):
        outage(windows([30.0] * 60), 500.0)

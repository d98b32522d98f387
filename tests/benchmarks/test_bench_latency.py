"""The benchmark of live latency: which rates it tries, what it claims of the rows, and its picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from drizzle_benchmarks.latency import Search, claims
from drizzle_benchmarks.latency_plots import plot_latency
from drizzle_benchmarks.live import Live
from drizzle_benchmarks.numbers import numbers, percentiles


def tried(limit: int, rates: tuple[int, ...], halvings: int) -> list[int]:
    """The rates that are tried on a machine that keeps up with `limit`."""
    search, found = Search(rates, halvings), list[int]()
    while (rate := search.next()) is not None:
        found.append(rate)
        search.found(kept_up=rate <= limit)
    return found


@pytest.mark.parametrize(
    ("limit", "halvings", "rates"),
    [
        (500_000, 3, [20_000, 100_000, 200_000]),
        (130_000, 0, [20_000, 100_000, 200_000]),
        (130_000, 2, [20_000, 100_000, 200_000, 150_000, 125_000]),
        (1_000, 1, [20_000, 10_000]),
        (1_000, 9, [20_000, 10_000, 5_000]),
    ],
)
def test_rates_go_up_to_the_first_that_is_too_high(limit: int, halvings: int, rates: list[int]) -> None:
    assert tried(limit, (200_000, 20_000, 100_000), halvings) == rates


def row(rate: int, p99: float, interval_ms: int = 10, **changed: Any) -> dict[str, Any]:
    late = {"p50": p99 / 2, "p95": p99, "p99": p99, "max": p99}
    values = {"rate": rate, "batch_interval_ms": interval_ms, "window_latency_ms": late}
    return {**values, "exact": True, "sustained": True} | changed


def test_claims_take_the_batch_interval_that_serves_best() -> None:
    found = {
        c.name: c
        for c in claims([row(20_000, 19.0), row(20_000, 18.0, 20), row(20_000, 9.0, 5, exact=False)])
    }
    assert found["20000 events/s, 20 ms batches: p99 window latency"].measured == 18.0
    assert found["20000 events/s, 20 ms batches: p50 window latency"].holds
    assert found["100000 events/s: p99 window latency"].measured is None


def test_the_highest_rate_is_exact_and_kept_up() -> None:
    rows = [
        row(100_000, 90.0),
        row(200_000, 240.0),
        row(300_000, 99.0, sustained=False),
        row(400_000, 50.0, exact=False),
    ]
    found = [c.measured for c in claims(rows) if c.name.startswith("highest")]
    assert found == [100_000, 200_000, 200_000]


def live(latencies: list[float], **load: object) -> Live:
    windows = [[1_000.0 * number, late, late] for number, late in enumerate(latencies)]
    said = {"throttled": 0, "refused": 0, "overloads": 0, "stopped": None} | load
    return Live({"exact": True, "latency_ms_by_window": windows}, said, [], {}, {}, 0.0)


@pytest.mark.parametrize(
    ("run", "sustained"),
    [
        (live([20.0] * 9), True),
        (live([20.0] * 6 + [240.0] * 3), True),
        (live([100.0 * n for n in range(12)]), False),
        (live([20.0] * 9, throttled=1), False),
        (live([20.0] * 9, stopped="by a signal"), False),
        (live([]), False),
    ],
)
def test_who_keeps_up_does_not_become_later_and_later(run: Live, sustained: bool) -> None:
    assert run.sustained is sustained


def test_numbers_and_percentiles() -> None:
    assert numbers("4,8") == (4, 8)
    for text in ("", "4,", "0", "a"):
        with pytest.raises(argparse.ArgumentTypeError):
            numbers(text)
    assert percentiles([]) is None
    assert percentiles([3.0, 1.0, 2.0]) == {"p50": 2.0, "p95": 3.0, "p99": 3.0, "max": 3.0, "count": 3}


def test_latencies_are_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "latency.png"
    plot_latency(
        [row(20_000, 10.0), row(100_000, 90.0, sustained=False), row(1, 1.0, window_latency_ms=None)], picture
    )
    assert picture.read_bytes().startswith(b"\x89PNG")

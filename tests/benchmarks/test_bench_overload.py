"""The benchmark of overload: which rate it takes three times, and what it claims of a run. No cluster."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from drizzle_benchmarks import overload
from drizzle_benchmarks.live import LiveSettings
from drizzle_benchmarks.runs import Loaded
from drizzle_streams.errors import DrizzleError

WORKED_OFF_S = 8.0 + 10.0 + 22.0
"""Calm, overload, and what it takes to work it off at 2.2 s a second."""


def found(watch: overload.Watch, limit: int) -> Loaded:
    """Windows as they come: late from the overload on, the later the more, until the backlog is gone."""
    watch.began_at_ms, watch.backlog_max, watch.backlog_end = 0.0, 9.0 * limit, 100.0
    watch.resident_mib = {"worker": 300.0, "source": 100.0, "coordinator": 200.0}
    ends = [at * 0.2 for at in range(int(watch.seconds / 0.2))]
    late = [max(0.0, min(at - 8.0, WORKED_OFF_S - at)) * 1000.0 + 40.0 for at in ends]
    windows = [(at * 1000.0, ms, ms / 2) for at, ms in zip(ends, late, strict=True)]
    report = {"exact": True, "sent": 5, "replayed_batches": 0, "throttled": 7}
    return Loaded(report, windows)


@pytest.mark.parametrize("limit", [60_000, 1_000])
async def test_three_times_what_is_kept_up_with_is_sent(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    async def measured(settings: LiveSettings) -> dict[str, bool]:
        return {"sustained": settings.rate <= limit, "exact": True}

    async def under_load(rate: int, seconds: float, **more: Any) -> Loaded:
        asked.append({"rate": rate, "seconds": seconds, **more})
        return found(more["disturb"], limit)

    monkeypatch.setattr(overload, "measured", measured)
    monkeypatch.setattr(overload, "under_load", under_load)
    arguments = argparse.Namespace(rates=(40_000, 80_000), halvings=1, overload_seconds=10.0)
    if limit < 10_000:
        with pytest.raises(DrizzleError, match="none of 40000,80000"):
            await overload.run(arguments)
        return
    report = await overload.run(arguments)

    (asked_for,) = asked
    assert (asked_for["rate"], asked_for["surge"]) == (6_000, "8:10:180000")
    (row,) = report.rows
    assert row["sustainable_rate"] == 60_000
    assert row["peak_window_latency_ms"] > 15_000
    assert 21.0 < row["seconds_to_normal"] < 23.0
    holds = {claim.name: claim.holds for claim in report.claims}
    assert holds.pop("memory of a coordinator") is False
    assert all(holds.values()), holds

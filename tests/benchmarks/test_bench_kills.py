"""The benchmarks of kills: whom they kill, and what they make of a run's windows. No cluster."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from drizzle_benchmarks import failover, recovery
from drizzle_benchmarks.runs import Loaded

KILLED_AT_MS = 6_000.0
LATE_MS = 900.0


@pytest.mark.parametrize(
    ("module", "asked"),
    [(recovery, {"kill": "worker"}), (failover, {"kill": "coordinator", "standby": True})],
)
async def test_the_right_one_is_killed_and_the_late_windows_are_told(
    module: Any, asked: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, object]] = []

    async def under_load(rate: int, seconds: float, **more: object) -> Loaded:
        seen.append({"rate": rate, "seconds": seconds, **more})
        report = {"exact": True, "killed_at_ms": KILLED_AT_MS, "replayed_batches": 3, "recovery_seconds": 0.5}
        late = [LATE_MS if at == 30 else 30.0 for at in range(60)]
        return Loaded(report, [(200.0 * at, ms, ms / 2) for at, ms in enumerate(late)])

    monkeypatch.setattr(module, "under_load", under_load)
    report = await module.run(argparse.Namespace(rate=500, seconds=12.0, runs=2))
    assert seen == [{"rate": 500, "seconds": 12.0, **asked}] * 2
    for row in report.rows:
        assert (row["peak_window_latency_ms"], row["seconds_to_normal"]) == (LATE_MS, 0.9)
        assert (row["replayed_batches"], row["exact"]) == (3, True)
    assert {claim.name: claim.holds for claim in report.claims}["runs with exact counts"]
    assert len(report.series) == 2

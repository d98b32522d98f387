"""The fixed point alone: from what batches cost to how often they come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from drizzle_streams.core.interval import RHO, Because, Interval
from drizzle_streams.model.ids import BatchId, WorkerId
from drizzle_streams.model.tuning import INTERVAL_AUTO_MS_MAX, INTERVAL_AUTO_MS_MIN

GROUP_S, HEARTBEAT_S = 0.5, 0.2
WORKER = WorkerId("w")


@dataclass
class Plant:
    """One worker whose batches of x ms cost `costs(x)` ms: what a coordinator would hear of it."""

    costs: Callable[[float], float]
    interval: Interval = field(default_factory=lambda: Interval(auto=True, ms=50.0))
    now: float = 0.0
    batches: float = 0.0

    def run(self, seconds: float) -> float:
        """Let groups pass; the interval then."""
        end = self.now + seconds
        while self.now < end:
            period_ms = max(self.interval.ms, self.costs(self.interval.ms))
            for _ in range(round(GROUP_S / HEARTBEAT_S)):
                self.now += HEARTBEAT_S
                self.batches += HEARTBEAT_S * 1000.0 / period_ms
                self.interval.heard(WORKER, min(1.0, self.costs(self.interval.ms) / period_ms), self.now)
            frontier = BatchId(int(self.batches))
            self.interval.decide(self.now, frontier, BatchId(frontier + 1))
        return self.interval.ms


def smallest(fixed_ms: float, share: float) -> float:
    """Where RHO of the interval is what a batch costs: a + b·x = RHO·x."""
    return fixed_ms / (RHO - share)


@pytest.mark.parametrize(("fixed_ms", "share"), [(6.0, 0.2), (20.0, 0.3), (40.0, 0.5), (100.0, 0.2)])
def test_a_constant_load_comes_near_the_smallest_interval_that_is_stable(fixed_ms: float, share: float):
    plant = Plant(lambda x: fixed_ms + share * x)
    found, wanted = plant.run(60.0), smallest(fixed_ms, share)
    assert wanted / 1.2 < found < wanted * 1.2
    changes = plant.interval.changes
    assert plant.run(60.0) == found, "and stays there"
    assert plant.interval.changes == changes


def test_a_step_of_the_load_leads_to_another_interval_and_back() -> None:
    plant = Plant(lambda x: 12.0 + 0.2 * x)
    low = plant.run(40.0)
    plant.costs = lambda x: 30.0 + 0.5 * x
    high = plant.run(60.0)
    assert smallest(30.0, 0.5) / 1.2 < high < smallest(30.0, 0.5) * 1.2
    plant.costs = lambda x: 12.0 + 0.2 * x
    assert plant.run(60.0) == pytest.approx(low, rel=0.2)


def test_too_much_ends_at_the_upper_bound_and_next_to_nothing_at_the_lower_one() -> None:
    plant = Plant(lambda x: 1.2 * x)
    assert plant.run(60.0) == INTERVAL_AUTO_MS_MAX
    assert plant.interval.because is Because.MAXIMUM
    plant.costs = lambda x: 0.5
    assert plant.run(120.0) == INTERVAL_AUTO_MS_MIN
    assert plant.interval.because is Because.MINIMUM


def test_an_interval_doubles_at_most_at_once() -> None:
    plant = Plant(lambda x: 400.0)
    before = plant.interval.ms
    while plant.now < 60.0:
        after = plant.run(GROUP_S)
        assert after <= 2.0 * before
        before = after
    assert before > 400.0


def test_batches_that_come_late_though_slots_are_free_need_a_longer_interval() -> None:
    interval = Interval(auto=True, ms=50.0)
    seen: list[tuple[float, Because]] = []
    for step in range(60):
        now = step * 0.2
        interval.heard(WORKER, 0.3, now)
        interval.decide(now, BatchId(step * 2), BatchId(step * 2 + 1))  # 100 ms each
        seen.append((interval.ms, interval.because))
    first = next(at for at, (ms, _) in enumerate(seen) if ms != 50.0)
    assert seen[first] == (100.0, Because.BEHIND)
    later = [ms for ms, _ in seen[first:]]
    assert min(later) >= 50.0, "shorter ones are tried little by little"
    assert min(later) < 95.0, "but they are tried"


def test_what_a_recovery_costs_is_not_the_loads() -> None:
    interval = Interval(auto=True, ms=50.0)
    for step in range(50):
        now = step * 0.2
        interval.heard(WORKER, 1.0, now)
        if step % 5 == 0:
            interval.begin()
        assert interval.decide(now, BatchId(step), BatchId(step + 1)) == 50.0


def test_a_stated_interval_stays() -> None:
    interval = Interval(auto=False, ms=50.0)
    for step in range(30):
        interval.heard(WORKER, 1.0, step * 0.2)
        assert interval.decide(step * 0.2, BatchId(step), BatchId(step + 1)) == 50.0
    assert interval.because is Because.STATED

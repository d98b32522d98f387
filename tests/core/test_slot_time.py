"""How busy a worker says it is: the time its slots spend in tasks."""

from __future__ import annotations

import pytest

from drizzle_streams.core.worker import Worker
from drizzle_streams.core.worker_slots import WorkerSettings
from drizzle_streams.model.ids import WorkerId


def test_two_tasks_at_once_take_twice_the_slot_time() -> None:
    role = Worker(WorkerSettings(WorkerId("w1"), "", slots=2))
    changes = [(10.0, 1), (11.0, 1), (13.0, -1), (14.0, -1)]
    for now, by in changes:
        role._slots_change(now, by=by)
    assert role.slot_seconds(20.0) == pytest.approx(1 + 2 * 2 + 1)


def test_a_task_that_runs_still_counts() -> None:
    role = Worker(WorkerSettings(WorkerId("w1"), "", slots=2))
    role._slots_change(10.0, by=1)
    assert role.slot_seconds(10.5) == pytest.approx(0.5)


def test_a_heartbeat_tells_the_share_of_all_slots_since_the_last_one() -> None:
    role = Worker(WorkerSettings(WorkerId("w1"), "", slots=2))
    role._busy(100.0)
    role._slots_change(101.0, by=1)
    assert role._busy(104.0) == pytest.approx(3 / (4 * 2))
    assert role._busy(105.0) == pytest.approx(1 / 2)
    role._slots_change(105.0, by=-1)
    assert role._busy(106.0) == 0.0

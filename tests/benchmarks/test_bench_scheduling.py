"""The benchmark of scheduling: it measures a small cluster for real, and says what it claims."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from drizzle_benchmarks import scheduling
from drizzle_benchmarks.idle import Hosted, IdleWork
from drizzle_benchmarks.scheduling import Mode, _claims, _shares
from drizzle_streams.coordinator.admission import check_job
from drizzle_streams.core import actions as act
from drizzle_streams.model.ids import BatchId, CohortId, JobId, StageId
from drizzle_streams.model.job import Scheduling


def row(mode: str, size: int, **changed: Any) -> dict[str, Any]:
    values = {
        "workers": 128,
        "stages": 1,
        "mode": mode,
        "group_size": size,
        "ms_per_batch": 10.0,
        "coordinator_cpu_ms_per_batch": 1.0,
        "launch_ms_per_group": 8.0,
        "launch_bytes_per_group": 700.0,
    }
    return values | changed


def test_workers_are_spread_evenly() -> None:
    assert _shares(5, 2) == [Hosted(0, 2, 2), Hosted(1, 3, 3)]


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("scheduling_mode", list(Scheduling))
def test_the_coordinator_takes_its_jobs(stages: int, scheduling_mode: Scheduling) -> None:
    check_job(scheduling.job_spec("a-job", stages, Mode(scheduling_mode, 10)))


def test_claims_are_of_the_largest_cluster_and_groups() -> None:
    rows = [
        row("barrier", 1, ms_per_batch=50.0, coordinator_cpu_ms_per_batch=40.0),
        row("group", 10, launch_ms_per_group=4.0),
        row("group", 100),
        row("barrier", 1, workers=4, ms_per_batch=1.0),
    ]
    found = {claim.name.rpartition(": ")[2]: claim for claim in _claims(rows)}
    assert found["time in barrier mode over it"].measured == 5.0
    assert found["coordinator's CPU in barrier mode over it"].measured == 40.0
    assert found["coordinator's CPU"].holds
    late = found["launching a group, over one of 10, time"]
    assert (late.measured, late.holds) == (2.0, False)
    assert found["launching a group, over one of 10, bytes"].holds


def test_without_barrier_mode_nothing_is_claimed() -> None:
    assert _claims([row("group", 100)]) == []


def test_idle_work_refuses_what_it_could_not_do() -> None:
    snapshot = act.TakeSnapshot(JobId("a"), StageId(0), CohortId(1), BatchId(3))
    with pytest.raises(TypeError, match="without state"):
        IdleWork().perform(snapshot)


def test_modes_are_drawn(tmp_path) -> None:
    rows = [row("barrier", 1), row("group", 10), row("group", 10, workers=4)]
    picture = tmp_path / "scheduling.png"
    scheduling.plot(scheduling.Report("scheduling", {}, rows, []), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.cluster
@pytest.mark.timeout(180)
async def test_a_small_cluster_is_measured() -> None:
    parser = argparse.ArgumentParser()
    scheduling.add_arguments(parser)
    sizes = ["--workers", "3", "--group-sizes", "5", "--stages", "2", "--seconds", "0.3"]
    report = await scheduling.run(parser.parse_args(sizes))

    assert [(row["mode"], row["group_size"]) for row in report.rows] == [
        ("barrier", 1),
        ("prescheduled", 1),
        ("group", 5),
    ]
    for row in report.rows:
        assert row["batches"] > 0
        assert row["ms_per_batch"] > 0
        # At least an offer to each of three workers, and word of each that it was taken.
        assert row["messages_per_batch"] >= 6
    assert len(report.claims) == 4

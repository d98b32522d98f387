"""The benchmark of scheduling: it measures a small cluster for real, and says what it claims."""

from __future__ import annotations

import argparse
import time
from typing import Any

import pytest

from drizzle_benchmarks import scheduling
from drizzle_benchmarks.idle import Hosted, IdleWork
from drizzle_benchmarks.scheduling import (
    Clusters,
    Mode,
    Sample,
    TooSlowError,
    Wanted,
    _News,
    _row,
    _shares,
    in_order,
)
from drizzle_benchmarks.scheduling_claims import claims
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
        "launch_cpu_ms_per_turn": 8.0,
        "launch_bytes_per_group": 700.0,
    }
    return values | changed


def test_workers_are_spread_evenly() -> None:
    assert _shares(5, 2) == [Hosted(0, 2, 2), Hosted(1, 3, 3)]


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("scheduling_mode", list(Scheduling))
def test_the_coordinator_takes_its_jobs(stages: int, scheduling_mode: Scheduling) -> None:
    check_job(scheduling.job_spec("a-job", stages, Mode(scheduling_mode, 10), 128))


def test_claims_are_of_the_largest_cluster_and_groups() -> None:
    rows = [
        row("barrier", 1, ms_per_batch=50.0, coordinator_cpu_ms_per_batch=40.0),
        row("group", 10, launch_cpu_ms_per_turn=4.0),
        row("group", 100),
        row("barrier", 1, workers=4, ms_per_batch=1.0),
    ]
    found = {claim.name.rpartition(": ")[2]: claim for claim in claims(rows, 128, [1], [1, 10, 100])}
    assert found["time in barrier mode over it"].measured == 5.0
    assert found["coordinator's CPU in barrier mode over it"].measured == 40.0
    assert found["coordinator's CPU"].holds
    late = found["launching a group, over one of 10, CPU"]
    assert (late.measured, late.holds) == (2.0, False)
    assert found["launching a group, over one of 10, bytes"].holds


def test_every_claim_of_the_issue_is_made_and_what_was_not_measured_does_not_hold() -> None:
    made = claims([row("group", 100)], 128, [1, 2], [1, 10, 100])
    assert len(made) == 12
    assert [claim.name for claim in made if claim.holds] == [
        "128 workers, 1 stage, groups of 100: time",
        "128 workers, 1 stage, groups of 100: coordinator's CPU",
    ]
    assert {claim.bound for claim in made if claim.name.endswith("groups of 100: time")} == {12.0, 30.0}


def test_what_is_claimed_is_measured_first_and_everything_once() -> None:
    found = in_order([1, 2], [1, 10, 25, 100])
    names = [(one.stages, one.mode.scheduling.value, one.mode.group_size) for one in found]
    first = [("barrier", 1), ("group", 100), ("group", 10)]
    assert names[:6] == [(stages, *mode) for stages in (1, 2) for mode in first]
    assert len(set(names)) == len(names) == 12


def test_a_mode_in_which_few_groups_were_launched_has_a_row_without_their_cost() -> None:
    wanted = Wanted(2, Mode(Scheduling.GROUP, 100))
    before = Sample(0.0, 30, 4, 1_000, 0.5, 0.2, 3, 1.0, 10.0, 5_000)
    slow = _row(128, wanted, before, Sample(24.0, 150, 5, 1_700, 0.6, 0.26, 4, 1.6, 58.0, 365_000))
    assert (slow["batches"], slow["ms_per_batch"], slow["messages_per_batch"]) == (120, 200.0, 3_000.0)
    assert (slow["launch_ms_per_group"], slow["launch_bytes_per_group"]) == (None, None)
    known = _row(128, wanted, before, Sample(24.0, 330, 6, 2_400, 0.6, 0.26, 6, 1.6, 58.0, 365_000))
    assert (known["launch_ms_per_group"], known["launch_bytes_per_group"]) == (50.0, 700.0)
    assert (slow["launch_cpu_ms_per_turn"], known["launch_cpu_ms_per_turn"]) == (None, 20.0)
    ratios = list(claims([slow, {**known, "group_size": 10}], 128, [2], [10, 100]))[-2:]
    assert [(one.measured, one.holds) for one in ratios] == [(None, False), (None, False)]


def test_a_span_begins_where_more_is_known_to_be_done() -> None:
    """Not with the first look, before which a hundred batches may have been done and not reported."""
    news = _News()
    looks = [
        Sample(at, done, 0, 0, 0.0, 0.0, 0, 0.0, 0.0, 0) for at, done in enumerate((30, 30, 130, 130, 131))
    ]
    assert [news.of(look) for look in looks] == [False, False, True, False, True]


async def test_what_does_not_get_there_is_left_out_and_the_rest_has_a_new_cluster(monkeypatch) -> None:
    clusters = Clusters(4, 1.0, 2, time.monotonic() + 60.0)
    begun: list[int] = []

    async def on_one(waiting: list[Wanted], rows: list[dict[str, Any]]) -> None:
        begun.append(len(waiting))
        while waiting:
            if waiting[0].mode.group_size == 10:
                raise TooSlowError("it hangs")
            rows.append({"group_size": waiting.pop(0).mode.group_size})

    monkeypatch.setattr(clusters, "_on_one", on_one)
    rows = await clusters.measure(in_order([1], [1, 10, 100]))
    assert [row["group_size"] for row in rows] == [1, 100, 1, 1]
    assert begun == [5, 2]
    assert [(one["group_size"], one["why"]) for one in clusters.left_out] == [(10, "it hangs")]


async def test_what_there_is_no_time_for_is_named() -> None:
    clusters = Clusters(4, 1.0, 2, time.monotonic() - 1.0)
    assert await clusters.measure(in_order([1], [100])) == []
    assert [one["mode"] for one in clusters.left_out] == ["barrier", "group", "prescheduled"]


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
        # At least an offer to each of three workers; that batches were taken is said of several at once.
        assert row["messages_per_batch"] >= 3
    assert len(report.claims) == 4
    assert report.settings["left_out"] == []

"""`GET /jobs/{job}/plan` and `drizzle explain`: what stands behind the plan of a job."""

from __future__ import annotations

from drizzle_streams.cli.explain import rows, title
from drizzle_streams.cli.status import lines
from drizzle_streams.coordinator.explaining import explained
from drizzle_streams.core.coordinator_job import CoordinatorJob
from drizzle_streams.core.story import Story
from drizzle_streams.model.ids import BatchId, GroupId, StageId
from drizzle_streams.model.replanning import FilterSeen, StageSeen
from drizzle_streams.protocol.records import GroupRecord
from tests.services.service_worlds import ask, job_file, submit, two_stages


async def test_a_job_that_has_just_come_is_explained_without_figures(coordinator):
    await submit(coordinator.address, job_file(two_stages("words")))
    answer = await ask("GET", f"{coordinator.address}/jobs/words/plan")
    assert answer.status == 200
    assert (answer.json["replanning"], answer.json["replans"]) == (True, 0)
    assert [stage["seen"] for stage in answer.json["stages"]] == [None, None]
    missing = await ask("GET", f"{coordinator.address}/jobs/others/plan")
    assert (missing.status, "others" in missing.error) == (404, True)


def test_a_changed_plan_says_what_and_why() -> None:
    job = CoordinatorJob(two_stages("words"), Story())
    seen = StageSeen(
        StageId(0), 400, True, 50_000, 49_000, filters=(FilterSeen(1, 1, 50_000, 40_000),), side_rows=9
    )
    job.replanning.heard((seen,))
    due = GroupRecord(GroupId(3), BatchId(15), BatchId(19), 0.0)
    job.replanning.planned(due, BatchId(10), 1.0, 2)
    job.replanning.heard((seen,))
    plan = explained(job)
    assert (plan["replans"], plan["since_batch"]) == (1, 15)
    assert title(plan) == "words: 1 change, the plan of batch 15 on"
    assert plan["stages"][0]["choice"]["partial"] is False
    first, *others = rows(plan["stages"][0])
    assert first[1:] == ("reads ad-events", "0 partitions", "400 tasks seen, 50,000 rows")
    assert [(what, how) for _, what, how, _ in others] == [
        ("aggregates", "only after the shuffle"),
        ("filters", "in the order [1]"),
        ("join", "broadcast"),
    ]
    assert rows(plan["stages"][1])[0][1] == "merges what stage 0 gives"


def test_a_job_that_is_not_replanned_says_so() -> None:
    job = CoordinatorJob(two_stages("words", replanning=False), Story())
    assert title(explained(job)) == "words: as compiled, re-planning is switched off"


async def test_partitions_that_were_split_or_merged_are_told(coordinator):
    at = coordinator.address
    await submit(at, job_file(two_stages("words")))
    values = (await ask("GET", f"{at}/jobs/words")).json
    plan = (await ask("GET", f"{at}/jobs/words/plan")).json
    assert "partitions" not in "".join(lines(values)), "nothing has happened to them"
    assert title(plan) == "words: 0 changes, the plan of batch 0 on"
    told = "\n".join(lines(values | {"resized": 1}))
    counts = [f"stage {stage['stage']}: {stage['partitions']}" for stage in values["stages"]]
    assert f"partitions  {', '.join(counts)}; split or merged 1 time" in told
    assert title(plan | {"resized": 2}) == (
        "words: 0 changes, partitions split or merged 2 times, the plan of batch 0 on"
    )

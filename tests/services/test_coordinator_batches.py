"""`GET /jobs/{job}/batches`: batches one by one, for whoever looks at single ones."""

from __future__ import annotations

from drizzle_streams.coordinator import status
from drizzle_streams.core.progress import Progress
from drizzle_streams.model.ids import BatchId
from drizzle_streams.protocol.parts import BatchLatencies
from tests.services.service_worlds import ask, job_file, submit, two_stages


async def test_a_job_that_has_just_come_has_none(coordinator):
    await submit(coordinator.address, job_file(two_stages("words")))
    answer = await ask("GET", f"{coordinator.address}/jobs/words/batches")
    assert (answer.status, answer.json) == (200, {"batches": []})
    missing = await ask("GET", f"{coordinator.address}/jobs/others/batches")
    assert missing.status == 404


def test_a_batch_is_as_late_as_its_latest_part() -> None:
    progress = Progress(two_stages("words"))
    progress.observe((BatchLatencies(BatchId(3), (9.0, 12.0), (950.0, 1_000.0)),))
    progress.observe((BatchLatencies(BatchId(4), (11.0,), (1_002.0,)),))
    assert status.batches(progress.latencies) == [
        [3, 950.0, 9.0],
        [4, 1_002.0, 12.0],
    ]

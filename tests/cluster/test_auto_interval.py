"""`batch_interval="auto"` on real services: chosen from what batches cost, shown everywhere, counts exact."""

from __future__ import annotations

import pytest

from drizzle_streams.local.ports import free_port
from drizzle_streams.model.tuning import INTERVAL_AUTO_MS_MAX, INTERVAL_AUTO_MS_MIN
from tests.cluster.drizzle_commands import Place, doors_of, until
from tests.cluster.test_late_source import counted, post

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

JOB_FILE = """
import polars as pl
import drizzle_streams as dz

words = dz.stream("words", schema={"word": pl.String})
counts = words.group_by("word").agg(times=dz.count())
job = counts.to(dz.redis("words")).job("count", batch_interval="auto")
"""


def test_the_interval_follows_what_batches_cost(place: Place) -> None:
    (place.folder / "job.py").write_text(JOB_FILE)
    cluster = place.start("up", "--port", str(free_port()), "--workers", "1", "--sources", "1")
    cluster.says("Drizzle is up")
    doors = doors_of(place.folder / ".drizzle")
    assert place.run("submit", "job.py").code == 0
    posted = 0

    def measured():
        nonlocal posted
        post(doors, "source-1", 100)
        posted += 100
        job = doors.ask("/jobs/count")
        return job if job and job["interval"]["processing_ms"] else None

    job = until("a batch's cost is measured", measured)
    assert job["interval"]["because"] not in ("stated", "unmeasured")
    assert INTERVAL_AUTO_MS_MIN <= job["interval"]["target_ms"] <= INTERVAL_AUTO_MS_MAX
    job = until("a group has an interval of its own", lambda: measured() and doors.ask("/jobs/count"))
    assert INTERVAL_AUTO_MS_MIN <= job["batch_interval_ms"] <= INTERVAL_AUTO_MS_MAX
    assert job["group"]["interval_ms"] == job["batch_interval_ms"]
    assert doors.metric("coordinator", "drizzle_batch_processing_seconds", job="count") > 0
    said = place.run("status").said()
    assert "a batch costs" in said, said

    until("everything is counted", lambda: counted(doors) == posted)
    cluster.interrupt()
    assert cluster.ended() == 0, cluster.said()

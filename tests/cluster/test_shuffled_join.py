"""A shuffled join on real processes: a worker that holds half of the table is killed, counts stay exact."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

import drizzle_streams as dz
from drizzle_streams.api.job import Job
from drizzle_streams.local.cluster import LocalCluster, LocalSettings
from tests.cluster.test_files_input import Counts, becomes, written

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

FILES, EVENTS_PER_FILE, ADS, CAMPAIGNS, WINDOW_MS = 4, 60_000, 2_000, 50, 10_000


def campaigns_of(ad: int) -> list[str]:
    """An ad of two campaigns, of one, or of none."""
    return [f"k{(ad * 7 + turn) % CAMPAIGNS}" for turn in range(ad % 3)]


def write_input(folder: Path) -> Counts:
    """Files whose event times go on from one to the next; what is to come out."""
    rng, counts = random.Random(9), Counter[tuple[str, int]]()
    folder.mkdir()
    for number in range(FILES):
        lines: list[str] = []
        for i in range(number * EVENTS_PER_FILE, (number + 1) * EVENTS_PER_FILE):
            ad, at = rng.randrange(ADS + 100), i + rng.randrange(100)
            for campaign in campaigns_of(ad) if ad < ADS else ():
                counts[campaign, at // WINDOW_MS * WINDOW_MS] += 1
            lines.append(json.dumps({"ad": f"ad-{ad}", "at": at, "more": "x" * 60}))
        (folder / f"part-{number}.ndjson").write_text("\n".join(lines) + "\n")
    return dict(counts)


def counting(folder: Path) -> Job:
    ads = [{"ad": f"ad-{ad}", "campaign": one} for ad in range(ADS) for one in campaigns_of(ad)]
    views = dz.files(
        folder / "*.ndjson", schema={"ad": pl.String, "at": pl.Int64}, event_time="at", max_delay="1s"
    )
    joined = views.join(dz.table(pl.DataFrame(ads)), on="ad", strategy="shuffled")
    counts = joined.window(dz.tumbling("10s", emit="close")).group_by("campaign").agg(n=dz.count())
    return counts.to(dz.redis("files")).job("files", batch_interval="100ms", checkpoint_interval="200ms")


async def test_counts_are_exact_though_a_worker_of_the_join_is_killed(tmp_path):
    wanted = write_input(tmp_path / "input")
    settings = LocalSettings(tmp_path / "state", workers=2, sources=1, partitions=2)
    async with LocalCluster(settings) as cluster:
        job = counting(tmp_path / "input")
        await asyncio.to_thread(job.submit, cluster.address, token=cluster.token)
        begun = await becomes(cluster, lambda job: job.get("batches_done", 0) >= 4)
        reading, joining, merging = begun["stages"]
        assert (joining["inputs"], joining["stateful"], merging["inputs"]) == ([0], False, [1])
        assert reading["partitions"] == 2
        cluster.kill("worker")
        ended = await becomes(cluster, lambda job: job.get("phase") in ("stopped", "failed"))
        assert (ended["phase"], ended["detail"]) == ("stopped", "all of its input is computed")
        assert ended["recoveries"]
        assert await written(cluster.redis.url) == wanted

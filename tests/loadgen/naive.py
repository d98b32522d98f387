"""The benchmark's query in plain Python, one event after the other: what the oracle is held against."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

import polars as pl
from redis.asyncio import Redis

from drizzle_loadgen.events import ads_table

Counts = Counter[tuple[str, int]]


def naive_counts(seed: int, lines: Iterable[bytes], window_ms: int) -> Counts:
    """Views per (campaign, window start) in lines of NDJSON."""
    campaign_of = dict(ads_table(seed).iter_rows())
    counts: Counts = Counter()
    for line in lines:
        event = json.loads(line)
        if event["event_type"] == "view":
            time = int(event["event_time"])
            counts[campaign_of[event["ad_id"]], time - time % window_ms] += 1
    return counts


def as_counts(frame: pl.DataFrame, column: str) -> Counts:
    """The counts in a frame of the oracle's or the sink's."""
    return Counter(
        {
            (row["campaign_id"], row["window_start"]): row[column]
            for row in frame.select("campaign_id", "window_start", column).iter_rows(named=True)
        }
    )


async def write_rows(
    url: str, prefix: str, counts: Counts, *, updated_ms: int = 0, field: str = "clicks"
) -> None:
    """Write counts as the Redis sink of a job does."""
    redis = Redis.from_url(url)
    async with redis.pipeline(transaction=False) as pipeline:
        for (campaign, start), count in counts.items():
            key = f"{prefix}:{campaign}:{start}"
            pipeline.hset(key, mapping={field: count, "updated_ms": updated_ms})
            pipeline.zadd(f"{prefix}:windows", {str(start): start})
            pipeline.sadd(f"{prefix}:window:{start}", key)
        await pipeline.execute()
    await redis.aclose()

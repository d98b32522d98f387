"""The queries of `throughput` as jobs, and what they counted, read from Redis.

The most frequent words are chosen of the counts where these are read: the rest is the job's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import polars as pl
from redis.asyncio import Redis

import drizzle_streams as dz
from drizzle_benchmarks.batch_queries import PATTERN, TOP, TOP_WINDOW_MS, WINDOW_MS
from drizzle_benchmarks.file_inputs import WORDS_FROM, Input
from drizzle_streams.api.job import Job
from drizzle_streams.api.stream import Stream

BATCH_INTERVAL = "10ms"
"""Shorter than a batch takes: batches begin as fast as workers take them."""
READ_AT_ONCE = 1_000
COUNT = "n"

Counts = dict[tuple[str, int], int]


def job_of(query: str, data: Input) -> Job:
    """A query as a job over its file; results under the query's name."""
    counts = QUERIES[query](data)
    return counts.to(dz.redis(query)).job(query, batch_interval=BATCH_INTERVAL)


def _ysb(data: Input) -> Stream:
    stream = dz.files(
        data.events_file,
        schema={"ad_id": pl.String, "event_type": pl.String, "event_time": pl.Int64},
        event_time="event_time",
    )
    views = stream.filter(pl.col("event_type") == "view").join(dz.table(data.ads_file), on="ad_id")
    return views.window(dz.tumbling(f"{WINDOW_MS}ms")).group_by("campaign_id").agg(n=dz.count())


def _grep(data: Input) -> Stream:
    found = _lines(data).filter(pl.col("line").str.contains(PATTERN, literal=True))
    return found.with_columns(pattern=pl.lit(PATTERN)).group_by("pattern").agg(n=dz.count())


def _words(data: Input) -> Stream:
    words = _lines(data).with_columns(word=pl.col("line").str.slice(WORDS_FROM).str.split(" "))
    return words.explode("word").group_by("word").agg(n=dz.count())


def _top(data: Input) -> Stream:
    line = pl.col("line")
    words = _lines(data).with_columns(
        word=line.str.slice(WORDS_FROM).str.split(" "), at=line.str.slice(0, 13).cast(pl.Int64)
    )
    windows = (
        words.with_event_time("at").explode("word").window(dz.tumbling(f"{TOP_WINDOW_MS}ms", emit="close"))
    )
    return windows.group_by("word").agg(n=dz.count())


def _lines(data: Input) -> Stream:
    return dz.files(data.lines_file, format="lines")


QUERIES: dict[str, Callable[[Input], Stream]] = {
    "ysb": _ysb,
    "grep": _grep,
    "wordcount": _words,
    "topkcount": _top,
}


async def results(query: str, url: str) -> tuple[Counts, float]:
    """The counts, and when (Unix seconds, Redis' own time) the last of them could be read."""
    counts: Counts = {}
    last_ms = 0
    async with Redis.from_url(url, decode_responses=True) as redis:
        names = await _rows(redis, query)
        for first in range(0, len(names), READ_AT_ONCE):
            pipeline = redis.pipeline(transaction=False)
            for name in names[first : first + READ_AT_ONCE]:
                pipeline.hmget(name, [COUNT, "updated_ms"])
            for name, (count, at_ms) in zip(names[first:], await pipeline.execute(), strict=False):
                _, key, *window = name.split(":")
                counts[key, int(window[0]) if window else 0] = int(count)
                last_ms = max(last_ms, int(at_ms))
    return most_frequent(counts) if query == "topkcount" else counts, last_ms / 1000.0


async def _rows(redis: Redis, query: str) -> list[str]:
    """The names of all rows, as the sink lists them."""
    windows = await redis.zrange(f"{query}:windows", 0, -1)
    lists = [f"{query}:window:{start}" for start in windows] or [f"{query}:keys"]
    return [str(name) for one in lists for name in await redis.smembers(one)]


def most_frequent(counts: Counts) -> Counts:
    """The most frequent words of each window; of those that are as frequent the first by alphabet."""
    windows: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for (word, window), count in counts.items():
        windows[window].append((-count, word))
    return {(word, window): -n for window, found in windows.items() for n, word in sorted(found)[:TOP]}

"""The Yahoo Streaming Benchmark as a job file, as compose submits it: the query of `examples/ysb.py`.

The environment names the job, its table of ads and its pace; counts are in Redis under the job's name.
"""

import os

import polars as pl

import drizzle_streams as dz

NAME = os.environ["YSB_JOB"]

events = dz.stream(
    "ad-events",
    schema={"ad_id": pl.String, "event_type": pl.String, "event_time": pl.Int64},
    event_time="event_time",
    max_delay="120s",  # a source may be away so long before its records count as late
)
counts = (
    events.filter(pl.col("event_type") == "view")
    .join(dz.table(os.environ["YSB_ADS"]), on="ad_id")
    .window(dz.tumbling(f"{os.environ['YSB_WINDOW_MS']}ms"))
    .group_by("campaign_id")
    .agg(clicks=dz.count())
)
job = counts.to(dz.redis(NAME)).job(
    NAME,
    batch_interval=os.environ["YSB_BATCH_INTERVAL"],
    group_size=int(os.environ["YSB_GROUP_SIZE"]),
)

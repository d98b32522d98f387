"""The Yahoo Streaming Benchmark: views per campaign and ten seconds of event time.

    python -m drizzle_loadgen ads --out ads.parquet    # the static table: 100 campaigns × 10 ads
    drizzle submit examples/ysb.py                     # or: python examples/ysb.py

YSB_ADS names the table if it lies elsewhere. Counts are in Redis under `ysb:<campaign>:<window start>`.
"""

import os

import polars as pl

import drizzle_streams as dz

ads = dz.table(os.environ.get("YSB_ADS", "ads.parquet"))
events = dz.stream(
    "ad-events",
    schema={"ad_id": pl.String, "event_type": pl.String, "event_time": pl.Int64},
    event_time="event_time",
)
counts = (
    events.filter(pl.col("event_type") == "view")
    .join(ads, on="ad_id")
    .window(dz.tumbling("10s"))
    .group_by("campaign_id")
    .agg(clicks=dz.count())
)
job = counts.to(dz.redis("ysb")).job("ysb", batch_interval="50ms")

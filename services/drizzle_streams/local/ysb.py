"""The Yahoo Streaming Benchmark's query, as the demo runs it: the same as in examples/ysb.py.

Views only, ad joined to its campaign, counted per campaign and tumbling event-time window,
counts and update times kept in Redis.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from drizzle_streams.api.job import Job
    from drizzle_streams.api.settings import SchedulingMode

STREAM = "ad-events"
SINK_PREFIX = "ysb"
COUNT_FIELD = "clicks"
OUTAGE_MAX = "120s"
"""How late a record may come after newer ones: as long as a source may be away in a demo."""


def ysb_job(
    ads: Path,
    *,
    window: str,
    batch_interval: str,
    scheduling: SchedulingMode,
    group_size: int | Literal["auto"],
    name: str = "ysb",
    speculation: bool = True,
) -> Job:
    """The job over the stream `ad-events`; `ads` is the Parquet table ad_id -> campaign_id."""
    import polars as pl  # noqa: PLC0415 - a command that only helps must start quickly

    import drizzle_streams as dz  # noqa: PLC0415

    events = dz.stream(
        STREAM,
        schema={"ad_id": pl.String, "event_type": pl.String, "event_time": pl.Int64},
        event_time="event_time",
        max_delay=OUTAGE_MAX,
    )
    counts = (
        events.filter(pl.col("event_type") == "view")
        .join(dz.table(ads), on="ad_id")
        .window(dz.tumbling(window))
        .group_by("campaign_id")
        .agg(**{COUNT_FIELD: dz.count()})
    )
    return counts.to(dz.redis(SINK_PREFIX)).job(
        name,
        batch_interval=batch_interval,
        scheduling=scheduling,
        group_size=group_size,
        speculation=speculation,
    )

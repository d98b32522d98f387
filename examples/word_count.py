"""Running totals: how often every word has come, in how many characters, and when first and last.

Records are words: {"word": "drizzle", "said_at": 1700000000000}. Without a window a total is kept for as
long as the job runs, and every batch gives the words it changed. In Redis: `words:<word>`.
"""

import polars as pl

import drizzle_streams as dz

words = dz.stream("words", schema={"word": pl.String, "said_at": pl.Int64}, event_time="said_at")
cleaned = words.with_columns(pl.col("word").str.strip_chars(" .,;:!?").str.to_lowercase())
totals = (
    cleaned.filter(pl.col("word") != "")
    .group_by("word")
    .agg(
        times=dz.count(),
        characters=dz.sum(pl.col("word").str.len_chars()),
        first_at=dz.first("said_at"),
        last_at=dz.last("said_at"),
    )
)
job = totals.to(dz.redis("words")).job("word-count", batch_interval="100ms")

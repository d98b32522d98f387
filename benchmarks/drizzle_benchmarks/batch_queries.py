"""The Yahoo Streaming Benchmark as a batch, written by hand: `ENGINE EVENTS ADS CORES`, a process each.

Prints JSON: `seconds` of the query alone, and `counts` as rows of campaign, window start (ms) and clicks.
What the process and its imports take to start is for whoever starts it to measure.
"""

from __future__ import annotations

import importlib
import json
import sys
import time

import polars as pl

WINDOW_MS = 10_000

Rows = list[tuple[str, int, int]]


def polars_query(events: str, ads: str) -> Rows:
    """Polars' streaming engine over a scan; threads are set by the environment."""
    schema = {"ad_id": pl.String, "event_type": pl.String, "event_time": pl.String}
    window = pl.col("event_time").cast(pl.Int64) // WINDOW_MS * WINDOW_MS
    query = (
        pl.scan_ndjson(events, schema=schema)
        .filter(pl.col("event_type") == "view")
        .join(pl.scan_parquet(ads), on="ad_id")
        .group_by("campaign_id", window.alias("window"))
        .agg(pl.len().alias("clicks"))
    )
    return query.collect(engine="streaming").select("campaign_id", "window", "clicks").rows()


def duckdb_query(events: str, ads: str, cores: int) -> Rows:
    """DuckDB's reader of JSON, with the columns that are needed."""
    duckdb = importlib.import_module("duckdb")  # by name: it is there for development only
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {cores}")
        return connection.execute(
            """
            SELECT campaign_id, event_time // $window * $window AS start, count(*)
            FROM read_json($events, format = 'newline_delimited',
                           columns = {ad_id: 'VARCHAR', event_type: 'VARCHAR', event_time: 'BIGINT'})
            JOIN read_parquet($ads) USING (ad_id)
            WHERE event_type = 'view' GROUP BY ALL
            """,
            {"window": WINDOW_MS, "events": events, "ads": ads},
        ).fetchall()


def main() -> None:
    """Run what the command line says."""
    engine, events, ads, cores = sys.argv[1:]
    if engine == "duckdb":
        importlib.import_module("duckdb")
    started = time.perf_counter()
    rows = polars_query(events, ads) if engine == "polars" else duckdb_query(events, ads, int(cores))
    print(json.dumps({"seconds": time.perf_counter() - started, "counts": rows}))


if __name__ == "__main__":
    main()

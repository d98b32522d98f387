"""The queries of `throughput` as batches, written by hand: `ENGINE QUERY FOLDER CORES`, a process each.

Prints JSON: `seconds` of the query alone, and `counts` as rows of name, window start (ms; 0 without
windows) and count. What the process and its imports take to start is for whoever starts it to measure.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import polars as pl

from drizzle_benchmarks.file_inputs import WORDS_FROM, Input

WINDOW_MS = 10_000
TOP_WINDOW_MS = 30_000
TOP = 10
PATTERN = "v0ff"

Rows = list[tuple[str, int, int]]


def polars_query(query: str, data: Input) -> Rows:
    """Polars' streaming engine over a scan; threads are set by the environment."""
    plan = {"ysb": _ysb, "grep": _grep, "wordcount": _words, "topkcount": _top}[query](data)
    return plan.collect(engine="streaming").rows()


def _ysb(data: Input) -> pl.LazyFrame:
    schema = {"ad_id": pl.String, "event_type": pl.String, "event_time": pl.String}
    window = pl.col("event_time").cast(pl.Int64) // WINDOW_MS * WINDOW_MS
    return (
        pl.scan_ndjson(data.events_file, schema=schema)
        .filter(pl.col("event_type") == "view")
        .join(pl.scan_parquet(data.ads_file), on="ad_id")
        .group_by("campaign_id", window.alias("window"))
        .agg(pl.len().alias("n"))
        .select("campaign_id", "window", "n")
    )


def _grep(data: Input) -> pl.LazyFrame:
    found = pl.scan_lines(data.lines_file, name="line").filter(
        pl.col("line").str.contains(PATTERN, literal=True)
    )
    return found.select(pl.lit(PATTERN).alias("name"), pl.lit(0).alias("window"), pl.len())


def _words(data: Input) -> pl.LazyFrame:
    words = pl.col("line").str.slice(WORDS_FROM).str.split(" ").alias("word")
    counts = pl.scan_lines(data.lines_file, name="line").select(words).explode("word").group_by("word")
    return counts.agg(pl.len().alias("n")).select("word", pl.lit(0).alias("window"), "n")


def _top(data: Input) -> pl.LazyFrame:
    line = pl.col("line")
    window = line.str.slice(0, 13).cast(pl.Int64) // TOP_WINDOW_MS * TOP_WINDOW_MS
    words = line.str.slice(WORDS_FROM).str.split(" ").alias("word")
    rows = pl.scan_lines(data.lines_file, name="line").select(window.alias("window"), words).explode("word")
    counts = rows.group_by("window", "word").agg(pl.len().alias("n"))
    ordered = counts.sort("n", "word", descending=[True, False])
    return ordered.group_by("window", maintain_order=True).head(TOP).select("word", "window", "n")


_LINES = """read_csv($lines, columns = {line: 'VARCHAR'}, header = false, auto_detect = false,
                     delim = '\x01', quote = '', escape = '')"""
_SQL = {
    "ysb": """
        SELECT campaign_id, event_time // $size * $size AS start, count(*)
        FROM read_json($events, format = 'newline_delimited',
                       columns = {ad_id: 'VARCHAR', event_type: 'VARCHAR', event_time: 'BIGINT'})
        JOIN read_parquet($ads) USING (ad_id)
        WHERE event_type = 'view' GROUP BY ALL
        """,
    "grep": f"SELECT $pattern, 0, count(*) FROM {_LINES} WHERE contains(line, $pattern)",
    "wordcount": f"""
        SELECT word, 0, count(*)
        FROM (SELECT unnest(string_split(substr(line, $words_from + 1), ' ')) AS word FROM {_LINES})
        GROUP BY ALL
        """,
    "topkcount": f"""
        WITH words AS (
            SELECT unnest(string_split(substr(line, $words_from + 1), ' ')) AS word,
                   CAST(substr(line, 1, 13) AS BIGINT) // $size * $size AS start
            FROM {_LINES})
        SELECT word, start, count(*) AS n FROM words GROUP BY word, start
        QUALIFY row_number() OVER (PARTITION BY start ORDER BY n DESC, word) <= $top
        """,
}


def duckdb_query(query: str, data: Input, cores: int) -> Rows:
    """DuckDB's readers of JSON and of text, with the columns that are needed."""
    duckdb = importlib.import_module("duckdb")  # by name: it is there for development only
    values = {
        "size": TOP_WINDOW_MS if query == "topkcount" else WINDOW_MS,
        "events": str(data.events_file),
        "ads": str(data.ads_file),
        "lines": str(data.lines_file),
        "pattern": PATTERN,
        "words_from": WORDS_FROM,
        "top": TOP,
    }
    named = {name: value for name, value in values.items() if f"${name}" in _SQL[query]}
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {cores}")
        return connection.execute(_SQL[query], named).fetchall()


def main() -> None:
    """Run what the command line says."""
    engine, query, folder, cores = sys.argv[1:]
    data = Input(Path(folder), 0, 0)
    if engine == "duckdb":
        importlib.import_module("duckdb")
    started = time.perf_counter()
    rows = polars_query(query, data) if engine == "polars" else duckdb_query(query, data, int(cores))
    print(json.dumps({"seconds": time.perf_counter() - started, "counts": rows}))


if __name__ == "__main__":
    main()

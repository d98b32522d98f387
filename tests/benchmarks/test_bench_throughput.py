"""The benchmark of throughput: all engines count the same, and what it claims is of the right rows."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from typing import Any

import polars as pl
import pytest

import drizzle_streams as dz
from drizzle_benchmarks import throughput
from drizzle_benchmarks.batch_queries import PATTERN, duckdb_query, polars_query
from drizzle_benchmarks.file_inputs import Input, lines
from drizzle_benchmarks.file_jobs import QUERIES, job_of, most_frequent
from drizzle_benchmarks.pinning import pinned
from drizzle_benchmarks.throughput import _claims


def row(engine: str, cores: int, speed: int, *, exact: bool = True) -> dict[str, Any]:
    return {"engine": engine, "query": "ysb", "cores": cores, "events_per_second": speed, "exact": exact}


def test_claims_compare_one_core_with_polars_and_two_with_one() -> None:
    rows = [row("drizzle", 1, 80), row("drizzle", 2, 120), row("polars", 1, 100), row("polars", 2, 500)]
    claims = {claim.name: claim for claim in _claims(rows)}
    assert claims["one core, over Polars as a batch"].measured == 0.8
    assert claims["two cores over one"].measured == 1.5
    assert [claim.holds for claim in claims.values()] == [True, False, True]


def test_counts_that_differ_are_no_result() -> None:
    assert not _claims([row("drizzle", 1, 80, exact=False)])[-1].holds


def test_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_bars_are_drawn(tmp_path) -> None:
    picture = tmp_path / "throughput.png"
    rows = [row("drizzle", 1, 80), row("polars", 1, 100), row("drizzle", 2, 120)]
    throughput.plot(throughput.Report("throughput", {}, rows, []), picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_lines_have_a_hundred_bytes_and_go_on_from_one_block_to_the_next() -> None:
    whole = lines(0, 300).to_list()
    assert {len(line.encode()) + 1 for line in whole} == {100}
    assert lines(100, 50).to_list() == whole[100:150]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Input:
    data = Input(tmp_path_factory.mktemp("input"), 6_000, 6_000)
    data.write()
    return data


def by_hand(query: str, data: Input) -> dict[tuple[str, int], int]:
    """What Python counts of the lines."""
    given = [line.split(" ") for line in data.lines_file.read_text().splitlines()]
    if query == "grep":
        return {(PATTERN, 0): sum(PATTERN in words for words in given)}
    if query == "wordcount":
        return dict(Counter((word, 0) for _, *words in given for word in words))
    window_ms = 30_000
    windows = ((int(at[:13]) // window_ms * window_ms, words) for at, *words in given)
    return most_frequent(Counter((word, start) for start, words in windows for word in words))


@pytest.mark.parametrize("query", list(QUERIES))
def test_batches_count_the_same(query: str, data: Input) -> None:
    found = [sorted(polars_query(query, data)), sorted(duckdb_query(query, data, 1))]
    assert found[0] == found[1] != []
    if query != "ysb":
        assert {(name, start): count for name, start, count in found[0]} == by_hand(query, data)


@pytest.mark.parametrize("query", ["grep", "wordcount", "topkcount"])
def test_jobs_count_the_same(query: str, data: Input) -> None:
    given = pl.Series("line", data.lines_file.read_text().splitlines()).to_frame()
    last = given.tail(1).with_columns(pl.lit("1700000099000: x").alias("line"))  # closes the windows
    batches = [given[:2_500], given[2_500:], *([last] if query == "topkcount" else [])]
    rows = dz.testing.run(job_of(query, data), batches, stream_partitions=1).rows.to_dicts()
    (name,) = {"pattern", "word"} & rows[0].keys()
    counts = {(row[name], row.get("window_start", 0)): row["n"] for row in rows}
    assert (most_frequent(counts) if query == "topkcount" else counts) == by_hand(query, data)


def test_of_words_as_frequent_the_first_by_alphabet_are_taken() -> None:
    counts = {(f"w{number:02}", 5): 7 if number else 1 for number in range(20)}
    assert list(most_frequent(counts)) == [(f"w{number:02}", 5) for number in range(1, 11)]


@pytest.mark.cluster
@pytest.mark.timeout(180)
async def test_all_engines_count_the_same() -> None:
    """Events over sources that are files, and lines with words that become rows; DuckDB is compared above."""
    parser = argparse.ArgumentParser()
    throughput.add_arguments(parser)
    sizes = ["--events", "30000", "--lines", "5000", "--cores", "1", "--rounds", "1"]
    chosen = ["--queries", "ysb,topkcount", "--engines", "drizzle,polars"]
    report = await throughput.run(parser.parse_args([*sizes, *chosen]))

    assert [(row["query"], row["engine"]) for row in report.rows] == [
        ("ysb", "drizzle"),
        ("ysb", "polars"),
        ("topkcount", "drizzle"),
        ("topkcount", "polars"),
    ]
    for row in report.rows:
        assert row["exact"]
        assert row["events_per_second"] >= row["events_per_second_with_start"] > 0
    assert 8_000 < report.rows[0]["counted"] < 12_000
    assert [claim.bound for claim in report.claims] == [0.7, 0]

"""The oracle agrees with a count in plain Python, and sees every way in which a sink can be wrong."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drizzle_loadgen import oracle
from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.events import Workload
from drizzle_loadgen.oracle import Coverage, compare, expected_counts
from tests.loadgen.naive import as_counts, naive_counts

START_MS = 1_700_000_003_456  # not at the start of a window
FOREVER = float("inf")


def lines_of(workload: Workload, events: int) -> list[bytes]:
    return workload.ndjson(0, events).splitlines()


@pytest.mark.parametrize("skew", [False, True])
@pytest.mark.parametrize(("rate", "window_ms"), [(1000, 1000), (333, 10_000), (100_000, 70)])
def test_counts_agree_with_a_naive_count(
    skew: bool, rate: int, window_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oracle, "CHUNK_EVENTS", 7_001)
    workload = Workload(3, START_MS, rate, skew)
    expected = expected_counts(workload, Coverage.of_first(20_000), window_ms)
    assert as_counts(expected, "expected") == naive_counts(3, lines_of(workload, 20_000), window_ms)


@settings(max_examples=40)
@given(
    events=st.integers(0, 600),
    block_events=st.integers(1, 50),
    acknowledged=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    beyond=st.sets(st.integers(0, 40), max_size=4),
)
def test_only_acknowledged_events_count(
    events: int, block_events: int, acknowledged: list[int], beyond: set[int]
) -> None:
    workload = Workload(4, START_MS, 500)
    sources = len(acknowledged)
    taken = [
        number in beyond or number // sources < acknowledged[number % sources]
        for number in range(-(-events // block_events))
    ]
    lines = lines_of(workload, events)
    kept = [line for index, line in enumerate(lines) if taken[index // block_events]]
    coverage = Coverage(events, block_events, tuple(acknowledged), tuple(beyond))
    expected = expected_counts(workload, coverage, 200)
    assert as_counts(expected, "expected") == naive_counts(4, kept, 200)
    gaps = [
        number * block_events for number in range(len(taken)) if not taken[number] and number not in beyond
    ]
    assert coverage.first_gap <= (gaps[0] if gaps else events)


@pytest.mark.parametrize("coverage", [(-1, 1, (1,)), (5, 0, (1,)), (5, 1, ()), (5, 1, (1, -1))])
def test_impossible_coverage_is_refused(coverage: tuple[int, int, tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        Coverage(*coverage)


def test_an_impossible_window_is_refused() -> None:
    with pytest.raises(UsageError, match="window"):
        expected_counts(Workload(1, 0, 1), Coverage.of_first(1), 0)


WORKLOAD = Workload(3, START_MS, 1000)
WINDOW_MS = 1000
EXPECTED = expected_counts(WORKLOAD, Coverage.of_first(5000), WINDOW_MS)


def sink_of(expected: pl.DataFrame, updated_ms: int = START_MS) -> pl.DataFrame:
    return expected.select(
        "campaign_id",
        "window_start",
        pl.col("expected").alias("counted"),
        pl.lit(updated_ms, pl.Int64).alias("updated_ms"),
    )


def test_an_exact_sink_is_exact() -> None:
    verdict = compare(EXPECTED, sink_of(EXPECTED).reverse(), WINDOW_MS, FOREVER)
    assert verdict.exact
    assert verdict.windows == 6
    assert verdict.rows == EXPECTED.height
    assert verdict.counted == verdict.expected == int(EXPECTED["expected"].sum())
    assert (verdict.missing, verdict.extra, verdict.wrong) == (0, 0, 0)
    assert (verdict.lost, verdict.duplicates, verdict.differences) == (0, 0, ())


def test_a_missing_count_is_seen() -> None:
    verdict = compare(EXPECTED, sink_of(EXPECTED)[1:], WINDOW_MS, FOREVER)
    gone = EXPECTED.row(0, named=True)
    assert not verdict.exact
    assert (verdict.missing, verdict.extra, verdict.wrong) == (1, 0, 0)
    assert (verdict.lost, verdict.duplicates) == (gone["expected"], 0)
    (difference,) = verdict.differences
    assert (difference.campaign_id, difference.window_start) == (gone["campaign_id"], gone["window_start"])
    assert (difference.expected, difference.found) == (gone["expected"], None)


@pytest.mark.parametrize("where", [("no-such-campaign", 0), (EXPECTED["campaign_id"][0], 5 * WINDOW_MS)])
def test_an_extra_count_is_seen(where: tuple[str, int]) -> None:
    sink = sink_of(EXPECTED)
    row = pl.DataFrame([(*where, 4, 0)], schema=sink.schema, orient="row")
    verdict = compare(EXPECTED, pl.concat([sink, row]), WINDOW_MS, FOREVER)
    assert not verdict.exact
    assert (verdict.missing, verdict.extra, verdict.wrong) == (0, 1, 0)
    assert (verdict.lost, verdict.duplicates) == (0, 4)
    assert (verdict.differences[0].expected, verdict.differences[0].found) == (None, 4)


@pytest.mark.parametrize("by", [-1, 1, 5])
def test_a_wrong_count_is_seen_with_both_values(by: int) -> None:
    sink = sink_of(EXPECTED).with_row_index()
    sink = sink.with_columns(counted=pl.col("counted") + pl.when(pl.col("index") == 7).then(by).otherwise(0))
    verdict = compare(EXPECTED, sink.drop("index"), WINDOW_MS, FOREVER)
    assert not verdict.exact
    assert (verdict.missing, verdict.extra, verdict.wrong) == (0, 0, 1)
    assert (verdict.lost, verdict.duplicates) == (max(-by, 0), max(by, 0))
    (difference,) = verdict.differences
    assert difference.expected is not None
    assert difference.found == difference.expected + by


def test_one_too_many_and_one_too_few_do_not_make_up_for_each_other() -> None:
    sink = sink_of(EXPECTED).with_row_index()
    change = pl.when(pl.col("index") == 0).then(1).when(pl.col("index") == 1).then(-1).otherwise(0)
    verdict = compare(
        EXPECTED, sink.with_columns(counted=pl.col("counted") + change).drop("index"), WINDOW_MS, FOREVER
    )
    assert verdict.counted == verdict.expected
    assert not verdict.exact
    assert (verdict.lost, verdict.duplicates, verdict.wrong) == (1, 1, 2)


def test_an_empty_sink_has_lost_everything_and_an_empty_run_is_exact() -> None:
    nothing = sink_of(EXPECTED).clear()
    verdict = compare(EXPECTED, nothing, WINDOW_MS, FOREVER)
    assert (verdict.exact, verdict.missing, verdict.lost) == (False, EXPECTED.height, verdict.expected)
    assert len(verdict.differences) == oracle.EXAMPLES_MAX
    no_events = expected_counts(WORKLOAD, Coverage.of_first(0), WINDOW_MS)
    verdict = compare(no_events, nothing, WINDOW_MS, FOREVER)
    assert (verdict.exact, verdict.windows, verdict.latency) == (True, 0, None)


def test_latency_is_from_window_end_to_the_last_update_of_complete_windows() -> None:
    first_end = START_MS // WINDOW_MS * WINDOW_MS + WINDOW_MS
    sink = sink_of(EXPECTED).with_columns(updated_ms=pl.col("window_start") + WINDOW_MS + 12)
    late = pl.col("window_start") == first_end
    sink = sink.with_columns(updated_ms=pl.when(late).then(10**15).otherwise(pl.col("updated_ms")))
    before = compare(EXPECTED, sink, WINDOW_MS, first_end + WINDOW_MS - 1)
    assert before.latency is not None
    assert (before.latency.p50, before.latency.max) == (12, 12)
    assert before.latency.count == EXPECTED.filter(pl.col("window_start") < first_end).height
    after = compare(EXPECTED, sink, WINDOW_MS, first_end + WINDOW_MS)
    assert after.latency is not None
    assert after.latency.max > 10**11


def test_windows_of_the_warm_up_are_exact_and_not_timed() -> None:
    first_end = START_MS // WINDOW_MS * WINDOW_MS + WINDOW_MS
    sink = sink_of(EXPECTED).with_columns(updated_ms=pl.col("window_start") + WINDOW_MS + 12)
    warm = compare(EXPECTED, sink, WINDOW_MS, FOREVER, first_end)
    assert warm.latency is not None
    assert warm.latency.count == EXPECTED.filter(pl.col("window_start") >= first_end).height
    assert warm.expected == EXPECTED["expected"].sum()
    assert not compare(EXPECTED, sink[1:], WINDOW_MS, FOREVER, first_end).exact


def test_the_last_view_of_a_window_is_timed_from_when_it_was_due() -> None:
    events = [
        (row["index"], row["ad"], row["event_type"], row["due_ms"])
        for row in WORKLOAD.facts(0, 5000).iter_rows(named=True)
    ]
    last: Counter[tuple[int, int]] = Counter()
    for _, ad, kind, due_ms in events:
        if kind == 0:
            last[ad // 10, due_ms // WINDOW_MS] = max(last[ad // 10, due_ms // WINDOW_MS], due_ms)
    assert sorted(last.values()) == sorted(EXPECTED["last_due_ms"])
    verdict = compare(EXPECTED, sink_of(EXPECTED, START_MS + 9000), WINDOW_MS, FOREVER)
    assert verdict.last_view_latency is not None
    assert verdict.last_view_latency.max == START_MS + 9000 - min(EXPECTED["last_due_ms"])
    shown = verdict.as_json()
    assert shown["last_view_latency_ms"]["count"] == EXPECTED.height
    assert shown["latency_ms"]["max"] == START_MS + 9000 - (START_MS // WINDOW_MS + 1) * WINDOW_MS

"""Where a stream is cut into batches, partitions and workers, and who crashes when, changes no result."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import drizzle_streams as dz
from drizzle_streams.testing import crash

SCHEMA = {"key": pl.String, "value": pl.Int64, "at": pl.Int64}
WINDOW_MS = 10_000

records = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["a", "b", "c", "", "ä", None]),
            "value": st.one_of(st.none(), st.integers(-1_000, 1_000)),
            "at": st.integers(-30_000, 30_000),
        }
    ),
    max_size=40,
)
layouts = st.fixed_dictionaries(
    {
        "partitions": st.integers(1, 5),
        "stream_partitions": st.integers(1, 3),
        "workers": st.integers(1, 4),
        "snapshot_every": st.integers(1, 4),
    }
)


@st.composite
def cut(draw: st.DrawFn, given_records: list[dict[str, Any]], *, crashes: bool) -> list[Any]:
    """The records cut into batches anywhere, with crashes between them."""
    places = sorted(draw(st.lists(st.integers(0, len(given_records)), max_size=6)))
    edges = [0, *places, len(given_records)]
    batches: list[Any] = []
    for first, end in pairwise(edges):
        batches.append(given_records[first:end])
        if crashes and draw(st.booleans()):
            batches.append(crash(draw(st.one_of(st.none(), st.just(0)))))
    return batches


def job(stream: dz.Stream) -> dz.Job:
    return stream.to(dz.console()).job("split")


def measured(grouped: Any) -> dz.Stream:
    return grouped.agg(
        rows=dz.count(),
        values=dz.count("value"),
        total=dz.sum("value"),
        least=dz.min("value"),
        most=dz.max("value"),
        mean=dz.mean("value"),
        first=dz.first("value"),
        last=dz.last("value"),
    )


def oracle(given_records: list[dict[str, Any]]) -> dict[tuple[int, Any], tuple[Any, ...]]:
    """The windows again, one record at a time; first and last are judged by event time only."""
    groups: dict[tuple[int, Any], list[dict[str, Any]]] = defaultdict(list)
    for record in given_records:
        groups[record["at"] // WINDOW_MS * WINDOW_MS, record["key"]].append(record)
    found = {}
    for group, members in groups.items():
        values = [member["value"] for member in members if member["value"] is not None]
        found[group] = (
            len(members),
            len(values),
            sum(values),
            min(values, default=None),
            max(values, default=None),
            sum(values) / len(values) if values else None,
        )
    return found


@settings(max_examples=20)
@given(st.data(), records, layouts)
def test_windows_are_what_they_are_however_the_stream_is_cut(
    data: st.DataObject, given_records: list[dict[str, Any]], layout: dict[str, int]
) -> None:
    stream = dz.stream("s", schema=SCHEMA, event_time="at", max_delay="1d")
    counts = job(measured(stream.window(dz.tumbling("10s")).group_by("key")))
    result = dz.testing.run(counts, data.draw(cut(given_records, crashes=True)), **layout)

    found = {(row["window_start"], row["key"]): row for row in result.rows.to_dicts()}
    expected = oracle(given_records)
    assert {
        group: tuple(row[name] for name in ("rows", "values", "total", "least", "most", "mean"))
        for group, row in found.items()
    } == expected

    whole = dz.testing.run(counts, [given_records], stream_partitions=layout["stream_partitions"])
    assert result.rows.equals(whole.rows), "first and last too"
    assert (result.late_records, result.dead_letters) == (0, ())


@settings(max_examples=20)
@given(st.data(), records, layouts)
def test_running_totals_are_what_they_are_however_the_stream_is_cut(
    data: st.DataObject, given_records: list[dict[str, Any]], layout: dict[str, int]
) -> None:
    totals = job(measured(dz.stream("s", schema=SCHEMA, event_time="at").group_by("key")))
    result = dz.testing.run(totals, data.draw(cut(given_records, crashes=True)), **layout)
    whole = dz.testing.run(totals, [given_records], stream_partitions=layout["stream_partitions"])
    assert result.rows.equals(whole.rows)


@settings(max_examples=20)
@given(st.data(), records, layouts)
def test_rows_are_mapped_alike_however_the_stream_is_cut(
    data: st.DataObject, given_records: list[dict[str, Any]], layout: dict[str, int]
) -> None:
    stream = (
        dz.stream("s", schema=SCHEMA).filter(pl.col("value") > 0).select("key", double=pl.col("value") * 2)
    )
    result = dz.testing.run(job(stream), data.draw(cut(given_records, crashes=True)), **layout)
    expected = [(one["key"], one["value"] * 2) for one in given_records if (one["value"] or 0) > 0]
    assert sorted(result.rows.rows(), key=repr) == sorted(expected, key=repr)


@settings(max_examples=20)
@given(st.data(), records, layouts)
def test_a_crash_changes_nothing_that_is_late_closed_or_aggregated_again(
    data: st.DataObject, given_records: list[dict[str, Any]], layout: dict[str, int]
) -> None:
    """Which records are late does depend on batches, so both runs have the same; only one has crashes."""
    stream = dz.stream("s", schema=SCHEMA, event_time="at", max_delay="3s", idle_after="150ms")
    closed = (
        stream.window(dz.tumbling("2s", emit="close"))
        .group_by("key")
        .agg(n=dz.count(), last=dz.last("value"))
    )
    again = job(closed.window(dz.tumbling("10s")).group_by("key").agg(n=dz.sum("n"), last=dz.last("last")))
    batches = data.draw(cut(given_records, crashes=True))
    crashed = dz.testing.run(again, batches, **layout)
    clean = dz.testing.run(again, [batch for batch in batches if isinstance(batch, list)], **layout)
    assert crashed.rows.equals(clean.rows)
    assert crashed.late_records == clean.late_records
    assert [one.rows.rows() for one in crashed.batches] == [one.rows.rows() for one in clean.batches]

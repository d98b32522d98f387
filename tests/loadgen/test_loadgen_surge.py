"""A time with more events: all of them are there, due in order, at the rates that were said."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.events import Workload
from drizzle_loadgen.oracle import Coverage, expected_counts
from drizzle_loadgen.schedule import Schedule
from drizzle_loadgen.surge import Surge

START_MS = 1_700_000_000_000
SURGES = st.builds(Surge, st.integers(0, 900), st.integers(1, 900), st.integers(1, 5_000))


@given(surge=SURGES, rate=st.integers(1, 2_000))
def test_events_are_due_in_order_and_as_their_column_says(surge: Surge, rate: int) -> None:
    workload = Workload(1, START_MS, rate, surge=surge)
    events = workload.events(2.5)
    due = workload.facts(0, events)["due_ms"].to_list()
    assert due == sorted(due)
    assert [int(workload.due_ms(index) + 1e-6) for index in range(events)] == due
    ends_ms = surge.from_ms + surge.for_ms
    surged = sum(surge.from_ms <= at - START_MS < ends_ms for at in due)
    assert abs(surged - surge.rate * surge.for_ms / 1000) <= 2 + rate / 1000
    assert abs(events - (rate * (2.5 - surge.for_ms / 1000) + surge.rate * surge.for_ms / 1000)) <= 1
    assert due[-1] - START_MS <= 2_500 + 1000 / rate + 1


def test_a_schedule_that_ends_in_the_surge_has_only_its_part() -> None:
    workload = Workload(1, START_MS, 100, surge=Surge(1_000, 10_000, 1_000))
    assert (workload.events(0.5), workload.events(2.0), workload.events(12.0)) == (50, 1_100, 10_200)


def test_blocks_have_their_span_when_most_is_due() -> None:
    schedule = Schedule.of(Workload(1, START_MS, 100, surge=Surge(1_000, 1_000, 2_000)), 3.0, 10.0)
    assert (schedule.events, schedule.block_events) == (2_200, 20)
    text = b"".join(block.payload for block in schedule.make(0, schedule.blocks))
    times = [int(json.loads(line)["event_time"]) - START_MS for line in text.splitlines()]
    assert sum(1_000 <= at < 2_000 for at in times) == 2_000


def test_the_oracle_counts_the_same_events() -> None:
    workload = Workload(1, START_MS, 300, surge=Surge(500, 1_000, 3_000))
    counts = expected_counts(workload, Coverage.of_first(workload.events(3.0)), 1_000)
    views = {key[0]: frame["expected"].sum() for key, frame in counts.group_by("window_start")}
    assert sorted(views) == [START_MS, START_MS + 1_000, START_MS + 2_000]
    assert views[START_MS] > 3 * views[START_MS + 2_000]


@pytest.mark.parametrize("text", ["", "1:2", "1:0:5", "-1:2:5", "1:2:0", "a:b:c", "1:inf:3"])
def test_what_is_no_surge_says_so(text: str) -> None:
    with pytest.raises(UsageError, match="surge: wanted"):
        Surge.parse(text)

"""Event i is a function of (seed, i), and it is the event of the Yahoo Streaming Benchmark."""

from __future__ import annotations

import json
import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_loadgen.errors import UsageError
from drizzle_loadgen.events import (
    AD_TYPES,
    EVENT_TYPES,
    RENDER_EVENTS_MAX,
    Universe,
    Workload,
    ads_table,
)
from drizzle_loadgen.hashing import base_of, finalize, hash_at

START_MS = 1_700_000_000_000
WORKLOAD = Workload(seed=7, start_ms=START_MS, rate=20_000)
FIELDS = ["user_id", "page_id", "ad_id", "ad_type", "event_type", "event_time", "ip_address"]
PINNED = (
    b'{"user_id": "22e3f03b-56b0-4fb1-8626-300cb18a01c8", "page_id": "5276f6cd-3653-44a6-a508-21a8f0187927", '
    b'"ad_id": "d07dd88b-4a27-4010-9e6e-97663260215d", "ad_type": "mail", "event_type": "click", '
    b'"event_time": "1700006172839", "ip_address": "1.2.3.4"}\n'
)


def lines(workload: Workload, first: int, count: int) -> list[bytes]:
    return workload.ndjson(first, count).splitlines(keepends=True)


def test_the_hash_is_splitmix64() -> None:
    golden = 0x9E3779B97F4A7C15  # the reference implementation's first outputs for state 0
    assert [finalize(k * golden) for k in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_an_event_has_the_fields_and_values_of_the_original() -> None:
    universe = Universe.of(WORKLOAD.seed)
    for index, line in enumerate(lines(WORKLOAD, 0, 500)):
        event = json.loads(line)
        assert list(event) == FIELDS
        assert event["user_id"] in universe.user_ids
        assert event["page_id"] in universe.page_ids
        assert event["ad_id"] in universe.ad_ids
        assert event["ad_type"] in AD_TYPES
        assert event["event_type"] in EVENT_TYPES
        assert event["event_time"] == str(START_MS + index * 1000 // 20_000)
        assert event["ip_address"] == "1.2.3.4"
        assert line.endswith(b"}\n")


def test_ids_are_distinct_uuids_and_the_ads_table_gives_ten_ads_to_each_campaign() -> None:
    universe = Universe.of(3)
    ids = [*universe.user_ids, *universe.page_ids, *universe.campaign_ids, *universe.ad_ids]
    assert len(set(ids)) == 100 + 100 + 100 + 1000
    assert all(str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4 for text in ids)
    table = ads_table(3)
    assert table.columns == ["ad_id", "campaign_id"]
    assert tuple(table["ad_id"]) == universe.ad_ids
    assert set(Counter(table["campaign_id"]).values()) == {10}
    assert tuple(table["campaign_id"].unique(maintain_order=True)) == universe.campaign_ids


def test_the_same_seed_gives_the_same_bytes_for_ever() -> None:
    # A changed value here breaks the comparison of results across versions: change it only with a reason.
    assert lines(WORKLOAD, 123_456_789, 1) == [PINNED]
    assert lines(WORKLOAD, 0, 100) == lines(Workload(7, START_MS, 20_000), 0, 100)


def test_seeds_share_nothing_not_even_shifted() -> None:
    ours = {hash_at(base_of(7, 0), k) for k in range(1000)}
    for seed, purpose in ((8, 0), (6, 0), (7, 1)):
        assert ours.isdisjoint(hash_at(base_of(seed, purpose), k) for k in range(1000))
    assert set(Universe.of(7).ad_ids).isdisjoint(Universe.of(8).ad_ids)


@given(
    first=st.integers(0, 10**12),
    count=st.integers(0, 300),
    cut=st.integers(0, 300),
    block=st.integers(1, 350),
    skew=st.booleans(),
)
def test_any_block_can_be_made_alone(first: int, count: int, cut: int, block: int, skew: bool) -> None:
    workload = Workload(11, START_MS, 1000, skew)
    whole = workload.ndjson(first, count)
    assert len(whole.splitlines()) == count
    cut = min(cut, count)
    assert workload.ndjson(first, cut) + workload.ndjson(first + cut, count - cut) == whole
    blocks = workload.blocks(first, count, block)
    assert b"".join(blocks) == whole
    assert [len(text.splitlines()) for text in blocks] == [
        min(block, count - k * block) for k in range(-(-count // block))
    ]


@pytest.mark.parametrize("block", [RENDER_EVENTS_MAX // 2 + 1, RENDER_EVENTS_MAX, RENDER_EVENTS_MAX + 1])
def test_blocks_around_the_largest_vectorised_call(block: int) -> None:
    count = 2 * RENDER_EVENTS_MAX + 100
    blocks = WORKLOAD.blocks(5, count, block)
    assert [text.count(b"\n") for text in blocks] == [
        min(block, count - k * block) for k in range(-(-count // block))
    ]
    assert b"".join(blocks[1:]).splitlines()[0] + b"\n" == lines(WORKLOAD, 5 + block, 1)[0]


def test_the_text_and_the_oracles_facts_are_the_same_events() -> None:
    universe = Universe.of(7)
    for workload in (WORKLOAD, Workload(7, START_MS, 20_000, skew=True)):
        for fact, line in zip(
            workload.facts(999, 400).iter_rows(named=True), lines(workload, 999, 400), strict=True
        ):
            event = json.loads(line)
            assert event["ad_id"] == universe.ad_ids[fact["ad"]]
            assert event["event_type"] == EVENT_TYPES[fact["event_type"]]
            assert event["event_time"] == str(fact["event_time"])


def test_all_choices_are_uniform_and_a_third_are_views() -> None:
    count = 300_000
    facts = WORKLOAD.facts(0, count)
    views = int((facts["event_type"] == EVENT_TYPES.index("view")).sum())
    assert abs(views / count - 1 / 3) < 0.005  # 5.8 standard deviations
    per_ad = facts["ad"].value_counts()
    assert per_ad.height == 1000
    assert all(200 < count < 400 for count in per_ad["count"])  # 300 expected, deviation 17
    events = [json.loads(line) for line in lines(WORKLOAD, 0, 20_000)]
    for name, kinds in (("user_id", 100), ("page_id", 100), ("ad_type", 5), ("event_type", 3)):
        counts = Counter(event[name] for event in events)
        assert len(counts) == kinds
        expected = 20_000 / kinds
        assert all(abs(found - expected) < 6 * expected**0.5 for found in counts.values()), name


def test_skew_moves_times_a_little_and_few_events_far() -> None:
    skewed = Workload(7, START_MS, 20_000, skew=True)
    facts = skewed.facts(0, 1_000_000)
    moved = facts["event_time"] - facts["due_ms"]
    near = moved.filter(moved > -50)
    assert (near.min(), near.max()) == (-49, 50)
    late = moved.filter(moved <= -50)
    assert 1 <= late.len() <= 40  # 10 expected
    assert all(by >= -60_049 for by in late)
    assert facts["due_ms"].equals(WORKLOAD.facts(0, 1_000_000)["due_ms"])


@pytest.mark.parametrize(("seed", "rate"), [(-1, 1), (2**64, 1), (0, 0), (0, -5)])
def test_impossible_workloads_are_refused(seed: int, rate: int) -> None:
    with pytest.raises(UsageError, match="wanted"):
        Workload(seed, START_MS, rate)

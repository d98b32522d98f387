"""Posting again is harmless: through restarts, trimming, gaps and posts that overtake each other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.source.producers import (
    POSTS_MAX,
    PRODUCERS_MAX,
    SEQUENCES_MAX,
    ProducerTable,
    Range,
    Sequenced,
    SequenceError,
    rows_from_json,
    rows_to_json,
)
from tests.source.source_worlds import opened, places, post, settings, split_post


async def test_a_repost_gets_the_same_answer(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        first = await world.log.append(split_post([(0, 3), (1, 2)], producer="p", sequence=7))
        await world.log.append(post(0, 4))
        again = await world.log.append(split_post([(0, 3), (1, 2)], producer="p", sequence=7))
        assert (again.duplicate, again.ranges) == (True, first.ranges)
        assert [world.log.end_offset(p) for p in (0, 1)] == [7, 2]


async def test_a_repost_while_the_first_is_being_written_waits_for_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        both = await asyncio.gather(
            *(world.log.append(post(0, 3, producer="p", sequence=7)) for _ in range(5))
        )
        assert [receipt.duplicate for receipt in both] == [False, True, True, True, True]
        assert {receipt.ranges for receipt in both} == {(Range(0, 0, 3),)}
        assert world.log.end_offset(0) == 3


async def test_producers_and_numbers_are_told_apart(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        for producer in "pq":
            for sequence in (0, 5, 3):
                receipt = await world.log.append(post(0, 1, producer=producer, sequence=sequence))
                assert not receipt.duplicate, "gaps and overtaking are allowed"
        assert world.log.end_offset(0) == 6


async def test_reposts_are_known_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        first = await world.log.append(split_post([(1, 3), (0, 2)], producer="p", sequence=7))
    async with opened(tmp_path) as world:
        again = await world.log.append(split_post([(1, 3), (0, 2)], producer="p", sequence=7))
        assert (again.duplicate, again.ranges) == (True, first.ranges)


async def test_reposts_are_known_after_trimming_and_restarts(tmp_path: Path) -> None:
    kept = settings(1, segment_bytes=300)
    async with opened(tmp_path, kept) as world:
        first = await world.log.append(post(0, 10, producer="p", sequence=1))
        for _ in range(10):
            await world.log.append(post(0, 10))
        await world.log.trim({0: world.log.end_offset(0)})
        assert world.log.first_offset(0) > 10
    for _ in range(2):
        async with opened(tmp_path, kept) as world:
            again = await world.log.append(post(0, 10, producer="p", sequence=1))
            assert (again.duplicate, again.ranges) == (True, first.ranges)
            await world.log.append(post(0, 10))
            await world.log.trim({0: world.log.end_offset(0)})


async def test_a_number_too_old_to_tell_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as world:
        await world.log.append(post(0, 1, producer="p", sequence=1000))
        with pytest.raises(SequenceError, match="1000"):
            await world.log.append(post(0, 1, producer="p", sequence=1000 - SEQUENCES_MAX))
        assert not (await world.log.append(post(0, 1, producer="p", sequence=1001 - SEQUENCES_MAX))).duplicate
        assert world.log.end_offset(0) == 2


async def test_a_duplicate_is_answered_at_the_budget(tmp_path: Path) -> None:
    async with opened(tmp_path, settings(1, budget_bytes=500)) as world:
        first = await world.log.append(post(0, 10, producer="p", sequence=1))
        again = await world.log.append(post(0, 10, producer="p", sequence=1))
        assert places(again) == places(first)


def test_numbers_and_producers_are_bounded() -> None:
    table = ProducerTable()
    for producer in range(PRODUCERS_MAX + 50):
        table.add(Sequenced(str(producer), 0), ())
    for sequence in range(3 * SEQUENCES_MAX):
        table.add(Sequenced("busy", sequence), ())
    rows = table.rows()
    assert len({row.producer for row, _ in rows}) == PRODUCERS_MAX
    assert sum(row.producer == "busy" for row, _ in rows) == SEQUENCES_MAX
    assert table.find(Sequenced("0", 0)) is None, "the one that was silent longest is forgotten"
    assert table.find(Sequenced(str(PRODUCERS_MAX), 0)) == ()


def test_posts_are_bounded_in_all() -> None:
    table = ProducerTable()
    producers = POSTS_MAX // SEQUENCES_MAX + 10
    for producer in range(producers):
        for sequence in range(SEQUENCES_MAX):
            table.add(Sequenced(str(producer), sequence), ())
    assert len(table.rows()) == POSTS_MAX
    assert table.find(Sequenced("9", 0)) is None
    assert table.find(Sequenced("10", 0)) == ()


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.integers(0, 3 * SEQUENCES_MAX)), max_size=200))
def test_within_the_window_every_number_is_taken_once(posts: list[tuple[str, int]]) -> None:
    table = ProducerTable()
    taken: dict[Sequenced, tuple[Range, ...]] = {}
    for offset, (producer, sequence) in enumerate(posts):
        numbered = Sequenced(producer, sequence)
        try:
            found = table.find(numbered)
        except SequenceError:
            highest = max(s.sequence for s in taken if s.producer == producer)
            assert sequence <= highest - SEQUENCES_MAX
            continue
        assert found == taken.get(numbered) or found is None
        highest = max((s.sequence for s in taken if s.producer == producer), default=-1)
        if sequence > highest - SEQUENCES_MAX:
            assert found == taken.get(numbered)
        if found is None:
            taken[numbered] = (Range(0, offset, offset + 1),)
            table.add(numbered, taken[numbered])
    assert rows_from_json(rows_to_json(table.rows())) == table.rows()

"""Latencies of the newest batches: what a table would say, in a fixed amount of memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.latencies import LATENCIES_KEPT_MAX, Latencies, Unreported
from drizzle_streams.model.ids import BatchId
from drizzle_streams.protocol.parts import BatchLatencies

KEPT = 8
PAIRS = st.lists(st.tuples(st.floats(0.0, 1e3), st.floats(0.0, 1e6)), max_size=3 * KEPT)


def run_of(first: int, *pairs: tuple[float, float]) -> BatchLatencies:
    return BatchLatencies(BatchId(first), tuple(ms for ms, _ in pairs), tuple(at for _, at in pairs))


@given(st.lists(st.tuples(st.integers(-2, 60), PAIRS), max_size=40))
def test_it_says_what_a_table_of_the_newest_would(runs: list[tuple[int, list[tuple[float, float]]]]) -> None:
    kept, table = Latencies(KEPT), dict[int, tuple[float, float]]()
    newest = -1
    for first, pairs in runs:
        kept.observe(run_of(first, *pairs))
        newest = max([newest, *(first + at for at in range(len(pairs)))])
        for batch, (ms, sealed_at_ms) in enumerate(pairs, first):
            before = table.get(batch, (0.0, 0.0))
            table[batch] = (max(before[0], ms), max(before[1], sealed_at_ms))
        table = {b: found for b, found in table.items() if b > newest - KEPT and b >= 0}
    assert kept.rows() == [(b, at, ms) for b, (ms, at) in sorted(table.items())]
    assert kept.newest_first() == [ms for _, (ms, _) in sorted(table.items(), reverse=True)]
    assert list(kept) == sorted(table)
    assert len(kept) == len(table)
    for batch in range(-1, 61 + 3 * KEPT):
        assert kept.get(BatchId(batch)) == table.get(batch, (None,))[0]


def test_a_copy_stays_as_it_was() -> None:
    kept = Latencies(KEPT)
    kept.observe(run_of(0, (1.0, 2.0)))
    copy = kept.copy()
    kept.observe(run_of(0, (5.0, 6.0)))
    kept.observe(run_of(KEPT, (7.0, 8.0)))
    assert copy.rows() == [(0, 2.0, 1.0)]
    assert kept.rows() == [(KEPT, 8.0, 7.0)]


def test_a_job_that_goes_on_far_from_the_beginning_takes_no_more() -> None:
    kept, first = Latencies(), 10 * LATENCIES_KEPT_MAX - 2
    for batch in range(first, first + 4):
        kept.observe(run_of(batch, (1.0, 2.0)))
    assert list(kept) == list(range(first, first + 4))
    places = (kept._batches, kept._ms, kept._sealed_at_ms)
    assert [len(each) for each in places] == [LATENCIES_KEPT_MAX] * 3


def test_columns_of_different_lengths_are_cut_to_the_shorter() -> None:
    kept = Latencies(KEPT)
    kept.observe(BatchLatencies(BatchId(3), (1.0, 2.0, 3.0), (10.0, 20.0)))
    assert kept.rows() == [(3, 10.0, 1.0), (4, 20.0, 2.0)]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0.0, 1e3), st.floats(0.0, 1e6)), max_size=20))
def test_what_a_worker_tells_is_what_was_added_in_runs(added: list[tuple[int, float, float]]) -> None:
    unreported = Unreported()
    for batch, ms, sealed_at_ms in added:
        unreported.add(BatchId(batch), ms, sealed_at_ms)
    runs = unreported.take()
    told = [
        (run.first + at, *pair)
        for run in runs
        for at, pair in enumerate(zip(run.milliseconds, run.sealed_at_ms, strict=True))
    ]
    assert told == added
    ends = [run.first + len(run.milliseconds) for run in runs]
    assert all(end != run.first for end, run in zip(ends, runs[1:], strict=False)), "neighbours are one run"
    assert unreported.take() == ()

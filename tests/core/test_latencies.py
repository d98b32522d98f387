"""Latencies of the newest batches: what a table would say, in a fixed amount of memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from drizzle_streams.core.latencies import LATENCIES_KEPT_MAX, Latencies
from drizzle_streams.model.ids import BatchId
from drizzle_streams.protocol.parts import BatchLatency

KEPT = 8
PARTS = st.tuples(st.integers(0, 60), st.floats(0.0, 1e3), st.floats(0.0, 1e6))


@given(st.lists(PARTS, max_size=80))
def test_it_says_what_a_table_of_the_newest_would(parts: list[tuple[int, float, float]]) -> None:
    kept, table = Latencies(KEPT), dict[int, tuple[float, float]]()
    newest = -1
    for batch, ms, sealed_at_ms in parts:
        kept.observe(BatchLatency(BatchId(batch), ms, sealed_at_ms))
        newest = max(newest, batch)
        before = table.get(batch, (0.0, 0.0))
        table[batch] = (max(before[0], ms), max(before[1], sealed_at_ms))
        table = {b: found for b, found in table.items() if b > newest - KEPT}
    assert kept.rows() == [(b, at, ms) for b, (ms, at) in sorted(table.items())]
    assert kept.newest_first() == [ms for _, (ms, _) in sorted(table.items(), reverse=True)]
    assert list(kept) == sorted(table)
    assert len(kept) == len(table)
    for batch in range(-1, 61):
        assert kept.get(BatchId(batch)) == table.get(batch, (None,))[0]


def test_a_copy_stays_as_it_was() -> None:
    kept = Latencies(KEPT)
    kept.observe(BatchLatency(BatchId(0), 1.0, 2.0))
    copy = kept.copy()
    kept.observe(BatchLatency(BatchId(0), 5.0, 6.0))
    kept.observe(BatchLatency(BatchId(KEPT), 7.0, 8.0))
    assert copy.rows() == [(0, 2.0, 1.0)]
    assert kept.rows() == [(KEPT, 8.0, 7.0)]


def test_a_job_that_goes_on_far_from_the_beginning_takes_no_more() -> None:
    kept, first = Latencies(), 10 * LATENCIES_KEPT_MAX - 2
    for batch in range(first, first + 4):
        kept.observe(BatchLatency(BatchId(batch), 1.0, 2.0))
    assert list(kept) == list(range(first, first + 4))
    places = (kept._batches, kept._ms, kept._sealed_at_ms)
    assert [len(each) for each in places] == [LATENCIES_KEPT_MAX] * 3

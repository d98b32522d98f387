"""Hypothesis strategies: batches of events for the world of the engine tests."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.engine.world import Batch, Event

KEYS = st.sampled_from(["a", "b", "c", "dd", "a-rather-long-key-that-is-not-inlined", "", None])
QUARTERS = st.integers(-40, 40).map(lambda quarters: quarters / 4)


def events(first: int = 0, last: int = 60) -> st.SearchStrategy[Event]:
    return st.builds(
        Event,
        k=KEYS,
        t=st.integers(first, last),
        j=st.sampled_from([0, 1, -7, None]),
        v=st.none() | st.integers(-100, 100),
        f=st.none() | QUARTERS,
        keep=st.sampled_from([True, True, True, False]),
    )


def batches(partitions: int = 2, *, most: int = 6, size: int = 8) -> st.SearchStrategy[list[Batch]]:
    """Batches whose event time moves on, with disorder enough to make some events late."""

    def at(number: int) -> st.SearchStrategy[Batch]:
        one = st.lists(events(number * 12, number * 12 + 25), max_size=size)
        return st.fixed_dictionaries(dict.fromkeys(range(partitions), one))

    return (
        st.integers(1, most)
        .flatmap(lambda count: st.tuples(*(at(number) for number in range(count))))
        .map(list)
    )


def partitionings(count: int) -> st.SearchStrategy[list[list[int]]]:
    """The partitions 0 … count-1 dealt out to some cohorts, none empty."""

    def dealt(cohorts: list[int]) -> list[list[int]]:
        names = sorted(set(cohorts))
        return [[p for p, cohort in enumerate(cohorts) if cohort == name] for name in names]

    return st.lists(st.integers(0, count - 1), min_size=count, max_size=count).map(dealt)

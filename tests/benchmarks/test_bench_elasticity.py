"""What the story says of a change of scale: the wish after it was asked for, and the next move after it."""

from __future__ import annotations

from drizzle_benchmarks.elasticity import OUT, Change, lateness, told_in

STORY = [
    {"at": 1.0, "kind": "NodeJoined"},
    {"at": 2.0, "kind": "PartitionsMoved"},
    {"at": 5.0, "kind": "NodeJoined"},
    {"at": 5.125, "kind": "PartitionsMoved"},
    {"at": 9.0, "kind": "WorkerLeaving"},
]


def test_the_wish_and_its_move_are_found() -> None:
    assert told_in(STORY, 4_500.0, "NodeJoined") == (5_000.0, 5_125.0)
    assert told_in(STORY, 0.0, "NodeJoined") == (1_000.0, 2_000.0)


def test_nothing_is_told_while_nothing_has_moved() -> None:
    assert told_in(STORY, 8_000.0, "WorkerLeaving") is None
    assert told_in(STORY, 6_000.0, "NodeJoined") is None


def test_lateness_that_comes_seconds_after_asking_is_seen() -> None:
    """The process took three seconds to start; two windows are late when partitions move."""
    change = Change(OUT, 10_000.0, 13_100.0, 100.0)
    windows = [(at * 200.0, 300.0 if 65 <= at < 67 else 40.0, 20.0) for at in range(100)]
    asked, peak_ms, seconds = lateness(change, windows)
    assert (asked.normal_ms, peak_ms) == (40.0, 300.0)
    assert seconds is not None
    assert 3.0 < seconds < 4.0

"""How far a full worker goes: to the checkpoint whose commit moves the floor."""

from __future__ import annotations

import pytest

from drizzle_streams.core.pressure import allowed_through, doubtful_from
from drizzle_streams.model.ids import BatchId


@pytest.mark.parametrize(
    ("newest", "every", "doubtful", "last"),
    [
        (-1, 10, -1, 9),
        (9, 10, -1, 19),
        (9, 10, 9, 19),
        (9, 10, 19, 29),  # 19 may never be whole
        (9, 10, 23, 29),
        (12, 10, -1, 19),  # a checkpoint at a boundary
        (18, 10, -1, 19),
        (-1, 1, -1, 0),
    ],
)
def test_to_the_next_checkpoint_of_which_there_is_hope(
    newest: int, every: int, doubtful: int, last: int
) -> None:
    assert allowed_through(BatchId(newest), every, BatchId(doubtful)) == last


def test_in_a_new_generation_what_anybody_stored_is_doubtful() -> None:
    assert doubtful_from(((BatchId(12), BatchId(31)), (BatchId(10),)), 10) == 40
    assert doubtful_from((), 10) == 9

"""Who has no share yet is told of the job once, and waited for within a bound."""

from __future__ import annotations

from drizzle_streams.core.newcomers import PREPARE_S_MAX, Newcomers
from drizzle_streams.model.ids import WorkerId

A, B = WorkerId("a"), WorkerId("b")


def test_newcomers_are_told_once_and_waited_for_until_all_have_answered() -> None:
    newcomers = Newcomers()
    assert newcomers.ready
    assert newcomers.look({A, B}, 0.0) == (A, B)
    assert newcomers.look({A, B}, 0.1) == ()
    newcomers.prepared(A)
    newcomers.look({A, B}, 0.2)
    assert not newcomers.ready
    newcomers.prepared(B)
    newcomers.look({A, B}, 0.3)
    assert newcomers.ready
    assert newcomers.deadline is None
    assert newcomers.told() == (A, B)


def test_nobody_is_waited_for_longer_than_the_bound_whoever_else_comes() -> None:
    newcomers = Newcomers()
    newcomers.look({A}, 0.0)
    newcomers.look({A, B}, 1.5)
    assert newcomers.deadline == PREPARE_S_MAX
    newcomers.look({A, B}, PREPARE_S_MAX)
    assert newcomers.ready
    assert newcomers.look({A, B}, 9.0) == ()
    assert newcomers.ready, "given up is given up"


def test_who_has_a_share_or_is_gone_is_no_newcomer() -> None:
    newcomers = Newcomers()
    newcomers.look({A, B}, 0.0)
    newcomers.prepared(A)
    newcomers.look({A}, 0.1)
    assert newcomers.ready
    assert newcomers.told() == (A,)
    newcomers.prepared(B)
    assert newcomers.look({A, B}, 0.2) == (B,), "it is told again: it may be another life"

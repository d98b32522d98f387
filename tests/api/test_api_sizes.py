"""Group sizes as users ask for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drizzle_streams.api.sizes import START, checked_size, tuned
from drizzle_streams.errors import BuildError
from drizzle_streams.model.tuning import AS_STATED, Objective, Tuning, TuningMode


def test_a_number_is_what_every_group_has() -> None:
    assert checked_size(20, "j") == (20, AS_STATED)
    assert AS_STATED.mode is TuningMode.FIXED


def test_auto_is_the_model_with_its_defaults() -> None:
    assert checked_size("auto", "j") == (START, Tuning(mode=TuningMode.MODEL))
    assert checked_size(tuned(), "j") == checked_size("auto", "j")


def test_promises_are_kept_in_the_jobs_units() -> None:
    found = tuned(
        "latency",
        method="aimd",
        at_least=4,
        at_most=64,
        overhead=(0.01, 0.02),
        adapt_within="1s",
        recover_within="1m",
    )
    assert found == Tuning(
        mode=TuningMode.AIMD,
        objective=Objective.LATENCY,
        group_size_min=4,
        group_size_max=64,
        overhead_lower=0.01,
        overhead_upper=0.02,
        adaptation_objective_ms=1_000.0,
        recovery_objective_ms=60_000.0,
    )
    assert checked_size(found, "j") == (4, found), "the first group keeps to them too"
    assert checked_size(tuned(at_most=1), "j")[0] == 1


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda: checked_size("some", "job 'j': group_size"),
            r"'j': group_size: wanted .*'auto'.*'some'",
        ),
        (lambda: checked_size(0, "group_size"), "a whole number from 1"),
        (lambda: checked_size(True, "group_size"), "a whole number from 1"),
        (lambda: checked_size(2.5, "group_size"), "a whole number from 1"),
        (lambda: tuned("speed"), "'utilisation' or 'latency'"),  # type: ignore[arg-type]
        (lambda: tuned(method="guess"), "'model' or 'aimd'"),  # type: ignore[arg-type]
        (lambda: tuned(at_least=9, at_most=8), "at_least: wanted at most 8"),
        (lambda: tuned(at_most=0), "at_most: wanted a whole number"),
        (lambda: tuned(overhead=(0.2, 0.1)), "overhead: wanted two shares"),
        (lambda: tuned(overhead=(0.0, 0.1)), "overhead: wanted two shares"),
        (lambda: tuned(overhead=0.1), "overhead: wanted two shares"),  # type: ignore[arg-type]
        (lambda: tuned(adapt_within="soon"), "adapt_within"),
        (lambda: tuned(recover_within="0s"), "recover_within"),
    ],
)
def test_a_mistake_is_told_where_it_is_made(ask: Callable[[], object], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        ask()

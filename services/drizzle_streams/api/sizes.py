"""Group sizes as users ask for them: a number, "auto", or `tuned(...)` with promises of their own.

What the tuner does with it, and the formula: docs/design/group-size.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, get_args

from drizzle_streams.api.durations import Duration, parse_ms
from drizzle_streams.errors import BuildError, explain
from drizzle_streams.model.tuning import (
    AS_STATED,
    GROUP_SIZE_MAX,
    TUNED_SIZE_MAX,
    Objective,
    Tuning,
    TuningMode,
)

Goal = Literal["utilisation", "latency"]
Method = Literal["model", "aimd"]
GroupSize = int | Literal["auto"] | Tuning

START: Final = 2
"""Batches in the first group of a job whose size is tuned."""


def tuned(
    objective: Goal = "utilisation",
    *,
    method: Method = "model",
    at_least: int = 1,
    at_most: int = TUNED_SIZE_MAX,
    overhead: tuple[float, float] = (AS_STATED.overhead_lower, AS_STATED.overhead_upper),
    adapt_within: Duration = "5s",
    recover_within: Duration = "10s",
) -> Tuning:
    """A group size that Drizzle chooses, for `job(..., group_size=tuned(...))`.

    `objective`: what is made least, "utilisation" (capacity lost) or "latency" (how late records are on
    average). `method`: "model" reckons with what was measured; "aimd" is the controller of the
    Drizzle paper, for comparison. `at_least`, `at_most`: batches. `overhead`: the share of time that
    coordination may take, as (lower, upper); "model" keeps below the upper one. `adapt_within`: no
    group is longer, so that a wish to change something never waits longer. `recover_within`: how
    long a failure may take.
    """
    thing = "tuned group size"
    if objective not in get_args(Goal):
        raise _wrong(f"{thing}: objective", "'utilisation' or 'latency'", objective)
    if method not in get_args(Method):
        raise _wrong(f"{thing}: method", "'model' or 'aimd'", method)
    for name, size in (("at_least", at_least), ("at_most", at_most)):
        checked_count(size, f"{thing}: {name}", GROUP_SIZE_MAX)
    if at_least > at_most:
        raise _wrong(f"{thing}: at_least", f"at most {at_most}, which is at_most", at_least)
    lower, upper = _overhead(overhead, thing)
    return Tuning(
        mode=TuningMode(method),
        objective=Objective(objective),
        group_size_min=at_least,
        group_size_max=at_most,
        overhead_lower=lower,
        overhead_upper=upper,
        adaptation_objective_ms=parse_ms(adapt_within, f"{thing}: adapt_within", at_least_ms=1.0),
        recovery_objective_ms=parse_ms(recover_within, f"{thing}: recover_within", at_least_ms=1.0),
    )


def checked_size(value: object, thing: str) -> tuple[int, Tuning]:
    """The size of the first group, and who chooses after it; or a `BuildError` that names `thing`."""
    if value == "auto":
        value = replace(AS_STATED, mode=TuningMode.MODEL)
    if isinstance(value, Tuning):
        return min(max(START, value.group_size_min), value.group_size_max), value
    if isinstance(value, str):
        raise _wrong(thing, f"a whole number from 1 to {GROUP_SIZE_MAX}, 'auto' or dz.tuned(...)", value)
    return checked_count(value, thing, GROUP_SIZE_MAX), AS_STATED


def checked_count(value: object, thing: str, most: int) -> int:
    """A whole number from 1 to `most`, or a `BuildError` that names `thing`."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
        return value
    raise _wrong(thing, f"a whole number from 1 to {most}", value)


def _overhead(value: tuple[float, float], thing: str) -> tuple[float, float]:
    wanted = "two shares between 0 and 1, the lower one first; for example (0.05, 0.1)"
    try:
        lower, upper = (float(share) for share in value)
    except (TypeError, ValueError) as error:
        raise _wrong(f"{thing}: overhead", wanted, value) from error
    if not 0.0 < lower < upper < 1.0:
        raise _wrong(f"{thing}: overhead", wanted, value)
    return lower, upper


def _wrong(thing: str, wanted: str, found: object) -> BuildError:
    remedy = "Leave it out for the default."
    return BuildError(explain(thing, wanted=wanted, found=repr(found), remedy=remedy))

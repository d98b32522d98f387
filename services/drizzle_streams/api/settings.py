"""How a job runs, checked: intervals, partitions, who schedules. What it computes is the plan's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from drizzle_streams.api.durations import Duration, parse_ms
from drizzle_streams.api.names import check_name
from drizzle_streams.api.sizes import checked_count, checked_size
from drizzle_streams.errors import BuildError, explain
from drizzle_streams.model.job import Scheduling
from drizzle_streams.model.tuning import Tuning

StartFrom = Literal["earliest", "latest"]
SchedulingMode = Literal["group", "prescheduled", "barrier"]

PARTITIONS: Final = 8
"""Per shuffle stage to begin with: a worker computes all it holds in one call, so more of them cost
little, and each is a unit that another worker can take over."""
Partitions = int | Literal["auto"]
PARTITIONS_MAX: Final = 1024
"""As many as there are key groups."""
BATCH_INTERVAL_MS_MIN: Final = 1.0
"""Below it fixed costs per batch exceed the interval on any machine."""
BATCH_INTERVAL_MS_MAX: Final = 60_000.0
BATCH_INTERVAL_START: Final = "50ms"
"""Of the first groups of a job whose interval is chosen."""
CHECKPOINT_INTERVAL_MS: Final = 1_000.0
"""Unless the job says otherwise, or its batches are longer."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A job's name and how it runs. Units are in the names."""

    name: str
    batch_interval_ms: float
    interval_auto: bool
    scheduling: Scheduling
    group_size: int
    tuning: Tuning
    checkpoint_interval_ms: float
    checkpoint_auto: bool
    partitions: int
    partitions_auto: bool
    start_from: StartFrom
    speculation: bool
    replanning: bool
    pipelining: bool


def settings(  # noqa: PLR0913 - one per setting of a job
    name: str,
    *,
    batch_interval: Duration | Literal["auto"],
    scheduling: str,
    group_size: object,
    checkpoint_interval: Duration | Literal["auto"] | None,
    partitions: Partitions,
    start_from: str,
    speculation: bool,
    replanning: bool,
    pipelining: bool,
) -> Settings:
    """The settings, or a `BuildError` that names the one that is wrong."""
    thing = f"job {check_name(name, 'job')!r}"
    if start_from not in get_args(StartFrom):
        raise _not_one_of(f"{thing}: start_from", get_args(StartFrom), start_from)
    if scheduling not in list(Scheduling):
        raise _not_one_of(f"{thing}: scheduling", tuple(mode.value for mode in Scheduling), scheduling)
    interval_ms = parse_ms(
        BATCH_INTERVAL_START if batch_interval == "auto" else batch_interval,
        f"{thing}: batch_interval",
        at_least_ms=BATCH_INTERVAL_MS_MIN,
        at_most_ms=BATCH_INTERVAL_MS_MAX,
    )
    size, tuning = checked_size(group_size, f"{thing}: group_size")
    return Settings(
        name=name,
        batch_interval_ms=interval_ms,
        interval_auto=batch_interval == "auto",
        scheduling=Scheduling(scheduling),
        group_size=size,
        tuning=tuning,
        checkpoint_interval_ms=max(CHECKPOINT_INTERVAL_MS, interval_ms)
        if checkpoint_interval is None or checkpoint_interval == "auto"
        else parse_ms(checkpoint_interval, f"{thing}: checkpoint_interval", at_least_ms=interval_ms),
        checkpoint_auto=checkpoint_interval == "auto",
        partitions=PARTITIONS
        if partitions == "auto"
        else checked_count(partitions, f"{thing}: partitions", PARTITIONS_MAX),
        partitions_auto=partitions == "auto",
        start_from="latest" if start_from == "latest" else "earliest",
        speculation=_flag(speculation, f"{thing}: speculation"),
        replanning=_flag(replanning, f"{thing}: replanning"),
        pipelining=_flag(pipelining, f"{thing}: pipelining"),
    )


def _flag(value: object, thing: str) -> bool:
    if not isinstance(value, bool):
        raise _not_one_of(thing, ("True", "False"), value)
    return value


def _not_one_of(thing: str, choices: tuple[str, ...], found: object) -> BuildError:
    wanted = " or ".join(repr(choice) for choice in choices)
    return BuildError(
        explain(thing, wanted=wanted, found=repr(found), remedy="Leave it out for the default.")
    )

"""What `scheduling` claims: of the largest cluster with its largest groups, against barrier mode.

What was not measured is claimed all the same, and does not hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from drizzle_benchmarks.report import Claim, Row

CPU_MS_MAX = 1.0
CPU_RATIO_MIN = 40.0
BATCH_MS_MAX = {1: 12.0, 2: 30.0}
BATCH_RATIO_MIN = 4.0
PER_GROUP_RATIO_MAX = 1.5
"""What launching a group of 100 may cost over launching one of 10: measured, so not exactly 1."""

CPU = "coordinator_cpu_ms_per_batch"


def claims(
    rows: Sequence[Row], workers: int, stages: Sequence[int], group_sizes: Sequence[int]
) -> list[Claim]:
    """For the largest number of workers and each number of stages."""
    largest = max(group_sizes, default=0)
    smaller = smaller_than_largest(group_sizes)
    found: list[Claim] = []
    for number in stages if largest else ():
        here = [row for row in rows if (row["workers"], row["stages"]) == (workers, number)]
        place = f"{workers} workers, {number} stage{'s'[: number - 1]}, groups of {largest}"
        best, barrier = _row(here, "group", largest), _row(here, "barrier", 1)
        found += _of(place, number, best, barrier)
        if smaller is not None:
            found += _per_group(
                f"{place}: launching a group, over one of {smaller}", best, _row(here, "group", smaller)
            )
    return found


def smaller_than_largest(group_sizes: Sequence[int]) -> int | None:
    """The groups whose launching is held against that of the largest; None where there are none."""
    return min((size for size in group_sizes if 1 < size < max(group_sizes)), default=None)


def _of(place: str, stages: int, best: Row, barrier: Row) -> Iterator[Claim]:
    yield Claim(f"{place}: time", best.get("ms_per_batch"), BATCH_MS_MAX[stages], "ms/batch")
    ratio = _ratio(barrier, best, "ms_per_batch")
    yield Claim(f"{place}: time in barrier mode over it", ratio, BATCH_RATIO_MIN, "ratio", at_least=True)
    yield Claim(f"{place}: coordinator's CPU", best.get(CPU), CPU_MS_MAX, "ms/batch")
    ratio = _ratio(barrier, best, CPU)
    name = f"{place}: coordinator's CPU in barrier mode over it"
    yield Claim(name, ratio, CPU_RATIO_MIN, "ratio", at_least=True)


def _per_group(name: str, best: Row, smaller: Row) -> Iterator[Claim]:
    """Small groups are launched several in a turn, in one message to each node: so a turn is compared."""
    for what, key in (("CPU", "launch_cpu_ms_per_turn"), ("bytes", "launch_bytes_per_group")):
        yield Claim(f"{name}, {what}", _ratio(best, smaller, key), PER_GROUP_RATIO_MAX, "ratio")


def _row(rows: Sequence[Row], mode: str, group_size: int) -> Row:
    """The one of that mode; empty where it was not measured."""
    return next((row for row in rows if (row["mode"], row["group_size"]) == (mode, group_size)), {})


def _ratio(over: Row, under: Row, key: str) -> float | None:
    above: Any = over.get(key)
    return round(above / under[key], 3) if above is not None and under.get(key) else None

"""What many real machines would see, from what `drizzle bench scheduling` measured on one.

Costs are processor times, which do not depend on how many members share a processor. With n workers, groups
of g, a batch that takes t (ms) and reports every R(n) = 50 ms to 1 s, they are fitted by least squares to

    coordinator, ms per batch    c(n, g) = A(n) / g + n * min(1, t / R(n)) * P(n)
    launching a group            A(n) = a0 + a1 * n
    hearing a report             P(n) = p0 + p1 * n
    all members, ms per batch    M1(n) = n * w + s           (one stage)
    a message between members    m = sum(M2 - M1) / sum(k2 - k1)   (k messages per batch, two stages over one)

and where each worker, the source and the coordinator have a processor of their own, batches of T ms keep

    coordinator    (A(n) / g + n * min(1, T / R(n)) * P(n)) / T
    worker         (w + [two stages] (min(n, 16) + n) * m) / T     announces to 16 reducers, hears n mappers
    source         (s + 2 * n * m) / T                             offers to n, hears of n

of theirs busy. The largest breaks first; the fastest batch is the T at which it reaches 1. Left out are the
network's round trips (add two for each stage), the tasks' own work, and what the machine does otherwise.

    python -m drizzle_benchmarks.scheduling_model scheduling.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drizzle_streams.core.reporting import report_pause_s

CPU = "coordinator_cpu_ms_per_batch"
REDUCERS = 16
MACHINES = (128, 1_000)
GROUP_SIZE = 100
INTERVAL_MS = 100.0
FASTEST_MS_MAX = 1e6
MACHINES_MAX = 1 << 20
STEPS = 60
"""Halvings of a span: far more than the figures are exact to."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """at(n) = base + slope * n; neither is below zero."""

    base: float
    slope: float

    def at(self, machines: float) -> float:
        """The value there."""
        return self.base + self.slope * machines

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Line:
        """Least squares; where base or slope would be negative, it is zero."""
        count = len(points)
        x, y = (sum(point[part] for point in points) / count for part in (0, 1))
        spread = sum((one - x) ** 2 for one, _ in points)
        slope = sum((a - x) * (b - y) for a, b in points) / spread if spread else 0.0
        if slope <= 0.0:
            return cls(max(0.0, y), 0.0)
        if y - slope * x >= 0.0:
            return cls(y - slope * x, slope)
        return cls(0.0, sum(a * b for a, b in points) / sum(a * a for a, _ in points))


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds of processor time: of a group launched, a report heard, and a message sent and heard.

    `worker` and `source` are what each takes for a batch beside messages of the shuffle.
    """

    launch: Line
    report: Line
    worker: float
    source: float
    message: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What so many machines would see: busy shares, what breaks first, the fastest batch in ms."""

    machines: int
    stages: int
    busy: Mapping[str, float]
    fastest_ms: float

    @property
    def first(self) -> str:
        """What has the largest share."""
        return max(self.busy, key=lambda name: self.busy[name])


def fitted(rows: Sequence[Row]) -> Costs | None:
    """The costs from rows of group mode.

    None where fewer than two numbers of workers, two group sizes, or one and two stages were measured.
    """
    groups = [row for row in rows if row["mode"] == "group"]
    workers = sorted({int(row["workers"]) for row in groups})
    pairs = [(n, *_pair(groups, n)) for n in workers]
    both = [(n, one, two) for n, one, two in pairs if one is not None and two is not None]
    coordinators = [(n, _coordinator([row for row in groups if row["workers"] == n])) for n in workers]
    found = [(n, costs) for n, costs in coordinators if costs is not None]
    more = sum(two["messages_per_batch"] - one["messages_per_batch"] for _, one, two in both)
    if len(both) < 2 or len(found) < 2 or more <= 0:
        return None
    cpu = "members_cpu_ms_per_batch"
    members = Line.through([(n, one[cpu]) for n, one, _ in both])
    return Costs(
        launch=Line.through([(n, launch) for n, (launch, _) in found]),
        report=Line.through([(n, report) for n, (_, report) in found]),
        worker=members.slope,
        source=members.base,
        message=max(0.0, sum(two[cpu] - one[cpu] for _, one, two in both) / more),
    )


def _pair(groups: Sequence[Row], workers: int) -> tuple[Row | None, Row | None]:
    """The rows of one and of two stages with the largest groups."""
    here = sorted((row for row in groups if row["workers"] == workers), key=lambda row: -row["group_size"])
    one, two = (next((row for row in here if row["stages"] == stages), None) for stages in (1, 2))
    return one, two


def _coordinator(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Launching a group and hearing a report, ms, by least squares over group sizes and stages."""
    points = [
        (1.0 / row["group_size"], _reports(row["workers"], row["ms_per_batch"]), row[CPU]) for row in rows
    ]
    if len({x for x, _, _ in points}) < 2:
        return None
    xx, xy, yy, xc, yc = (
        sum(a * b for a, b in pairs)
        for pairs in (
            [(x, x) for x, _, _ in points],
            [(x, y) for x, y, _ in points],
            [(y, y) for _, y, _ in points],
            [(x, c) for x, _, c in points],
            [(y, c) for _, y, c in points],
        )
    )
    across = xx * yy - xy * xy
    launch, report = ((xc * yy - yc * xy) / across, (yc * xx - xc * xy) / across) if across else (0.0, -1.0)
    if launch < 0.0:
        return 0.0, yc / yy
    return (xc / xx, 0.0) if report < 0.0 else (launch, report)


def _reports(workers: float, ms: float) -> float:
    """Per batch; how often a worker reports is the machine's own rule."""
    return workers * min(1.0, ms / (1_000.0 * report_pause_s(workers)))


def seen(costs: Costs, machines: int, stages: int, group_size: int, interval_ms: float) -> Seen:
    """What so many machines would see at that interval."""
    low, high = 0.0, FASTEST_MS_MAX  # busy shares fall as the interval grows
    for _ in range(STEPS):
        middle = (low + high) / 2
        full = max(_busy(costs, machines, stages, group_size, middle).values()) > 1.0
        low, high = (middle, high) if full else (low, middle)
    return Seen(machines, stages, _busy(costs, machines, stages, group_size, interval_ms), high)


def machines_max(costs: Costs, stages: int, group_size: int, interval_ms: float) -> int:
    """How many machines keep nothing busier than its processor, at most `MACHINES_MAX`."""
    low, high = 0, MACHINES_MAX
    while low < high:
        middle = (low + high + 1) // 2
        full = max(_busy(costs, middle, stages, group_size, interval_ms).values()) > 1.0
        low, high = (low, middle - 1) if full else (middle, high)
    return low


def _busy(costs: Costs, machines: int, stages: int, group_size: int, ms: float) -> dict[str, float]:
    heard = _reports(machines, ms) * costs.report.at(machines)
    shuffled = (min(machines, REDUCERS) + machines) * costs.message if stages > 1 else 0.0
    return {
        "coordinator": (costs.launch.at(machines) / group_size + heard) / ms,
        "worker": (costs.worker + shuffled) / ms,
        "source": (costs.source + 2 * machines * costs.message) / ms,
    }


# --- as a table -----------------------------------------------------------------------------

HEAD = (
    "machines",
    "stages",
    "coordinator busy",
    "worker busy",
    "source busy",
    "breaks first",
    "fastest batch, ms",
    "machines at most",
)


def table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Lines under `HEAD`, with groups of 100 and batches of 100 ms; none where costs cannot be fitted."""
    costs = fitted(rows)
    if costs is None:
        return []
    every = [seen(costs, n, stages, GROUP_SIZE, INTERVAL_MS) for stages in (1, 2) for n in MACHINES]
    return [
        (
            f"{one.machines:,}",
            str(one.stages),
            *(f"{share:.1%}" for share in one.busy.values()),
            one.first,
            f"{one.fastest_ms:.3g}",
            f"{machines_max(costs, one.stages, GROUP_SIZE, INTERVAL_MS):,}",
        )
        for one in every
    ]


def stated(rows: Sequence[Row]) -> str:
    """The fitted costs in a sentence; empty where they cannot be fitted."""
    costs = fitted(rows)
    if costs is None:
        return ""
    launch, report = costs.launch, costs.report
    return (
        f"Costs in ms of processor time: launching a group {launch.base:.3g} + {launch.slope:.3g} n,"
        f" hearing a report {report.base:.3g} + {report.slope:.3g} n, a worker {costs.worker:.3g} and"
        f" a source {costs.source:.3g} per batch, a message {costs.message:.3g}."
    )


def main() -> int:
    """Print the table of a result of `drizzle bench scheduling --json`."""
    if len(sys.argv) != 2:
        print("usage: python -m drizzle_benchmarks.scheduling_model scheduling.json", file=sys.stderr)
        return 2
    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    lines = table(rows)
    if not lines:
        print("wanted groups of two sizes, one and two stages, two numbers of workers", file=sys.stderr)
        return 1
    print(stated(rows))
    for line in (HEAD, *lines):
        print(" | ".join(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())

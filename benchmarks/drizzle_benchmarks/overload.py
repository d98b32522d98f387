"""Three times as many events as can be kept up with, for a minute: is anything lost, how large does it get.

First the highest rate that is kept up with is looked for, as in `latency`. Then a tenth of it is the usual
load, and for a minute three times of it are due. No process may die or outgrow its memory, and counts must
be exact. What producers held back is sent meanwhile and afterwards, beside the usual load, until the
backlog is worked off and latency is normal again.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from drizzle_benchmarks.latency import Search, measured
from drizzle_benchmarks.live import LiveSettings
from drizzle_benchmarks.numbers import listed, numbers
from drizzle_benchmarks.outages import outage
from drizzle_benchmarks.processes import resident_mib
from drizzle_benchmarks.report import Claim, Report, Row, exact_claim
from drizzle_benchmarks.runs import BATCH_INTERVAL_MS, WINDOW_MS, Loaded, under_load
from drizzle_benchmarks.scraping import load_began, total
from drizzle_streams.errors import DrizzleError, explain
from drizzle_streams.local.cluster import LocalCluster

NAME = "overload"
FACTOR = 3
USUAL_SHARE = 0.1
"""Of the rate that can be kept up with: the load before and after."""
RATES = (50_000, 100_000, 200_000, 400_000)
SEARCH_S, SEARCH_WARM_UP_S = 9.0, 3.0
CALM_S = 8.0
"""Seconds of load before the overload: what is normal has to be known."""
AFTER_S_PER_S = (FACTOR - 1) / (1 - USUAL_SHARE)
"""What was too much in a second of overload takes so many seconds beside the usual load."""
SLACK = 1.15
"""How much longer than that it may take: a rate is found in steps, and large batches are cheaper."""
LOOK_S = 1.0
LATE_MS_MIN = 1_000.0
"""Windows that are not later than that say that it was no overload."""
BACKLOG_S_MAX = 1.0
"""Of the usual load: what may lie in the logs at the end."""
MEMORY_MIB = {"worker": 350, "source": 200, "coordinator": 150}
"""Resident at most, of each service."""


@dataclass(slots=True)
class Watch:
    """Looks at a cluster for as long as the load lasts; remembers what it saw."""

    seconds: float
    began_at_ms: float = 0.0
    deaths: int = 0
    lag_max_ms: float = 0.0
    backlog_max: float = 0.0
    backlog_end: float = 0.0
    resident_mib: dict[str, float] = field(default_factory=dict[str, float])

    async def __call__(self, cluster: LocalCluster) -> None:
        """From the first records on."""
        await load_began(cluster)
        self.began_at_ms = time.time() * 1000.0
        ends_at = time.monotonic() + self.seconds
        while (rest_s := ends_at - time.monotonic()) > 0.0:
            await asyncio.sleep(min(LOOK_S, rest_s))
            await self._look(cluster)

    async def _look(self, cluster: LocalCluster) -> None:
        services = [service for role in MEMORY_MIB for service in cluster.of_role(role)]
        self.deaths = sum(service.starts - 1 for service in services)
        for service in services:
            if service.pid is not None:
                found = max(self.resident_mib.get(service.role, 0.0), resident_mib(service.pid))
                self.resident_mib[service.role] = found
        jobs = (await cluster.ask("/jobs"))["jobs"]
        self.lag_max_ms = max([self.lag_max_ms, *(job["frontier_lag"]["ms"] for job in jobs)])
        self.backlog_end = await total(cluster, "source", "drizzle_backlog_records")
        self.backlog_max = max(self.backlog_max, self.backlog_end)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the rate is looked for, and how long the overload is."""
    parser.add_argument("--rates", type=numbers, default=RATES, help=f"tried first ({listed(RATES)})")
    parser.add_argument("--halvings", type=int, default=1, help="after the first rate too high (%(default)s)")
    parser.add_argument("--overload-seconds", type=float, default=60.0, help="of overload (%(default)s)")


async def run(arguments: argparse.Namespace) -> Report:
    """Find the rate; then calm, overload, and all that it takes to work it off."""
    rate = await _sustainable(arguments.rates, arguments.halvings)
    usual, overload_s = round(rate * USUAL_SHARE), arguments.overload_seconds
    normal_within_s = round(overload_s * AFTER_S_PER_S * SLACK + CALM_S, 1)
    seconds = CALM_S + overload_s + normal_within_s + CALM_S
    watch = Watch(seconds)
    surge = f"{CALM_S:g}:{overload_s:g}:{FACTOR * rate}"
    found = await under_load(usual, seconds, speculation=False, disturb=watch, surge=surge)
    row = _row(found, watch, rate, overload_s)
    stated = {
        "factor": FACTOR,
        "overload_seconds": overload_s,
        "seconds": seconds,
        "batch_interval_ms": BATCH_INTERVAL_MS,
        "window_ms": WINDOW_MS,
    }
    overloaded_at_ms = watch.began_at_ms + CALM_S * 1000.0
    shown: Mapping[str, Any] = {
        "event": row["event"],
        "fault_at_ms": overloaded_at_ms,
        "windows": found.windows,
    }
    return Report(NAME, stated, [row], _claims(row, normal_within_s), [shown])


async def _sustainable(rates: tuple[int, ...], halvings: int) -> int:
    """The highest rate that was kept up with, exactly. Raises `DrizzleError` where none was."""
    search, best = Search(rates, halvings), 0
    while (rate := search.next()) is not None:
        row = await measured(LiveSettings(rate, BATCH_INTERVAL_MS, SEARCH_S, SEARCH_WARM_UP_S))
        kept_up = bool(row["sustained"] and row["exact"])
        best = max(best, rate * kept_up)
        search.found(kept_up=kept_up)
    if not best:
        wanted, remedy = "a rate that is kept up with", "Try lower --rates, or when the machine does less."
        found = f"none of {listed(sorted(rates))}"
        raise DrizzleError(explain("bench overload", wanted=wanted, found=found, remedy=remedy))
    return best


def _row(found: Loaded, watch: Watch, rate: int, overload_s: float) -> Row:
    seen = outage(found.windows, watch.began_at_ms + CALM_S * 1000.0)
    total_s = seen.seconds_to_normal
    return {
        "event": f"{FACTOR} times {rate} events/s for {overload_s:g} s",
        "sustainable_rate": rate,
        "exact": bool(found.report["exact"]),
        "sent": found.report["sent"],
        "normal_window_latency_ms": round(seen.normal_ms, 1),
        "peak_window_latency_ms": round(seen.peak_ms, 1),
        "seconds_to_normal": None if total_s is None else round(max(0.0, total_s - overload_s), 3),
        "replayed_batches": found.report["replayed_batches"],
        "survivors_max_gap_ms": round(seen.first_rows_max_gap_ms, 1),
        "lag_max_ms": round(watch.lag_max_ms, 1),
        "backlog_max": round(watch.backlog_max),
        "backlog_end": round(watch.backlog_end),
        "posts_held_back": found.report["throttled"],
        "deaths": watch.deaths,
        "resident_mib": {role: round(mib, 1) for role, mib in watch.resident_mib.items()},
    }


def _claims(row: Row, normal_within_s: float) -> list[Claim]:
    late_ms = row["peak_window_latency_ms"]
    backlog_max = row["sustainable_rate"] * USUAL_SHARE * BACKLOG_S_MAX
    claims = [
        exact_claim([row]),
        Claim("processes that died", float(row["deaths"]), 0, "processes"),
        Claim("windows were late by", late_ms, LATE_MS_MIN, "ms", at_least=True),
        Claim("backlog at the end", row["backlog_end"], backlog_max, "records"),
        Claim("latency is normal again after the overload", row["seconds_to_normal"], normal_within_s, "s"),
    ]
    for role, bound in MEMORY_MIB.items():
        claims.append(Claim(f"memory of a {role}", row["resident_mib"].get(role), bound, "MiB"))
    return claims

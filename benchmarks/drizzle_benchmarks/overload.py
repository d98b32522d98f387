"""Workers get far more than they can do, for a minute: is anything lost, how large does anything get.

The load stays and the workers are slowed: real SIGSTOP and SIGCONT leave both a third of the time that
they were busy before, and half of that again while they still keep up, since larger batches cost less.
No process may die or outgrow its memory, and counts must be exact. Afterwards what producers held back
is sent, the backlog is worked off and latency becomes normal again.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from drizzle_benchmarks.outages import Window, outage
from drizzle_benchmarks.processes import resident_mib
from drizzle_benchmarks.report import Claim, Report, Row
from drizzle_benchmarks.runs import WINDOW_MS, show_nothing
from drizzle_streams.local.cluster import LocalCluster
from drizzle_streams.local.demo import DemoSettings, run_demo

NAME = "overload"
FACTOR = 3.0
CALM_S = 8.0
"""Seconds of load before the overload: what is normal, and how busy workers are, has to be known."""
LOOKS = 8
"""How often it is asked, over the last seconds before, how busy workers are."""
PERIOD_S = 0.4
"""Workers run for a share of each period: far shorter than a lease."""
SHARE_MIN = 0.02
KEEPS_UP_MS = 500.0
"""With less lag than that, workers still keep up: they get half the time."""
HALVE_EVERY_S = 2.0
MEMORY_MIB = {"worker": 350, "source": 200, "coordinator": 150}
"""Resident at most, of each service: what the engine promises at this rate."""


@dataclass(slots=True)
class Squeeze:
    """Slows all workers for `seconds`; remembers what it saw."""

    seconds: float
    began_at_ms: float = 0.0
    ended_at_ms: float = 0.0
    busy: float = 0.0
    share: float = 1.0
    deaths: int = 0
    lag_max_ms: float = 0.0
    resident_mib: dict[str, float] = field(default_factory=dict[str, float])

    async def __call__(self, cluster: LocalCluster) -> None:
        """From `CALM_S` on; then it watches until the load ends, when it is cancelled or done."""
        self.busy = await _busy(cluster)
        self.share = min(1.0, max(SHARE_MIN, self.busy / FACTOR))
        self.began_at_ms = time.time() * 1000.0
        look_at = time.monotonic() + HALVE_EVERY_S
        ends_at = time.monotonic() + self.seconds
        while time.monotonic() < ends_at:
            await self._period(cluster)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + HALVE_EVERY_S
                await self._tighten(cluster)
        self.ended_at_ms = time.time() * 1000.0
        self._look(cluster)

    async def _tighten(self, cluster: LocalCluster) -> None:
        jobs = (await cluster.ask("/jobs"))["jobs"]
        self.lag_max_ms = max([self.lag_max_ms, *(job["frontier_lag"]["ms"] for job in jobs)])
        if self.lag_max_ms < KEEPS_UP_MS:
            self.share = max(SHARE_MIN, self.share / 2.0)

    async def _period(self, cluster: LocalCluster) -> None:
        workers = cluster.of_role("worker")
        for worker in workers:
            worker.signal(signal.SIGSTOP)
        try:
            self._look(cluster)
            await asyncio.sleep(PERIOD_S * (1.0 - self.share))
        finally:
            for worker in workers:
                worker.signal(signal.SIGCONT)
        await asyncio.sleep(PERIOD_S * self.share)

    def _look(self, cluster: LocalCluster) -> None:
        services = [service for role in MEMORY_MIB for service in cluster.of_role(role)]
        self.deaths = sum(service.starts - 1 for service in services)
        for service in services:
            if service.pid is not None:
                found = max(self.resident_mib.get(service.role, 0.0), resident_mib(service.pid))
                self.resident_mib[service.role] = found


async def _busy(cluster: LocalCluster) -> float:
    """The share of their time that workers computed, over the last seconds of the calm."""
    await asyncio.sleep(CALM_S / 2)
    seen: list[float] = []
    for _ in range(LOOKS):
        await asyncio.sleep(CALM_S / 2 / LOOKS)
        seen += [float(worker["busy"]) for worker in (await cluster.ask("/status"))["workers"]]
    return median(seen) if seen else 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much load, for how long."""
    parser.add_argument("--rate", type=int, default=20_000, help="events per second (default: 20000)")
    parser.add_argument("--overload-seconds", type=float, default=60.0, help="length of the overload (60)")
    parser.add_argument("--after-seconds", type=float, default=60.0, help="load after it (60)")


async def run(arguments: argparse.Namespace) -> Report:
    """One run: calm, overload, afterwards."""
    squeeze = Squeeze(arguments.overload_seconds)
    seconds = CALM_S + arguments.overload_seconds + arguments.after_seconds
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        settings = DemoSettings(
            directory=Path(folder),
            rate=arguments.rate,
            seconds=seconds,
            window=f"{WINDOW_MS}ms",
            window_ms=WINDOW_MS,
            kill="none",
            speculation=False,
            disturb=squeeze,
        )
        found = await run_demo(settings, show_nothing)
    windows = [(float(end), float(last), float(first)) for end, last, first in found["latency_ms_by_window"]]
    row = _row(found, windows, squeeze)
    shown: Mapping[str, Any] = {
        "event": row["event"],
        "fault_at_ms": squeeze.began_at_ms,
        "windows": windows,
    }
    stated = {"rate": arguments.rate, "seconds": seconds, "factor": FACTOR, "batch_interval_ms": 50}
    return Report(NAME, stated, [row], _claims(row), [shown])


def _row(found: Mapping[str, Any], windows: list[Window], squeeze: Squeeze) -> Row:
    measured = outage(windows, squeeze.began_at_ms)
    overload_s = (squeeze.ended_at_ms - squeeze.began_at_ms) / 1000.0
    total_s = measured.seconds_to_normal
    return {
        "event": f"workers stopped {1 - squeeze.share:.0%} of the time for {overload_s:.0f} s",
        "exact": bool(found["exact"]),
        "sent": found["sent"],
        "normal_window_latency_ms": round(measured.normal_ms, 1),
        "peak_window_latency_ms": round(measured.peak_ms, 1),
        "seconds_to_normal": None if total_s is None else round(max(0.0, total_s - overload_s), 3),
        "replayed_batches": found["replayed_batches"],
        "survivors_max_gap_ms": round(measured.first_rows_max_gap_ms, 1),
        "busy_before": round(squeeze.busy, 3),
        "share_of_time": round(squeeze.share, 3),
        "lag_max_ms": round(squeeze.lag_max_ms, 1),
        "posts_held_back": found["throttled"],
        "deaths": squeeze.deaths,
        "resident_mib": {role: round(mib, 1) for role, mib in squeeze.resident_mib.items()},
    }


def _claims(row: Row) -> list[Claim]:
    claims = [
        Claim("runs with exact counts", float(row["exact"]), 1, "runs", at_least=True),
        Claim("processes that died", float(row["deaths"]), 0, "processes"),
        Claim("workers fell behind by", row["lag_max_ms"], KEEPS_UP_MS, "ms", at_least=True),
        Claim("latency is normal again after the overload", row["seconds_to_normal"], 60.0, "s"),
    ]
    for role, bound in MEMORY_MIB.items():
        claims.append(Claim(f"memory of a {role}", row["resident_mib"].get(role), bound, "MiB"))
    return claims

"""The Yahoo Streaming Benchmark live: load generator, sources, workers and Redis, and what each of them took.

A run begins with a warm-up, in which everything is loaded and compiled; its windows must be exact like all
others and are left out of latencies, processor times and batches.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from drizzle_benchmarks.processes import children, cpu_s, resident_mib
from drizzle_benchmarks.runs import show_nothing
from drizzle_benchmarks.scraping import load_began, total
from drizzle_streams.api.job import Job
from drizzle_streams.local.cluster import LocalCluster
from drizzle_streams.local.demo import JOB, DemoSettings, Pack, run_demo

WINDOW_MS = 1_000
LOOK_S = 1.0
MARGIN_S = 0.5
"""The last look is taken so long before the load ends, and the first so long after the warm-up."""
DRIFT_RATIO_MAX = 2.0
DRIFT_MS_MIN = 250.0
"""Kept up with: windows of the last third at most twice as late as those of the first, or so late."""

Batch = tuple[int, float, float]
"""Number, when it was sealed (cluster time, ms), how long after that it was done (ms)."""


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """One run. `seconds` of load, of which the first `warm_up_s` only count for exactness."""

    rate: int
    batch_interval_ms: float
    seconds: float = 20.0
    warm_up_s: float = 6.0
    workers: int = 2
    sources: int = 2
    group_size: int = 20
    pack: Pack = Job.to_bytes


@dataclass(frozen=True, slots=True)
class Live:
    """What came of a run: the demo's report, the load generator's, and what was seen after the warm-up."""

    report: Mapping[str, Any]
    load: Mapping[str, Any]
    batches: Sequence[Batch]
    cpu_cores: Mapping[str, float]
    resident_mib: Mapping[str, float]
    shuffle_bytes_per_batch: float
    overhead: float = 0.0
    """Of the coordinator, seconds of launching groups per second."""

    @property
    def exact(self) -> bool:
        """Whether every count of every window is what the oracle says."""
        return bool(self.report["exact"])

    @property
    def sustained(self) -> bool:
        """Whether the system kept up: nothing was held back, and windows did not become later and later."""
        held_back = [self.load[name] for name in ("throttled", "refused", "overloads")]
        return not any(held_back) and self.load["stopped"] is None and not self._drifts

    @property
    def _drifts(self) -> bool:
        late = [float(last) for _, last, _ in self.report["latency_ms_by_window"]]
        third = max(1, len(late) // 3)
        if not late:
            return True
        return median(late[-third:]) > max(DRIFT_MS_MIN, DRIFT_RATIO_MAX * median(late[:third]))


@dataclass(slots=True)
class Meter:
    """Looks at the processes of a cluster from the warm-up to just before the load ends."""

    settings: LiveSettings
    batches: list[Batch] = field(default_factory=list[Batch])
    cpu_cores: dict[str, float] = field(default_factory=dict[str, float])
    resident_mib: dict[str, float] = field(default_factory=dict[str, float])
    shuffle_bytes_per_batch: float = 0.0
    overhead: float = 0.0

    async def __call__(self, cluster: LocalCluster) -> None:
        """Look; ends before the load does."""
        await load_began(cluster)
        began = time.monotonic()
        await asyncio.sleep(self.settings.warm_up_s + MARGIN_S)
        first_ms, bytes_before = time.time() * 1000.0, await _shuffled(cluster)
        spent_before_s = await _coordination_s(cluster)
        before, since = _cpu(cluster), time.monotonic()
        ends = began + self.settings.seconds - MARGIN_S
        while (rest_s := ends - time.monotonic()) > 0.0:
            await asyncio.sleep(min(LOOK_S, rest_s))
            self._weigh(cluster)
        after, spent_s = _cpu(cluster), time.monotonic() - since
        self.cpu_cores = _cores(before, after, spent_s)
        self.overhead = (await _coordination_s(cluster) - spent_before_s) / spent_s
        bytes_after = await _shuffled(cluster)
        self.batches = await batches_since(cluster, JOB, first_ms)
        if self.batches:
            self.shuffle_bytes_per_batch = (bytes_after - bytes_before) / len(self.batches)

    def _weigh(self, cluster: LocalCluster) -> None:
        for role, pid in _processes(cluster):
            self.resident_mib[role] = round(max(self.resident_mib.get(role, 0.0), resident_mib(pid)), 1)


async def run_live(settings: LiveSettings) -> Live:
    """One run on a cluster of its own. Raises `DrizzleError` where it cannot be run."""
    meter = Meter(settings)
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        demo = DemoSettings(
            directory=Path(folder),
            rate=settings.rate,
            seconds=settings.seconds,
            workers=settings.workers,
            sources=settings.sources,
            batch_interval_ms=settings.batch_interval_ms,
            window=f"{WINDOW_MS}ms",
            window_ms=WINDOW_MS,
            kill="none",
            group_size=settings.group_size,
            disturb=meter,
            pack=settings.pack,
            warm_up_s=settings.warm_up_s,
        )
        report = await run_demo(demo, show_nothing)
        load = json.loads((demo.directory / "run.json").read_text())
    return Live(
        report,
        load,
        meter.batches,
        meter.cpu_cores,
        meter.resident_mib,
        meter.shuffle_bytes_per_batch,
        meter.overhead,
    )


async def batches_since(cluster: LocalCluster, job: str, since_ms: float) -> list[Batch]:
    """The batches of a job that were sealed at that time (Unix ms) or later."""
    answer = await cluster.ask(f"/jobs/{job}/batches")
    return [(int(batch), at_ms, took_ms) for batch, at_ms, took_ms in answer["batches"] if at_ms >= since_ms]


async def _coordination_s(cluster: LocalCluster) -> float:
    return float((await cluster.ask(f"/jobs/{JOB}"))["coordination_seconds"])


async def _shuffled(cluster: LocalCluster) -> float:
    return await total(cluster, "worker", "drizzle_shuffle_bytes_total")


def _processes(cluster: LocalCluster) -> list[tuple[str, int]]:
    """Role and pid of everything that runs: services, Redis, the load generator."""
    found = [(one.role, one.pid) for one in cluster.services.values() if one.pid is not None]
    if cluster.redis.pid is not None:
        found.append(("redis", cluster.redis.pid))
    return found + [("loadgen", pid) for pid in children(os.getpid(), "drizzle_loadgen")]


def _cpu(cluster: LocalCluster) -> dict[tuple[str, int], float]:
    return {(role, pid): cpu_s(pid) for role, pid in _processes(cluster)}


def _cores(
    before: Mapping[tuple[str, int], float], after: Mapping[tuple[str, int], float], spent_s: float
) -> dict[str, float]:
    """Processors that each role kept busy; a process that began anew counts from its start."""
    found: dict[str, float] = {}
    for (role, pid), seconds in after.items():
        found[role] = found.get(role, 0.0) + (seconds - before.get((role, pid), 0.0)) / spent_s
    return {role: round(cores, 3) for role, cores in found.items()}

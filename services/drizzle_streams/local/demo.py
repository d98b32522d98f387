"""The demo: the whole system on this machine, under load, with a kill -9, checked to the last count.

Everything is real: processes, Redis, the load generator and its oracle are what users run.
The oracle recomputes every window from the seed; the demo only brings the parts together.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from drizzle_streams.api.client import submit
from drizzle_streams.api.job import Job
from drizzle_streams.errors import DrizzleError
from drizzle_streams.local.cluster import LocalCluster, LocalSettings
from drizzle_streams.local.load import load
from drizzle_streams.local.outage import USUAL_FOR_S, Outage
from drizzle_streams.local.together import together
from drizzle_streams.local.ysb import COUNT_FIELD, SINK_PREFIX, STREAM, ysb_job
from drizzle_streams.protocol.tokens import TokenKind, credential

if TYPE_CHECKING:
    from drizzle_streams.api.settings import SchedulingMode

JOB = "ysb"
STATUS_INTERVAL_S = 0.5
CHECK_TIMEOUT_S = 60
LOAD_SLACK_S = 180.0
"""How long beyond its schedule the load generator may take to deliver everything."""
BLOCKS_PER_BATCH = 5
"""Posts in a batch interval; each goes to one of the sources in turn."""
BLOCK_MS_MIN = 5.0
BLOCK_MS_SURGE = 2.0
"""Blocks have one size, so at other times this is many times longer."""
KILLS = ("worker", "coordinator", "source", "redis", "none")

Values = dict[str, Any]
Disturb = Callable[[LocalCluster], Coroutine[Any, Any, None]]
"""Something done to the cluster while the load runs; it begins and ends with it."""
Pack = Callable[[Job], bytes]
"""A job as it is posted; `Job.to_bytes`, unless a benchmark changes what was compiled."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What is asked of a demo run; `kill` names who gets SIGKILL half-way.

    For benchmarks: `disturb`; `pack`, which makes the job what is posted; `warm_up_s`, the seconds whose
    windows count for exactness, but not for latency; `surge`, a time with another rate, as the load
    generator takes it.
    """

    directory: Path
    rate: int = 20_000
    seconds: float = 30.0
    workers: int = 2
    sources: int = 2
    batch_interval_ms: float = 50.0
    window: str = "10s"
    window_ms: int = 10_000
    kill: str = "worker"
    standby: bool = False
    scheduling: SchedulingMode = "group"
    group_size: int | Literal["auto"] = "auto"
    seed: int = 0
    speculation: bool = True
    disturb: Disturb | None = None
    pack: Pack = Job.to_bytes
    warm_up_s: float = 0.0
    surge: str = ""

    @property
    def block_ms(self) -> float:
        """Span of the events in one post: producers batch, too, more finely than the cluster does."""
        if self.surge:
            return BLOCK_MS_SURGE
        return max(BLOCK_MS_MIN, self.batch_interval_ms / BLOCKS_PER_BATCH)


@dataclass(slots=True)
class DemoState:
    """What a live view shows: the newest word of everybody."""

    phase: str = "starting"
    load: Values = field(default_factory=dict)
    job: Values = field(default_factory=dict)
    cluster: Values = field(default_factory=dict)
    killed: str = ""


Show = Callable[[DemoState], None]


async def run_demo(settings: DemoSettings, show: Show) -> Values:
    """Run it; the report has the keys of the contract. Raises `DrizzleError` where it cannot be run."""
    began = time.monotonic()
    state = DemoState()
    show(state)
    local = LocalSettings(
        settings.directory,
        workers=settings.workers,
        sources=settings.sources,
        standbys=int(settings.standby),
    )
    async with LocalCluster(local) as cluster:
        run = _Run(settings, cluster, state, show)
        report = await run.report()
    report["wall_seconds"] = round(time.monotonic() - began, 3)
    return report


class _Run:
    """One run on a running cluster."""

    def __init__(self, settings: DemoSettings, cluster: LocalCluster, state: DemoState, show: Show) -> None:
        self.settings, self.cluster, self.state, self.show = settings, cluster, state, show
        self.ads = settings.directory / "ads.parquet"
        self.run_file = settings.directory / "run.json"
        self.verdict_file = settings.directory / "verdict.json"
        self.outage = Outage(self._lag_ms, settings.batch_interval_ms)
        self.outage_s = 0.0
        self.killed_at_ms: float | None = None

    async def report(self) -> Values:
        """Submit, load, kill, check, report; ends early when the cluster cannot go on."""
        work = asyncio.create_task(self._work())
        helpers = [asyncio.create_task(self._watch()), asyncio.create_task(self.cluster.failed())]
        try:
            await asyncio.wait({work, *helpers}, return_when=asyncio.FIRST_COMPLETED)
            for task in helpers:
                if task.done():
                    await task  # it ends only by failing
            return await work
        finally:
            for task in (work, *helpers):
                task.cancel()
            await asyncio.gather(work, *helpers, return_exceptions=True)

    async def _work(self) -> Values:
        await self._loadgen("ads", "--seed", str(self.settings.seed), "--out", str(self.ads))
        await self._submit()
        self._phase("running")
        disturb = self.settings.disturb
        await together(self._load(), disturb(self.cluster) if disturb else self._kill_half_way())
        self._phase("checking")
        verdict = await self._check()
        job = await self.cluster.ask(f"/jobs/{JOB}")
        self._phase("stopping")
        return self._report(json.loads(self.run_file.read_text()), verdict, job)

    async def _submit(self) -> None:
        settings = self.settings
        job = ysb_job(
            self.ads,
            window=settings.window,
            batch_interval=f"{settings.batch_interval_ms:g}ms",
            scheduling=settings.scheduling,
            group_size=settings.group_size,
            name=JOB,
            speculation=settings.speculation,
        )
        data = settings.pack(job)
        await asyncio.to_thread(submit, data, cluster=self.cluster.address, token=self.cluster.token)

    async def _load(self) -> None:
        settings = self.settings
        await self._loadgen(
            "run",
            "--sources",
            ",".join(self.cluster.source_addresses),
            "--stream",
            STREAM,
            "--seed",
            str(settings.seed),
            "--rate",
            str(settings.rate),
            "--seconds",
            str(settings.seconds),
            "--block-ms",
            f"{settings.block_ms:g}",
            *(["--surge", settings.surge] if settings.surge else []),
            "--progress",
            "--json",
            str(self.run_file),
            timeout_s=settings.seconds + LOAD_SLACK_S,
        )

    async def _kill_half_way(self) -> None:
        if self.settings.kill == "none":
            return
        await asyncio.sleep(max(0.0, self.settings.seconds / 2 - USUAL_FOR_S))
        await self.outage.learn()
        self.state.killed = await self._killed()
        self.killed_at_ms = time.time() * 1000.0
        self.show(self.state)
        self.outage_s = await self.outage.seconds()

    async def _killed(self) -> str:
        """SIGKILL, to the coordinator that leads where there are two; who it was."""
        if self.settings.kill != "coordinator":
            return self.cluster.kill(self.settings.kill)
        leader = await self.cluster.leader()
        leader.signal(signal.SIGKILL)
        return leader.name

    async def _lag_ms(self) -> float | None:
        try:
            answer = await self.cluster.ask("/jobs")
        except DrizzleError:
            return None
        lags = [job["frontier_lag"]["ms"] for job in answer["jobs"] if job["job"] == JOB]
        return float(lags[0]) if lags else None

    async def _check(self) -> Values:
        await self._loadgen(
            "check",
            "--run",
            str(self.run_file),
            "--redis",
            self.cluster.redis.url,
            "--prefix",
            SINK_PREFIX,
            "--field",
            COUNT_FIELD,
            "--window-ms",
            str(self.settings.window_ms),
            "--warm-up",
            str(self.settings.warm_up_s),
            "--timeout",
            str(CHECK_TIMEOUT_S),
            "--json",
            str(self.verdict_file),
            timeout_s=CHECK_TIMEOUT_S + 60.0,
            statuses=(0, 1),
        )
        return json.loads(self.verdict_file.read_text())

    async def _loadgen(
        self, *arguments: str, timeout_s: float = 60.0, statuses: tuple[int, ...] = (0,)
    ) -> None:
        """The load generator as a process of its own; its progress lines feed the view."""
        await load(arguments, self._ingest_token(), self._loaded, timeout_s=timeout_s, statuses=statuses)

    def _loaded(self, progress: Values) -> None:
        self.state.load = progress

    def _ingest_token(self) -> str:
        ttl_s = self.settings.seconds + LOAD_SLACK_S
        return credential(self.cluster.token, TokenKind.INGEST, time.time(), subject=STREAM, ttl_s=ttl_s)

    async def _watch(self) -> None:
        """Keep the view true; a coordinator that was killed answers again soon."""
        while True:
            with suppress(DrizzleError):
                self.state.cluster = await self.cluster.ask("/status")
                self.state.job = await self.cluster.ask(f"/jobs/{JOB}")
            self.show(self.state)
            await asyncio.sleep(STATUS_INTERVAL_S)

    def _phase(self, phase: str) -> None:
        self.state.phase = phase
        self.show(self.state)

    def _report(self, load: Values, verdict: Values, job: Values) -> Values:
        latency = job.get("batch_latency_ms") or {}
        # The coordinator times a recovery from its verdict on, we from the kill, to the next reading.
        recovered_s = max((recovery["seconds"] for recovery in job["recoveries"]), default=0.0)
        return {
            "sent": load["sent"],
            "throttled": load["throttled"],
            "counted": verdict["counted"],
            "exact": bool(verdict["exact"]) and load["sent"] == load["acknowledged"],
            "windows": verdict["windows"],
            "duplicates": verdict["duplicates"],
            "lost": verdict["lost"],
            "batches": job["batches_done"],
            "group_size": job["group_size"],
            "latency_ms": verdict["latency_ms"],
            "batch_latency_ms": latency.get("all"),
            "recovery_seconds": round(max(self.outage_s, recovered_s), 3),
            "wall_seconds": 0.0,
            "killed": self.state.killed,
            "killed_at_ms": self.killed_at_ms,
            "latency_ms_by_window": verdict["by_window"],
            "replayed_batches": sum(recovery["replayed_batches"] for recovery in job["recoveries"]),
            "settings": {
                "rate": self.settings.rate,
                "seconds": self.settings.seconds,
                "workers": self.settings.workers,
                "sources": self.settings.sources,
                "batch_interval_ms": self.settings.batch_interval_ms,
                "block_ms": self.settings.block_ms,
                "window": self.settings.window,
                "scheduling": self.settings.scheduling,
                "seed": self.settings.seed,
            },
        }

"""The demo: the whole system on this machine, under load, with a kill -9, checked to the last count.

Everything is real: processes, Redis, the load generator and its oracle are what users run.
The oracle recomputes every window from the seed; the demo only brings the parts together.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drizzle_streams.errors import DrizzleError
from drizzle_streams.local.cluster import LocalCluster, LocalSettings
from drizzle_streams.local.ysb import COUNT_FIELD, SINK_PREFIX, STREAM, ysb_job

JOB = "ysb"
STATUS_INTERVAL_S = 0.5
CHECK_TIMEOUT_S = 60
LOAD_SLACK_S = 180.0
"""How long beyond its schedule the load generator may take to deliver everything."""
KILLS = ("worker", "coordinator", "source", "redis", "none")

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What is asked of a demo run; `kill` names who gets SIGKILL half-way."""

    directory: Path
    rate: int = 20_000
    seconds: float = 30.0
    workers: int = 2
    sources: int = 2
    batch_interval_ms: float = 50.0
    window: str = "10s"
    window_ms: int = 10_000
    kill: str = "worker"
    scheduling: str = "group"
    group_size: int = 20
    seed: int = 0


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
    local = LocalSettings(settings.directory, workers=settings.workers, sources=settings.sources)
    async with LocalCluster(local) as cluster:
        run = _Run(settings, cluster, state, show)
        report = await run.everything()
    report["wall_seconds"] = round(time.monotonic() - began, 3)
    return report


class _Run:
    """One run on a running cluster."""

    def __init__(self, settings: DemoSettings, cluster: LocalCluster, state: DemoState, show: Show) -> None:
        self.settings, self.cluster, self.state, self.show = settings, cluster, state, show
        self.ads = settings.directory / "ads.parquet"
        self.run_file = settings.directory / "run.json"
        self.verdict_file = settings.directory / "verdict.json"

    async def everything(self) -> Values:
        """Submit, load, kill, check, report."""
        await self._loadgen("ads", "--seed", str(self.settings.seed), "--out", str(self.ads))
        await self._submit()
        watching = asyncio.create_task(self._watch())
        try:
            await self._load()
            self._phase("checking")
            verdict = await self._check()
            job = await self.cluster.ask(f"/jobs/{JOB}")
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        self._phase("stopping")
        return self._report(json.loads(self.run_file.read_text()), verdict, job)

    async def _submit(self) -> None:
        settings = self.settings
        job = ysb_job(
            self.ads,
            window=settings.window,
            batch_interval=f"{settings.batch_interval_ms:g}ms",
            scheduling=settings.scheduling,  # type: ignore[arg-type]
            group_size=settings.group_size,
            name=JOB,
        )
        await asyncio.to_thread(job.submit, self.cluster.address, token=self.cluster.token)

    async def _load(self) -> None:
        settings = self.settings
        self._phase("running")
        load = asyncio.create_task(
            self._loadgen(
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
                "--progress",
                "--json",
                str(self.run_file),
                timeout_s=settings.seconds + LOAD_SLACK_S,
            )
        )
        killing = asyncio.create_task(self._kill_half_way())
        try:
            await load
        finally:
            killing.cancel()
            load.cancel()
            await asyncio.gather(killing, load, return_exceptions=True)

    async def _kill_half_way(self) -> None:
        if self.settings.kill == "none":
            return
        await asyncio.sleep(self.settings.seconds / 2)
        self.state.killed = await self.cluster.kill(self.settings.kill)
        self.show(self.state)

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
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "drizzle_loadgen",
            *arguments,
            env={**os.environ, "DRIZZLE_INGEST_TOKEN": self.cluster.token},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = asyncio.create_task(process.stderr.read())
        try:
            async with asyncio.timeout(timeout_s):
                async for line in process.stdout:
                    self.state.load = json.loads(line)
                status = await process.wait()
        except TimeoutError as error:
            raise DrizzleError(f"the load generator took longer than {timeout_s:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            words = (await said).decode(errors="replace").strip()
        if status not in statuses:
            raise DrizzleError(f"the load generator failed ({status}): {words[-2000:]}")

    async def _watch(self) -> None:
        """Keep the view true; a coordinator that was killed answers again soon."""
        while True:
            with suppress(DrizzleError):
                self.state.cluster = await self.cluster.ask("/status")
                self.state.job = await self.cluster.ask(f"/jobs/{JOB}")
            if self.cluster.failure is not None and self.cluster.failure.done():
                raise self.cluster.failure.result()
            self.show(self.state)
            await asyncio.sleep(STATUS_INTERVAL_S)

    def _phase(self, phase: str) -> None:
        self.state.phase = phase
        self.show(self.state)

    def _report(self, load: Values, verdict: Values, job: Values) -> Values:
        latency = job.get("batch_latency_ms") or {}
        recoveries = [
            r for r in job.get("recoveries", []) if "lost" in r["reason"] or "restart" in r["reason"]
        ]
        return {
            "sent": load["sent"],
            "counted": verdict["counted"],
            "exact": bool(verdict["exact"]) and load["sent"] == load["acknowledged"],
            "windows": verdict["windows"],
            "duplicates": verdict["duplicates"],
            "lost": verdict["lost"],
            "batches": job["batches_done"],
            "group_size": job["group_size"],
            "latency_ms": verdict["latency_ms"],
            "batch_latency_ms": latency.get("all"),
            "recovery_seconds": round(max((r["seconds"] for r in recoveries), default=0.0), 3),
            "wall_seconds": 0.0,
            "killed": self.state.killed,
            "settings": {
                "rate": self.settings.rate,
                "seconds": self.settings.seconds,
                "workers": self.settings.workers,
                "sources": self.settings.sources,
                "batch_interval_ms": self.settings.batch_interval_ms,
                "window": self.settings.window,
                "scheduling": self.settings.scheduling,
                "seed": self.settings.seed,
            },
        }

"""What scheduling costs where tasks do nothing: barrier, pre-scheduled, and groups of several sizes.

The paper's micro-benchmark (figures 4a and 5b). A real coordinator with its ledger, and many workers in
few processes on loopback (`idle`): real machines, links, transport and codec, one task a worker, batch
and stage; with two stages 16 tasks reduce. Batches are due every millisecond, so they run as fast as
they can. In barrier mode blocks are announced and not fetched, so what it is ahead by is understated.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drizzle_benchmarks.idle import Hosted, Hosts, hosting
from drizzle_benchmarks.numbers import numbers
from drizzle_benchmarks.plots import plot_scheduling
from drizzle_benchmarks.processes import cpu_s
from drizzle_benchmarks.report import Claim, Report, Row
from drizzle_streams.api.client import submit
from drizzle_streams.errors import DrizzleError, explain
from drizzle_streams.local.cluster import LocalCluster, LocalSettings
from drizzle_streams.model.ids import JobId, StageId, StreamId
from drizzle_streams.model.job import JobSpec, Scheduling, StageSpec
from drizzle_streams.protocol.jobfile import JobFile, pack_job

NAME = "scheduling"
WORKERS = (4, 8, 16, 32, 64, 128)
GROUP_SIZES = (1, 10, 25, 50, 100)
REDUCE_TASKS = 16
INTERVAL_MS = 1.0
CHECKPOINT_MS = 100.0
"""With batches of 1 ms a checkpoint each 100 batches: there is no state, so it only lets things go."""
KEY_GROUPS = 1_024
WARM_BATCHES = 20
GROUPS_MIN = 2
"""Groups launched while a mode is measured, at least."""
MEASURED_SPANS_MAX = 6
"""A mode may take so many times `--seconds` to launch them."""
LEASE_MS = 20_000
"""Dozens of workers share an event loop: that it is busy is no death."""
JOIN_S_MAX = 90.0
WARM_S_MAX = 60.0
END_S_MAX = 60.0
POLL_S = 0.1

CPU_MS_MAX = 1.0
CPU_RATIO_MIN = 40.0
BATCH_MS_MAX = {1: 12.0, 2: 30.0}
BATCH_RATIO_MIN = 4.0
PER_GROUP_RATIO_MAX = 1.5
"""What launching a group of 100 may cost over launching one of 10: measured, so not exactly 1."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How batches are scheduled; `group_size` is 1 where there are no groups."""

    scheduling: Scheduling
    group_size: int = 1


@dataclass(frozen=True, slots=True)
class Sample:
    """Totals at one moment; processor times in seconds."""

    at: float
    batches: int
    groups: int
    launch_bytes: int
    launch_s: float
    coordinator_s: float
    members_s: float
    messages: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many workers, which groups, how long."""
    parser.add_argument(
        "--workers", type=numbers, default=WORKERS, help="numbers of workers (4,8,16,32,64,128)"
    )
    parser.add_argument(
        "--group-sizes", type=numbers, default=GROUP_SIZES, help="group sizes (1,10,25,50,100)"
    )
    parser.add_argument("--stages", type=numbers, default=(1, 2), help="stages of the job (1,2)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each is measured (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="that host the workers (%(default)s)")


async def run(arguments: argparse.Namespace) -> Report:
    """Each number of workers on a cluster of its own; its modes one after the other."""
    modes = [Mode(Scheduling.BARRIER), Mode(Scheduling.PRESCHEDULED)]
    modes += [Mode(Scheduling.GROUP, size) for size in arguments.group_sizes]
    rows: list[Row] = []
    for workers in arguments.workers:
        rows += await _cluster(workers, arguments.stages, modes, arguments)
    settings = {
        "seconds": arguments.seconds,
        "processes": arguments.processes,
        "batch_interval_ms": INTERVAL_MS,
        "reduce_tasks": REDUCE_TASKS,
    }
    return Report(NAME, settings, rows, _claims(rows))


def plot(report: Report, path: Path) -> None:
    """Milliseconds per batch over workers, a line per mode."""
    plot_scheduling(report.rows, path)


async def _cluster(
    workers: int, stages: Sequence[int], modes: Sequence[Mode], arguments: argparse.Namespace
) -> list[Row]:
    shares = _shares(workers, min(workers, arguments.processes))
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        settings = LocalSettings(Path(folder), workers=0, sources=0, lease_ms=LEASE_MS)
        async with (
            LocalCluster(settings) as cluster,
            hosting(shares, cluster.address, cluster.token) as hosts,
        ):
            await _joined(cluster, hosts, workers, len(shares))
            return [
                await _measured(cluster, hosts, workers, number, mode, arguments.seconds)
                for number in stages
                for mode in modes
            ]


def _shares(workers: int, processes: int) -> list[Hosted]:
    """Workers spread over processes; each process's source has a partition for each of its workers."""
    sizes = [workers * (n + 1) // processes - workers * n // processes for n in range(processes)]
    return [Hosted(number, size, size) for number, size in enumerate(sizes)]


def job_spec(name: str, stages: int, mode: Mode) -> JobSpec:
    """Tasks that read a stream, and with two stages 16 that take their blocks."""
    reading = StageSpec(StageId(0), 0, stream=StreamId("nothing"))
    reducing = StageSpec(StageId(1), REDUCE_TASKS, inputs=(StageId(0),))
    return JobSpec(
        JobId(name),
        (reading, reducing)[:stages],
        batch_interval_ms=INTERVAL_MS,
        scheduling=mode.scheduling,
        group_size=mode.group_size,
        checkpoint_interval_ms=CHECKPOINT_MS,
        key_groups=KEY_GROUPS,
        replanning=False,
        speculation=False,
    )


async def _measured(
    cluster: LocalCluster, hosts: Hosts, workers: int, stages: int, mode: Mode, seconds: float
) -> Row:
    name = f"{mode.scheduling.value}-{mode.group_size}-{stages}-{time.monotonic_ns()}"
    data = pack_job(JobFile(job_spec(name, stages, mode), b"nothing"))
    await asyncio.to_thread(submit, data, cluster=cluster.address, token=cluster.token)
    warm = WARM_BATCHES + (mode.group_size if mode.scheduling is Scheduling.GROUP else 0)
    before = await _until(cluster, hosts, name, lambda s: s.batches >= warm, WARM_S_MAX)
    await asyncio.sleep(seconds)
    groups = before.groups + GROUPS_MIN
    after = await _until(cluster, hosts, name, lambda s: s.groups >= groups, MEASURED_SPANS_MAX * seconds)
    await cluster.ask(f"/jobs/{name}", "DELETE")
    await _ended(cluster, hosts, name)
    return _row(workers, stages, mode, before, after)


def _row(workers: int, stages: int, mode: Mode, before: Sample, after: Sample) -> Row:
    batches, groups = after.batches - before.batches, after.groups - before.groups

    def ms_per_batch(seconds: float) -> float:
        return round(seconds * 1000.0 / batches, 4)

    return {
        "workers": workers,
        "stages": stages,
        "mode": mode.scheduling.value,
        "group_size": mode.group_size,
        "batches": batches,
        "ms_per_batch": ms_per_batch(after.at - before.at),
        "coordinator_cpu_ms_per_batch": ms_per_batch(after.coordinator_s - before.coordinator_s),
        "members_cpu_ms_per_batch": ms_per_batch(after.members_s - before.members_s),
        "launch_ms_per_group": round((after.launch_s - before.launch_s) * 1000.0 / groups, 4),
        "launch_bytes_per_group": round((after.launch_bytes - before.launch_bytes) / groups, 1),
        "messages_per_batch": round((after.messages - before.messages) / batches, 2),
    }


# --- asking ---------------------------------------------------------------------------------


async def _sample(cluster: LocalCluster, hosts: Hosts, name: str) -> Sample:
    job = await cluster.ask(f"/jobs/{name}")
    if job["phase"] == "failed":
        raise DrizzleError(f"job {name} failed: {job['detail']}")
    coordinator = cluster.of_role("coordinator")[0].pid
    return Sample(
        at=time.monotonic(),
        batches=int(job["batches_done"]),
        groups=int(job["groups_launched"]),
        launch_bytes=int(job["launch_bytes"]),
        launch_s=float(job["coordination_seconds"]),
        coordinator_s=0.0 if coordinator is None else cpu_s(coordinator),
        members_s=sum(cpu_s(pid) for pid in hosts.pids()),
        messages=hosts.messages_sent,
    )


async def _until(cluster: LocalCluster, hosts: Hosts, name: str, fits: Any, within_s: float) -> Sample:
    """The first sample that fits. Raises `DrizzleError` when none does in time."""
    ends_at = time.monotonic() + within_s
    while True:
        sample = await _sample(cluster, hosts, name)
        if fits(sample):
            return sample
        if time.monotonic() > ends_at:
            raise _too_slow(f"job {name}", f"after {within_s:g} s: {sample}")
        await asyncio.sleep(POLL_S)


async def _joined(cluster: LocalCluster, hosts: Hosts, workers: int, sources: int) -> None:
    ends_at = time.monotonic() + JOIN_S_MAX
    while True:
        hosts.check()
        status = await cluster.ask("/status")
        found = (len(status["workers"]), len(status["sources"]))
        if found == (workers, sources):
            return
        if time.monotonic() > ends_at:
            raise _too_slow(f"{workers} workers and {sources} sources", f"{found} after {JOIN_S_MAX:g} s")
        await asyncio.sleep(POLL_S)


async def _ended(cluster: LocalCluster, hosts: Hosts, name: str) -> None:
    """The next job must not share the machine with what is left of this one."""
    ends_at = time.monotonic() + END_S_MAX
    while (await cluster.ask(f"/jobs/{name}"))["phase"] == "stopping":
        hosts.check()
        if time.monotonic() > ends_at:
            raise _too_slow(f"the end of job {name}", f"none after {END_S_MAX:g} s")
        await asyncio.sleep(POLL_S)


def _too_slow(thing: str, found: str) -> DrizzleError:
    remedy = "Take fewer --workers, or a machine that does less."
    return DrizzleError(explain(thing, wanted="to get there in time", found=found, remedy=remedy))


# --- claims ---------------------------------------------------------------------------------


def _claims(rows: list[Row]) -> list[Claim]:
    """What the largest cluster shows with its largest groups, against barrier mode in the same run."""
    return [claim for stages in (1, 2) for claim in _claims_of(stages, rows)]


def _claims_of(stages: int, rows: list[Row]) -> Iterator[Claim]:
    workers = max(int(row["workers"]) for row in rows)
    here = [row for row in rows if row["stages"] == stages and row["workers"] == workers]
    barrier = next((row for row in here if row["mode"] == "barrier"), None)
    groups = sorted((row for row in here if row["mode"] == "group"), key=lambda row: row["group_size"])
    if barrier is None or not groups:
        return
    best = groups[-1]
    place = f"{workers} workers, {stages} stage{'s'[: stages - 1]}, groups of {best['group_size']}"
    yield Claim(f"{place}: time", best["ms_per_batch"], BATCH_MS_MAX[stages], "ms/batch")
    ratio = _ratio(barrier, best, "ms_per_batch")
    yield Claim(f"{place}: time in barrier mode over it", ratio, BATCH_RATIO_MIN, "ratio", at_least=True)
    cpu = "coordinator_cpu_ms_per_batch"
    yield Claim(f"{place}: coordinator's CPU", best[cpu], CPU_MS_MAX, "ms/batch")
    ratio = _ratio(barrier, best, cpu)
    yield Claim(
        f"{place}: coordinator's CPU in barrier mode over it", ratio, CPU_RATIO_MIN, "ratio", at_least=True
    )
    smaller = next((row for row in groups if 1 < row["group_size"] < best["group_size"]), None)
    if smaller is not None:
        name = f"{place}: launching a group, over one of {smaller['group_size']}"
        ratio = _ratio(best, smaller, "launch_ms_per_group")
        yield Claim(f"{name}, time", ratio, PER_GROUP_RATIO_MAX, "ratio")
        ratio = _ratio(best, smaller, "launch_bytes_per_group")
        yield Claim(f"{name}, bytes", ratio, PER_GROUP_RATIO_MAX, "ratio")


def _ratio(over: Mapping[str, Any], under: Mapping[str, Any], key: str) -> float | None:
    return round(over[key] / under[key], 3) if under[key] else None

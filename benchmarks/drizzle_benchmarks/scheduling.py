"""What scheduling costs where tasks do nothing: barrier, pre-scheduled, and groups of several sizes.

The paper's micro-benchmark (figures 4a and 5b). A real coordinator with its ledger, and many workers in
few processes on loopback (`idle`): real machines, links, transport and codec, one task a worker, batch
and stage; with two stages 16 tasks reduce. Batches are due more often than they can be done, so they run
as fast as they can. In barrier mode blocks are announced and not fetched, so what groups gain is understated.

Bounded in time: the largest cluster comes first and what is claimed before the rest; what there is no time
for, or what does not get there, is left out and named.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drizzle_benchmarks.idle import Hosted, Hosts, hosting
from drizzle_benchmarks.numbers import numbers
from drizzle_benchmarks.plots import plot_scheduling
from drizzle_benchmarks.processes import cpu_s
from drizzle_benchmarks.report import Report, Row
from drizzle_benchmarks.scheduling_claims import claims, smaller_than_largest
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
WORKERS_PER_INTERVAL_MS = 64
"""Batches of larger clusters are due more rarely: 0.3 s of them are launched ahead, and done at the end."""
CHECKPOINT_BATCHES = 100
"""There is no state, so a checkpoint only lets things go."""
KEY_GROUPS = 1_024
ORDER = [mode.value for mode in (Scheduling.BARRIER, Scheduling.PRESCHEDULED, Scheduling.GROUP)]
WARM_BATCHES = 20
WARM_ENOUGH_S = 20.0
"""After so long the batches of a whole group are not waited for; those few must be done all the same."""
GROUPS_MIN = 2
"""Groups launched while a mode is measured, else there is no saying what launching one costs."""
MEASURED_SPANS_MAX = 6
"""A mode may take so many times `--seconds` to launch them; after it what was done until then counts."""
BATCHES_MIN = 10
"""Batches done while a mode is measured, at least."""
LEASE_MS = 20_000
"""Dozens of workers share an event loop: that it is busy is no death."""
JOIN_S_MAX = 90.0
WARM_S_MAX = 60.0
END_S_MAX = 30.0
POLL_S = 0.1
SMALLER_SECONDS = 0.25
"""Clusters that are not the largest are measured for that share of `--seconds`: no claim is of them."""
LARGEST_SHARE = 0.5
"""What the largest cluster may take of the whole time; each other one the same part of what is then left."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How batches are scheduled; `group_size` is 1 where there are no groups."""

    scheduling: Scheduling
    group_size: int = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """One row: so many stages in that mode."""

    stages: int
    mode: Mode


class TooSlowError(DrizzleError):
    """Something did not get there in time; the rest may."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Totals at one moment; processor times in seconds."""

    at: float
    batches: int
    groups: int
    launch_bytes: int
    launch_s: float
    launch_cpu_s: float
    launch_turns: int
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
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="how long each of the largest is measured (%(default)s)"
    )
    parser.add_argument("--budget-seconds", type=float, default=290.0, help="of the whole (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="that host the workers (%(default)s)")


async def run(arguments: argparse.Namespace) -> Report:
    """Each number of workers on a cluster of its own; its modes one after the other."""
    wanted = in_order(arguments.stages, arguments.group_sizes)
    sizes = sorted(arguments.workers, reverse=True)
    ends_at = time.monotonic() + arguments.budget_seconds
    rows: list[Row] = []
    left_out: list[Row] = []
    for number, workers in enumerate(sizes):
        left_s = ends_at - time.monotonic()
        share = LARGEST_SHARE if number == 0 and len(sizes) > 1 else 1.0 / (len(sizes) - number)
        seconds = arguments.seconds * (SMALLER_SECONDS if number else 1.0)
        cluster = Clusters(workers, seconds, arguments.processes, time.monotonic() + share * left_s)
        rows += await cluster.measure(wanted)
        left_out += cluster.left_out
    settings = {
        "seconds": arguments.seconds,
        "seconds_of_smaller_clusters": arguments.seconds * SMALLER_SECONDS,
        "processes": arguments.processes,
        "batch_interval_ms": {str(workers): interval_ms(workers) for workers in sizes},
        "reduce_tasks": REDUCE_TASKS,
        "left_out": left_out,
    }
    rows.sort(key=lambda row: (row["workers"], row["stages"], ORDER.index(row["mode"]), row["group_size"]))
    return Report(NAME, settings, rows, claims(rows, sizes[0], arguments.stages, arguments.group_sizes))


def in_order(stages: Sequence[int], group_sizes: Sequence[int]) -> list[Wanted]:
    """What is measured of each cluster: first what is claimed."""
    barrier, prescheduled = Mode(Scheduling.BARRIER), Mode(Scheduling.PRESCHEDULED)
    groups = [Mode(Scheduling.GROUP, size) for size in sorted(group_sizes)]
    first = [barrier, *compared(groups)]
    rest = [prescheduled, *(mode for mode in groups if mode not in first)]
    return [Wanted(number, mode) for modes in (first, rest) for number in stages for mode in modes]


def compared(groups: Sequence[Mode]) -> list[Mode]:
    """The largest groups, and those whose launching is held against theirs."""
    smaller = smaller_than_largest([mode.group_size for mode in groups])
    return [mode for mode in reversed(groups) if mode == groups[-1] or mode.group_size == smaller]


def plot(report: Report, path: Path) -> None:
    """Milliseconds per batch over workers, a line per mode."""
    plot_scheduling(report.rows, path)


class Clusters:
    """Measures so many workers until a moment (monotonic seconds); what it left out, and why."""

    def __init__(self, workers: int, seconds: float, processes: int, ends_at: float) -> None:
        self.left_out: list[Row] = []
        self._workers = workers
        self._seconds = seconds
        self._shares = _shares(workers, min(workers, processes))
        self._ends_at = ends_at

    async def measure(self, wanted: Sequence[Wanted]) -> list[Row]:
        """Rows. After one that did not get there the others have a new cluster: what hangs is in the way."""
        rows: list[Row] = []
        waiting = list(wanted)
        while waiting and time.monotonic() < self._ends_at:
            try:
                await self._on_one(waiting, rows)
            except TooSlowError as error:
                self._leave_out(waiting.pop(0), str(error))
        for one in waiting:
            self._leave_out(one, "no time was left")
        return rows

    async def _on_one(self, waiting: list[Wanted], rows: list[Row]) -> None:
        with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
            settings = LocalSettings(Path(folder), workers=0, sources=0, lease_ms=LEASE_MS)
            async with (
                LocalCluster(settings) as cluster,
                hosting(self._shares, cluster.address, cluster.token) as hosts,
            ):
                await _joined(cluster, hosts, self._workers, len(self._shares))
                while waiting and time.monotonic() < self._ends_at:
                    one = waiting[0]
                    name = f"{one.mode.scheduling.value}-{one.mode.group_size}-{one.stages}-{len(rows)}"
                    rows.append(await _measured(cluster, hosts, name, self._workers, one, self._seconds))
                    del waiting[0]
                    if not await _ended(cluster, hosts, name):
                        return  # what goes on is in the way of the others

    def _leave_out(self, wanted: Wanted, why: str) -> None:
        self.left_out.append(
            {
                "workers": self._workers,
                "stages": wanted.stages,
                "mode": wanted.mode.scheduling.value,
                "group_size": wanted.mode.group_size,
                "why": why,
            }
        )


def _shares(workers: int, processes: int) -> list[Hosted]:
    """Workers spread over processes; each process's source has a partition for each of its workers."""
    sizes = [workers * (n + 1) // processes - workers * n // processes for n in range(processes)]
    return [Hosted(number, size, size) for number, size in enumerate(sizes)]


def interval_ms(workers: int) -> float:
    """How often batches are due."""
    return max(INTERVAL_MS, workers / WORKERS_PER_INTERVAL_MS)


def job_spec(name: str, stages: int, mode: Mode, workers: int) -> JobSpec:
    """Tasks that read a stream, and with two stages 16 that take their blocks."""
    reading = StageSpec(StageId(0), 0, stream=StreamId("nothing"))
    reducing = StageSpec(StageId(1), REDUCE_TASKS, inputs=(StageId(0),))
    return JobSpec(
        JobId(name),
        (reading, reducing)[:stages],
        batch_interval_ms=interval_ms(workers),
        scheduling=mode.scheduling,
        group_size=mode.group_size,
        checkpoint_interval_ms=CHECKPOINT_BATCHES * interval_ms(workers),
        key_groups=KEY_GROUPS,
        replanning=False,
        speculation=False,
    )


async def _measured(
    cluster: LocalCluster, hosts: Hosts, name: str, workers: int, wanted: Wanted, seconds: float
) -> Row:
    """What a job of that name costs; it is told to stop then."""
    mode = wanted.mode
    data = pack_job(JobFile(job_spec(name, wanted.stages, mode, workers), b"nothing"))
    await asyncio.to_thread(submit, data, cluster=cluster.address, token=cluster.token)
    began = time.monotonic()
    warm = WARM_BATCHES + (mode.group_size if mode.scheduling is Scheduling.GROUP else 0)

    news = _News()

    def warmed(sample: Sample) -> bool:
        enough = sample.at >= began + WARM_ENOUGH_S and sample.batches >= WARM_BATCHES
        return news.of(sample) and (sample.batches >= warm or enough)

    before = await _until(cluster, hosts, name, warmed, WARM_S_MAX)
    await asyncio.sleep(seconds)
    ends_at = before.at + MEASURED_SPANS_MAX * seconds

    def measured(sample: Sample) -> bool:
        over = sample.at >= ends_at and sample.batches >= before.batches + BATCHES_MIN
        return over or (news.of(sample) and sample.groups >= before.groups + GROUPS_MIN)

    after = await _until(cluster, hosts, name, measured, 2 * MEASURED_SPANS_MAX * seconds)
    await cluster.ask(f"/jobs/{name}", "DELETE")
    return _row(workers, wanted, before, after)


class _News:
    """Whether more batches are known to be done than a moment ago.

    Dozens are reported at once, so a span is measured from one such moment to another.
    """

    def __init__(self) -> None:
        self._known: int | None = None

    def of(self, sample: Sample) -> bool:
        """Never of the first one."""
        before, self._known = self._known, sample.batches
        return before is not None and sample.batches > before


def _row(workers: int, wanted: Wanted, before: Sample, after: Sample) -> Row:
    batches, groups = after.batches - before.batches, after.groups - before.groups
    turns = after.launch_turns - before.launch_turns

    def ms_per_batch(seconds: float) -> float:
        return round(seconds * 1000.0 / batches, 4)

    def per_launch(value: float, launches: int) -> float | None:
        return round(value / launches, 4) if groups >= GROUPS_MIN else None

    return {
        "workers": workers,
        "stages": wanted.stages,
        "mode": wanted.mode.scheduling.value,
        "group_size": wanted.mode.group_size,
        "batches": batches,
        "ms_per_batch": ms_per_batch(after.at - before.at),
        "coordinator_cpu_ms_per_batch": ms_per_batch(after.coordinator_s - before.coordinator_s),
        "members_cpu_ms_per_batch": ms_per_batch(after.members_s - before.members_s),
        "launch_ms_per_group": per_launch((after.launch_s - before.launch_s) * 1000.0, groups),
        "launch_cpu_ms_per_turn": per_launch((after.launch_cpu_s - before.launch_cpu_s) * 1000.0, turns),
        "launch_bytes_per_group": per_launch(float(after.launch_bytes - before.launch_bytes), groups),
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
        launch_cpu_s=float(job["coordination_cpu_seconds"]),
        launch_turns=int(job["launching_turns"]),
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


async def _ended(cluster: LocalCluster, hosts: Hosts, name: str) -> bool:
    """Whether a job is through in time: the next one must not share the machine with what is left of it."""
    ends_at = time.monotonic() + END_S_MAX
    while (await cluster.ask(f"/jobs/{name}"))["phase"] == "stopping":
        hosts.check()
        if time.monotonic() > ends_at:
            return False
        await asyncio.sleep(POLL_S)
    return True


def _too_slow(thing: str, found: str) -> TooSlowError:
    remedy = "Take fewer --workers, or a machine that does less."
    return TooSlowError(explain(thing, wanted="to get there in time", found=found, remedy=remedy))

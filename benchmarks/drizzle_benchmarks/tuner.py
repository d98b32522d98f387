"""What group sizes cost on a real cluster: fixed ones, the paper's controller's, and the model's.

One local cluster, one job after the other on an idle stream (coordination does not depend on records).
A setting is a batch interval and how soon a wish to adapt must get its boundary. Loss is what the
coordinator spends on launching groups, in seconds per second, once the size has settled; the best
fixed size is the one with the least loss that keeps the same promise.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

import drizzle_streams as dz
from drizzle_benchmarks.report import Claim, Report, Row
from drizzle_streams.core.planner import PLAN_AHEAD_MS
from drizzle_streams.local.cluster import LocalCluster, LocalSettings

NAME = "tuner"
SIZES = (2, 5, 10, 20, 40, 80, 160)
WITHIN = 1.25
"""Of the best loss: neighbours of a sweep differ by a factor of two, and seconds are short."""
SETTLED_S_MAX = 20.0
"""How long a size may take to settle; what has not is measured as it is."""
STILL_S = 1.5
"""A size that has not changed for so long has settled."""
POLL_S = 0.2
TURNS_MIN = 3
"""Groups that are launched while one size is measured, at least."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A batch interval, and the promise that bounds a group from above."""

    interval_ms: int
    adapt_within_ms: int

    def __str__(self) -> str:
        return f"{self.interval_ms} ms batches, adapts within {self.adapt_within_ms / 1000:g} s"

    @property
    def size_max(self) -> int:
        """The longest group that keeps the promise: what is launched ahead waits as well."""
        return max(1, int((self.adapt_within_ms - PLAN_AHEAD_MS) / self.interval_ms))


SETTINGS = (Setting(20, 1_000), Setting(20, 2_000), Setting(50, 2_000))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How long each size is measured."""
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="how long each size is measured (default: %(default)s)"
    )
    parser.add_argument(
        "--settings",
        type=int,
        default=len(SETTINGS),
        choices=range(1, len(SETTINGS) + 1),
        help="how many of the settings (default: all)",
    )


async def run(arguments: argparse.Namespace) -> Report:
    """Each mode and size in each setting, one job at a time."""
    settings = SETTINGS[: arguments.settings]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        async with LocalCluster(LocalSettings(Path(folder), workers=2, sources=1)) as cluster:
            for setting in settings:
                rows += await _setting(cluster, setting, arguments.seconds)
    return Report(NAME, {"seconds": arguments.seconds, "workers": 2}, rows, _claims(rows))


async def _setting(cluster: LocalCluster, setting: Setting, seconds: float) -> list[Row]:
    sizes = [size for size in SIZES if size < setting.size_max] + [setting.size_max]
    within = f"{setting.adapt_within_ms}ms"
    wanted: list[tuple[str, Any]] = [("fixed", size) for size in sizes]
    wanted += [("aimd", dz.tuned(method="aimd", at_most=setting.size_max))]
    wanted += [("model", dz.tuned(adapt_within=within))]
    found = [(mode, *await _measured(cluster, setting, size, seconds)) for mode, size in wanted]
    best = min(lost for mode, _, lost in found if mode == "fixed")
    return [
        {
            "mode": mode,
            "setting": str(setting),
            "group_size": size,
            "loss": round(lost, 6),
            "best_fixed_loss": round(best, 6),
        }
        for mode, size, lost in found
    ]


async def _measured(
    cluster: LocalCluster, setting: Setting, group_size: Any, seconds: float
) -> tuple[int, float]:
    """The size that a job settles at, and the coordinator's seconds per second with it."""
    name = f"tuner-{time.monotonic_ns()}"
    stream = dz.stream(name, schema={"key": pl.String})
    counts = stream.group_by("key").agg(rows=dz.count())
    job = counts.to(dz.console()).job(name, batch_interval=f"{setting.interval_ms}ms", group_size=group_size)
    await asyncio.to_thread(job.submit, cluster.address, token=cluster.token)
    await _settled(cluster, name, tuned=not isinstance(group_size, int))
    before = await _launched(cluster, name, 0)
    await asyncio.sleep(seconds)
    after = await _launched(cluster, name, before["groups_launched"] + TURNS_MIN)
    await cluster.ask(f"/jobs/{name}", "DELETE")
    spent = after["coordination_seconds"] - before["coordination_seconds"]
    return int(after["group_size"]), spent / (after["at"] - before["at"])


async def _launched(cluster: LocalCluster, name: str, groups: int) -> dict[str, Any]:
    """The job right after a group was launched, so that whole groups are counted; `at` is when."""
    first = await cluster.ask(f"/jobs/{name}")
    while True:
        job = await cluster.ask(f"/jobs/{name}")
        if job["groups_launched"] > max(first["groups_launched"], groups - 1):
            return {**job, "at": time.monotonic()}
        await asyncio.sleep(POLL_S / 10)


async def _settled(cluster: LocalCluster, name: str, *, tuned: bool) -> None:
    """The job runs, and its size has not changed for a while."""
    since, size, until = time.monotonic(), 0, time.monotonic() + SETTLED_S_MAX
    while time.monotonic() < until:
        job = await cluster.ask(f"/jobs/{name}")
        mode = (job["tuner"] or {}).get("binding", "unmeasured")
        still_s = max(STILL_S, 2 * job["group_size"] * job["batch_interval_ms"] / 1000.0)
        if job["group_size"] != size or job["groups_launched"] < 2 or (tuned and mode == "unmeasured"):
            since, size = time.monotonic(), job["group_size"]
        elif not tuned or time.monotonic() - since > still_s:
            return
        await asyncio.sleep(POLL_S)


def _claims(rows: list[Row]) -> list[Claim]:
    """The model against the best fixed size and against the paper's controller, in each setting."""
    claims: list[Claim] = []
    for row in rows:
        if row["mode"] == "model":
            ratio = row["loss"] / row["best_fixed_loss"] if row["best_fixed_loss"] else None
            claims.append(
                Claim(f"loss over the best fixed size's, {row['setting']}", _rounded(ratio), WITHIN, "ratio")
            )
    return claims


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

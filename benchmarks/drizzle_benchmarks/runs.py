"""Runs of the real local cluster under load, for benchmarks that watch what a fault or a change does."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drizzle_benchmarks.outages import Window
from drizzle_streams.local.demo import DemoSettings, DemoState, Disturb, run_demo

WINDOW_MS = 200
"""Short windows: the series of their latencies is what is looked at."""
BATCH_INTERVAL_MS = 50.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of a run: the demo's report, and its windows."""

    report: Mapping[str, Any]
    windows: list[Window]


async def under_load(
    rate: int,
    seconds: float,
    *,
    kill: str = "none",
    disturb: Disturb | None = None,
    workers: int = 2,
    standby: bool = False,
    group_size: int = 20,
    speculation: bool = True,
) -> Loaded:
    """One run of the Yahoo Streaming Benchmark with a SIGKILL half-way, or something done beside it."""
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        settings = DemoSettings(
            directory=Path(folder),
            rate=rate,
            seconds=seconds,
            workers=workers,
            batch_interval_ms=BATCH_INTERVAL_MS,
            window=f"{WINDOW_MS}ms",
            window_ms=WINDOW_MS,
            kill=kill,
            standby=standby,
            group_size=group_size,
            speculation=speculation,
            disturb=disturb,
        )
        report = await run_demo(settings, show_nothing)
    windows = [(float(end), float(last), float(first)) for end, last, first in report["latency_ms_by_window"]]
    return Loaded(report, windows)


def show_nothing(_: DemoState) -> None:
    """A benchmark has no live view: drawing it costs what is being measured."""

"""Runs of the real local cluster under load, for benchmarks that watch what a fault or a change does."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

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


class Asked(TypedDict, total=False):
    """What may be other than usual; as in `DemoSettings`, but nobody is killed unless told."""

    kill: str
    disturb: Disturb
    workers: int
    standby: bool
    group_size: int
    speculation: bool
    surge: str


async def under_load(rate: int, seconds: float, **asked: Unpack[Asked]) -> Loaded:
    """One run of the Yahoo Streaming Benchmark with a SIGKILL half-way, or something done beside it."""
    asked.setdefault("kill", "none")
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        settings = DemoSettings(
            directory=Path(folder),
            rate=rate,
            seconds=seconds,
            batch_interval_ms=BATCH_INTERVAL_MS,
            window=f"{WINDOW_MS}ms",
            window_ms=WINDOW_MS,
            **asked,
        )
        report = await run_demo(settings, show_nothing)
    windows = [(float(end), float(last), float(first)) for end, last, first in report["latency_ms_by_window"]]
    return Loaded(report, windows)


def show_nothing(_: DemoState) -> None:
    """A benchmark has no live view: drawing it costs what is being measured."""

"""Runs of the real local cluster under load, for benchmarks that watch what a fault does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from drizzle_streams.local.demo import DemoSettings, DemoState, run_demo

WINDOW_MS = 200
"""Short windows: the series of their latencies is what is looked at."""


async def load_with_fault(kill: str, *, rate: int, seconds: float, standby: bool = False) -> dict[str, Any]:
    """One run of the Yahoo Streaming Benchmark with a SIGKILL half-way; the demo's report."""
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder:
        settings = DemoSettings(
            directory=Path(folder),
            rate=rate,
            seconds=seconds,
            window=f"{WINDOW_MS}ms",
            window_ms=WINDOW_MS,
            kill=kill,
            standby=standby,
        )
        return await run_demo(settings, show_nothing)


def show_nothing(_: DemoState) -> None:
    """A benchmark has no live view: drawing it costs what is being measured."""

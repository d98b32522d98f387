"""Drives the benchmark through a running cluster and judges it: posts events, then checks every count.

The exit code is the verdict: 0 everything posted was counted exactly once, 1 not so, 2 it could not
run as asked. A run begins with a window, and only windows since then are judged, so it can be
repeated on a job that goes on.
"""

from __future__ import annotations

import os
import time

from drizzle_loadgen import cli as loadgen

LEAD_MS = 2_000
"""To start Python's rest and connect before the first event is due."""
RUN = "/tmp/run.json"


def main() -> int:
    """Run, then check what was acknowledged."""
    settings = os.environ
    window_ms = int(settings["YSB_WINDOW_MS"])
    start_ms = -(-(int(time.time() * 1000) + LEAD_MS) // window_ms) * window_ms
    run = {
        "--sources": settings["LOAD_SOURCES"],
        "--seed": settings["YSB_SEED"],
        "--rate": settings["LOAD_RATE"],
        "--seconds": settings["LOAD_SECONDS"],
        "--start-ms": str(start_ms),
        "--block-ms": settings["LOAD_BLOCK_MS"],
        "--give-up-after": settings["LOAD_PATIENCE_S"],
        "--drain-timeout": settings["LOAD_PATIENCE_S"],
        "--json": RUN,
    }
    ran = loadgen.main(["run", "--progress", *_flags(run)])
    if ran == 2:
        return ran
    check = {
        "--run": RUN,
        "--redis": settings["DRIZZLE_REDIS_URL"],
        "--prefix": settings["YSB_JOB"],
        "--window-ms": str(window_ms),
        "--windows-from": str(start_ms),
        "--timeout": settings["LOAD_PATIENCE_S"],
        "--json": "-",
    }
    return loadgen.main(["check", *_flags(check)]) or ran


def _flags(values: dict[str, str]) -> list[str]:
    return [part for pair in values.items() for part in pair]


if __name__ == "__main__":
    raise SystemExit(main())

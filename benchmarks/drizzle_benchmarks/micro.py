"""The small parts a batch is made of, one by one, by pytest-benchmark: codec, planner, split, state, frames.

Each is the product's own call on input of a usual size. Times are of one core without a cluster; what a
batch costs in all is in the other benchmarks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from drizzle_benchmarks import micro_cases
from drizzle_benchmarks.apart import one_polars_thread
from drizzle_benchmarks.report import Report, Row
from drizzle_streams.errors import DrizzleError, explain

NAME = "micro"
SECONDS_MAX = 300.0
"""All cases together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=1.0, help="of each case (%(default)s)")
    parser.add_argument("--only", default="", metavar="WORDS", help="cases by name, as pytest's -k")


async def run(arguments: argparse.Namespace) -> Report:
    """A row for each case."""
    if find_spec("pytest_benchmark") is None:
        raise ImportError("pytest-benchmark is not installed")
    rows = await asyncio.to_thread(_rows, arguments.seconds, arguments.only)
    return Report(NAME, {"seconds": arguments.seconds}, rows, [])


def plot(report: Report, path: Path) -> None:
    micro_cases.plot(report.rows, path)


def _rows(seconds: float, only: str) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="drizzle-bench-") as folder, one_polars_thread():
        found = Path(folder) / "micro.json"
        command = [sys.executable, "-m", "pytest", str(micro_cases.__file__), "-q", "-k", only]
        command += [
            "-o",
            "addopts=",
            "-o",
            "python_functions=case_*",
            "-o",
            f"cache_dir={folder}",
            "-p",
            "no:xdist",
        ]
        command += ["--rootdir", folder, "-c", "/dev/null"]
        command += ["--benchmark-only", "--benchmark-json", str(found), "--benchmark-disable-gc"]
        command += ["--benchmark-max-time", str(seconds), "--benchmark-min-rounds", "5"]
        # It is a run of its own, also where tests start it: theirs may be one of several at once.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=SECONDS_MAX, env=env
        )
        if ended.returncode != 0:
            remedy = "The lines found are the end of what pytest wrote."
            told = (ended.stdout + ended.stderr)[-2_000:]
            raise DrizzleError(
                explain("the cases", wanted="that each of them runs", found=told, remedy=remedy)
            )
        return [_row(case) for case in json.loads(found.read_text())["benchmarks"]]


def _row(case: dict[str, object]) -> Row:
    stats = case["stats"]
    assert isinstance(stats, dict)
    return {
        "case": str(case["name"]).removeprefix("case_"),
        "median_us": round(stats["median"] * 1e6, 2),
        "min_us": round(stats["min"] * 1e6, 2),
        "iqr_us": round(stats["iqr"] * 1e6, 2),
        "rounds": stats["rounds"],
    }

"""`drizzle bench NAME`: benchmarks on this machine; they live in a package of their own, run as a process."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys

from drizzle_streams.errors import ConfigError, explain

_PACKAGE = "drizzle_benchmarks"

_EPILOG = """\
examples:
  drizzle bench recovery                   kill -9 of a worker: how late results become, and for how long
  drizzle bench failover --json out.json   kill -9 of the leading coordinator, a standby takes over
  drizzle bench elasticity                 a worker joins, a worker is drained: how late results become
  drizzle bench tuner                      what group sizes cost: fixed ones, the paper's, the model's
  drizzle bench latency --rates 20000      how late results are under live load, and what each service takes
  drizzle bench groups                     what groups cost, and what launching ahead hides at their ends
  drizzle bench combine                    aggregating before the shuffle, and only behind it
  drizzle bench ingest --dir /data         how much one source takes, by format and durability
  drizzle bench all                        every one; benchmarks/results/ and docs/benchmarks/results.md
  drizzle bench scheduling --workers 4,32  what scheduling costs, tasks that do nothing in every mode
  drizzle bench state --keys 10000,1000000 what a batch costs against the size of state
  drizzle bench static-join                what a batch costs against the size of a table joined with
  drizzle bench micro                      codec, planner, split, frames, state: the small parts one by one
  drizzle bench soak --batches 100000      whether memory, keys, logs, files or latency grow
  drizzle bench throughput --cores 1       events per second over files, beside Polars and DuckDB
  drizzle bench recovery --help            what one benchmark takes"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything goes on to the benchmark."""
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="NAME ...", help="benchmark and flags")
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark as a process of its own; its exit code."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise ConfigError(
            explain(
                "benchmarks",
                wanted=f"the package {_PACKAGE}",
                found="none",
                remedy="They come with the project's checkout: run `make setup` there.",
            )
        )
    return subprocess.call([sys.executable, "-m", _PACKAGE, *(arguments.arguments or ["--help"])])

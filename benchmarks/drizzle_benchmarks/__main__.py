"""`python -m drizzle_benchmarks NAME [--json FILE] [--plot FILE]`: run one, print a table, write JSON.

Exit code 0 when it measured, 1 when the system failed, 2 when it was asked for something it cannot do.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from drizzle_benchmarks import all as every
from drizzle_benchmarks.plots import plot_losses, plot_outages
from drizzle_benchmarks.report import Report
from drizzle_benchmarks.showing import show
from drizzle_streams.errors import DrizzleError

BENCHMARKS = (
    "recovery",
    "elasticity",
    "failover",
    "stragglers",
    "overload",
    "tuner",
    "scheduling",
    "latency",
    "state",
    "static-join",
    "micro",
    "soak",
    "groups",
    "combine",
    "ingest",
    "throughput",
)
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that is named."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=arguments.json == "-")
    try:
        if arguments.module is every:
            return every.main(arguments, BENCHMARKS)
        report = asyncio.run(arguments.module.run(arguments))
        _write(report, arguments)
    except (DrizzleError, ValueError) as error:
        print(f"drizzle bench {arguments.module.NAME}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except ImportError as error:
        print(f"drizzle bench: {error}; pip install 'drizzle-streams[bench]' brings it", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    show(report, console)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="drizzle bench", description="Benchmarks of this machine.")
    commands = parser.add_subparsers(metavar="NAME", required=True)
    for name in BENCHMARKS:
        module = importlib.import_module(f"drizzle_benchmarks.{name.replace('-', '_')}")
        says = (module.__doc__ or "").split("\n\n")
        command = commands.add_parser(name, help=says[0], description="\n\n".join(says))
        command.add_argument("--json", metavar="FILE", help="write the report as JSON; - is standard output")
        command.add_argument("--plot", metavar="FILE", help="write a picture as PNG (needs matplotlib)")
        module.add_arguments(command)
        command.set_defaults(module=module)
    says = (every.__doc__ or "").split("\n\n")
    command = commands.add_parser(every.NAME, help=says[0], description="\n\n".join(says))
    every.add_arguments(command)
    command.set_defaults(module=every, json=None, plot=None)
    return parser


def _write(report: Report, arguments: argparse.Namespace) -> None:
    if arguments.plot:
        if hasattr(arguments.module, "plot"):
            arguments.module.plot(report, Path(arguments.plot))
        elif report.series:
            plot_outages(report.series, report.rows[0]["event"], Path(arguments.plot))
        else:
            plot_losses(report.rows, Path(arguments.plot))
    if arguments.json == "-":
        print(json.dumps(report.as_json()))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(report.as_json(), indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())

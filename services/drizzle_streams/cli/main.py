"""The `drizzle` command: finds the subcommand, runs it, turns our errors into one line and exit code 2.

Each subcommand is a module with `add_arguments(parser)` and `run(arguments) -> exit code`; only the
chosen one is imported, so that `drizzle --help` is quick.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from drizzle_streams.errors import DrizzleError

COMMANDS = {
    "demo": "run the Yahoo Streaming Benchmark on a real local cluster and check every count",
    "bench": "run a benchmark on this machine",
    "up": "start a cluster on this machine and keep it running",
    "submit": "run the jobs of a file on a cluster",
    "jobs": "list the jobs of a cluster",
    "stop": "stop a job after what is launched",
    "status": "show members, jobs and their latencies",
    "token": "make a token that opens less than the cluster's secret",
    "coordinator": "run a coordinator service",
    "worker": "run a worker service",
    "source": "run a source service",
}

_EPILOG = """\
examples:
  drizzle demo                      see it work: real processes, a kill -9, exact counts
  drizzle up                        a cluster on this machine
  drizzle submit job.py             run the jobs that job.py defines
  drizzle status                    what is going on

`drizzle COMMAND --help` says more about a command."""

EXIT_CONFIG = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(argv)
    parsed = parser.parse_args(argv)
    if not hasattr(parsed, "run"):
        parser.print_help()
        return EXIT_CONFIG
    try:
        return parsed.run(parsed)
    except DrizzleError as error:
        sys.stderr.write(f"drizzle: {error}\n")
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: no more to say
        return 0


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="drizzle",
        description="Micro-batch stream processing: milliseconds to process, seconds to adapt.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"drizzle {version('drizzle-streams')}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    chosen = next((word for word in argv if not word.startswith("-")), None)
    for name, says in COMMANDS.items():
        command = commands.add_parser(
            name, help=says, formatter_class=argparse.RawDescriptionHelpFormatter, description=says
        )
        if name == chosen:
            module = importlib.import_module(f"drizzle_streams.cli.{_module(name)}")
            module.add_arguments(command)
            command.set_defaults(run=module.run, command=name)
    return parser


def _module(command: str) -> str:
    return "service" if command in ("coordinator", "worker", "source") else command

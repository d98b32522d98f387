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

from drizzle_streams.errors import ConfigError, DrizzleError, explain

GLOBAL = ("--cluster", "--profile")
"""Options that may stand before the command as well as after it."""

COMMANDS = {
    "demo": "run the Yahoo Streaming Benchmark on a real local cluster and check every count",
    "bench": "run a benchmark on this machine",
    "up": "start a cluster on this machine and keep it running",
    "submit": "run the jobs of a file on a cluster",
    "jobs": "list the jobs of a cluster",
    "stop": "stop a job after what is launched",
    "status": "show members, jobs and their latencies",
    "explain": "show how a job is computed, what was measured, and why",
    "workers": "list the workers of a cluster and what they hold",
    "story": "tell what happened in a cluster, and why",
    "console": "print or open a link to the console, signed in",
    "scale": "change the number of workers",
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
  drizzle --cluster URL status      … on a cluster elsewhere

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
        _refuse_stray(parsed)
        return parsed.run(parsed)
    except DrizzleError as error:
        sys.stderr.write(f"drizzle: {error}\n")
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: no more to say
        return 0


def _refuse_stray(parsed: argparse.Namespace) -> None:
    """A cluster that is named to a command which talks to none was named by mistake."""
    for option in GLOBAL:
        if getattr(parsed, option.strip("-")) is not None and not parsed.asks_cluster:
            found, remedy = f"`drizzle {parsed.command}`, which talks to none", "Leave it out."
            raise ConfigError(
                explain(option, wanted="a command that talks to a cluster", found=found, remedy=remedy)
            )


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="drizzle",
        description="Micro-batch stream processing: milliseconds to process, seconds to adapt.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"drizzle {version('drizzle-streams')}")
    parser.add_argument("--cluster", metavar="URL", help="the cluster, for commands that talk to one")
    parser.add_argument("--profile", metavar="NAME", help="the cluster, by its name in your configuration")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    chosen = _chosen(argv)
    for name, says in COMMANDS.items():
        command = commands.add_parser(
            name, help=says, formatter_class=argparse.RawDescriptionHelpFormatter, description=says
        )
        if name == chosen:
            module = importlib.import_module(f"drizzle_streams.cli.{_module(name)}")
            module.add_arguments(command)
            asks = command.get_default("asks_cluster") or False
            command.set_defaults(run=module.run, command=name, asks_cluster=asks)
    return parser


def _chosen(argv: Sequence[str]) -> str | None:
    """The command: the first word that is neither an option nor the value of a global one."""
    words = iter(argv)
    for word in words:
        if word in GLOBAL:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def _module(command: str) -> str:
    return "service" if command in ("coordinator", "worker", "source") else command

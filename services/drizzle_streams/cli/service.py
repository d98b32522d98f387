"""`drizzle coordinator|worker|source`: one service in this process, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from drizzle_streams import config

_KINDS = {
    "coordinator": config.CoordinatorServiceSettings,
    "worker": config.WorkerServiceSettings,
    "source": config.SourceServiceSettings,
}

_EPILOG = """\
The cluster's secret is read from DRIZZLE_TOKEN, or from the file that DRIZZLE_TOKEN_FILE names.

example:
  DRIZZLE_TOKEN_FILE=token drizzle {command} --name {command}-1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every setting of the service as a flag; the help names its environment variable."""
    command = parser.prog.split()[-1]
    for option in config.options(_KINDS[command]):
        if not option.flag:
            continue
        default = f"; default {option.default}" if option.default else ""
        switch: dict[str, Any] = {"nargs": "?", "const": "yes"} if option.default in ("yes", "no") else {}
        parser.add_argument(
            option.flag,
            dest=option.name,
            metavar="yes" if switch else option.name.upper(),
            help=f"{option.says} [{option.variable}{default}]".replace("%", "%%"),
            **switch,
        )
    parser.add_argument(
        "--parent-pid", type=int, default=None, help="end when this process, our parent, ends"
    )
    parser.epilog = _EPILOG.format(command=command)


def run(arguments: argparse.Namespace) -> int:
    """Run the service; 0 when it was asked to stop, 2 when it cannot start, 1 when it crashed."""
    kind = _KINDS[arguments.command]
    names = {option.name for option in config.options(kind) if option.flag}
    flags = {name: value for name, value in vars(arguments).items() if name in names}
    settings = config.load(kind, flags)
    from drizzle_streams.runtime.lifecycle import run_service
    from drizzle_streams.telemetry.logs import LogFormat, configure

    writer = configure(
        arguments.command,
        settings.name,
        style=LogFormat(settings.log_format),
        level=settings.log_level.upper(),
        stream=sys.stderr,
    )
    try:
        return run_service(_main(arguments.command, settings), parent_pid=arguments.parent_pid)
    finally:
        writer.close()


def _main(command: str, settings: Any) -> Callable[[asyncio.Event], Coroutine[object, object, None]]:
    if command == "coordinator":
        from drizzle_streams.coordinator.service import run_coordinator as start
    elif command == "worker":
        from drizzle_streams.worker.service import run_worker as start
    else:
        from drizzle_streams.source.service import run_source as start
    return lambda stop: start(settings, stop)

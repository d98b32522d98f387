"""`drizzle demo`: the Yahoo Streaming Benchmark on a real local cluster, with a kill -9, checked exactly."""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drizzle_streams.cli.values import number, whole, whole_or

if TYPE_CHECKING:
    from rich.console import Console

    from drizzle_streams.local.demo import DemoSettings

_EPILOG = """\
Starts a coordinator, sources, workers and Redis as processes on this machine, submits the Yahoo
Streaming Benchmark, drives it with the load generator, kills a process half-way with SIGKILL, and
compares every count with an oracle that recomputes them from the seed. Exit code 0 only if exact.

examples:
  drizzle demo
  drizzle demo --seconds 10 --rate 5000 --window 2s --kill coordinator
  drizzle demo --kill coordinator --standby
  drizzle demo --json demo.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How much, how long, who is killed."""
    parser.add_argument(
        "--rate", type=whole(1, 10**7), default=20_000, help="events per second (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=number(1, 86_400), default=30.0, help="length of the load (default: 30)"
    )
    parser.add_argument("--workers", type=whole(1, 64), default=2, help="worker processes (default: 2)")
    parser.add_argument("--sources", type=whole(1, 64), default=2, help="source processes (default: 2)")
    parser.add_argument(
        "--batch-interval-ms", type=number(1, 60_000), default=50.0, help="batch interval (default: 50)"
    )
    parser.add_argument("--window", default="10s", help="tumbling window (default: 10s)")
    parser.add_argument(
        "--kill",
        default="worker",
        choices=("worker", "coordinator", "source", "redis", "none"),
        help="who gets SIGKILL half-way (default: worker)",
    )
    parser.add_argument(
        "--standby", action="store_true", help="run a second coordinator, which takes over from the first"
    )
    parser.add_argument(
        "--scheduling", default="group", choices=("group", "prescheduled", "barrier"), help="(default: group)"
    )
    parser.add_argument(
        "--group-size",
        type=whole_or("auto", 1, 10_000),
        default="auto",
        help="batches per group; auto chooses it from what is measured (default: %(default)s)",
    )
    parser.add_argument("--seed", type=whole(0, 2**63), default=0, help="seed of all events (default: 0)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON; - is standard output")
    parser.add_argument(
        "--dir", type=Path, help="keep state and logs in this directory (default: a temporary one, removed)"
    )
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Run it and report; 0 only if exact."""
    with _directory(arguments.dir) as directory:
        report = asyncio.run(_demo(arguments, Path(directory)))
    if report is None:
        return 130
    if arguments.json == "-":
        print(json.dumps(report))
    elif arguments.json:
        Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n")
    return 0 if report["exact"] else 1


def _directory(kept: Path | None) -> AbstractContextManager[str]:
    """A temporary directory, removed at the end however the end comes; or the one that was named."""
    if kept is None:
        return tempfile.TemporaryDirectory(prefix="drizzle-demo-")
    kept.mkdir(parents=True, exist_ok=True)
    return nullcontext(str(kept.resolve()))


async def _demo(arguments: argparse.Namespace, directory: Path) -> dict[str, Any] | None:
    from rich.console import Console

    from drizzle_streams.api.durations import parse_whole_ms
    from drizzle_streams.cli.interrupt import until_interrupted
    from drizzle_streams.local.demo import DemoSettings
    from drizzle_streams.local.demo_view import print_report

    settings = DemoSettings(
        directory=directory,
        rate=arguments.rate,
        seconds=arguments.seconds,
        workers=arguments.workers,
        sources=arguments.sources,
        batch_interval_ms=arguments.batch_interval_ms,
        window=arguments.window,
        window_ms=int(parse_whole_ms(arguments.window, "--window")),
        kill=arguments.kill,
        standby=arguments.standby,
        scheduling=arguments.scheduling,
        group_size=arguments.group_size,
        seed=arguments.seed,
    )
    console = Console(stderr=arguments.json == "-")
    report = await until_interrupted(_shown(settings, console))
    if report is None:
        console.print("interrupted: everything is stopped and removed")
        return None
    print_report(console, report)
    if not report["exact"] and arguments.dir is None:
        console.print("run it again with --dir DIR to keep state and logs for a look", style="dim")
    return report


async def _shown(settings: DemoSettings, console: Console) -> dict[str, Any]:
    from drizzle_streams.local.demo import run_demo
    from drizzle_streams.local.demo_view import DemoView

    with DemoView(console) as view:
        return await run_demo(settings, view.show)

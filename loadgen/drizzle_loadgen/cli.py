"""The command line: options in, one report out.

Tables and errors go to standard error, JSON to where it is asked for.

Exit codes: 0 all is as it should be; 1 it ran, and something was not delivered or a count is wrong; 2 it
could not run as asked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

from drizzle_loadgen import commands, settings
from drizzle_loadgen.delivery import MIB, Bounds
from drizzle_loadgen.errors import LoadgenError
from drizzle_loadgen.run import DRAIN_TIMEOUT_S

_EPILOG = "Exit code: 0 as it should be, 1 not delivered or not exact, 2 could not run as asked."
_SEED = "seed of all ids and events, 0 to 2**64 - 1"
_START = "due time of event 0, Unix ms"
_START_MS = 1_700_000_000_000  # for files, whose times are their own; a run starts now

_Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    settings.use_one_polars_thread()
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except (LoadgenError, OSError) as error:
        print(f"loadgen: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m drizzle_loadgen",
        description="Load and oracle of the Yahoo Streaming Benchmark: events are a function of (seed, i),"
        " posted when they are due, and every window count recomputed from the seed.",
        epilog=_EPILOG,
    )
    commands_of = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_ads(commands_of)
    _add_file(commands_of)
    _add_run(commands_of)
    _add_check(commands_of)
    return parser


def _command(
    commands_of: _Subparsers, name: str, run: Callable[[argparse.Namespace], int], summary: str, text: str
) -> argparse.ArgumentParser:
    parser = commands_of.add_parser(name, help=summary, description=text, epilog=_EPILOG)
    parser.set_defaults(command=run)
    return parser


def _option(group: argparse._ActionsContainer, name: str, default: str | float, text: str) -> None:
    group.add_argument(name, type=type(default), default=default, help=f"{text} (default: %(default)s)")


def _add_ads(commands_of: _Subparsers) -> None:
    parser = _command(
        commands_of,
        "ads",
        commands.ads,
        "write the static table ad_id -> campaign_id as Parquet",
        "Write the 1,000 rows (ad_id, campaign_id) of a seed: the static side of the benchmark's join.",
    )
    _option(parser, "--seed", 0, _SEED)
    parser.add_argument("--out", required=True, metavar="FILE", help="Parquet file to write")


def _add_file(commands_of: _Subparsers) -> None:
    parser = _command(
        commands_of,
        "file",
        commands.file,
        "write events to a file, for batch benchmarks",
        "Write the first events of a workload as lines of JSON. They are those that `run` posts with the same"
        " --seed, --rate, --start-ms and --with-skew, so `check --events` can judge what is made of them.",
    )
    _add_workload(parser)
    _option(parser, "--start-ms", _START_MS, _START)
    parser.add_argument("--events", type=int, required=True, help="how many events")
    parser.add_argument("--out", required=True, metavar="FILE", help="NDJSON file to write")


def _add_run(commands_of: _Subparsers) -> None:
    parser = _command(
        commands_of,
        "run",
        commands.run,
        "post events to the sources when they are due",
        "Post events in blocks, each when it is due, whatever the system does; obey 429, try again when a"
        " source is away, and report what was acknowledged. SIGINT and SIGTERM stop it at a block boundary."
        f" Tokens are read from the environment: {settings.INGEST_TOKEN} for the sources, and"
        f" {settings.CLUSTER_TOKEN}, the cluster's secret, for --discover and where the other is missing;"
        " or from files that these names with _FILE point to. DRIZZLE_TLS_CA, DRIZZLE_TLS_CERT and"
        " DRIZZLE_TLS_KEY name the files for https.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--sources", metavar="URL,URL", help="addresses of the S sources; block k goes to k mod S"
    )
    where.add_argument("--discover", metavar="URL", help="coordinator whose GET /status names the sources")
    _option(parser, "--stream", "ad-events", "stream to post to")
    _add_workload(parser)
    _option(parser, "--seconds", 30.0, "length of the schedule")
    start = f"{_START} (default: the next full second); a past time is caught up with"
    parser.add_argument("--start-ms", type=int, help=start)
    _option(parser, "--block-ms", 5.0, "span of the events in one block, when most are due")
    surge = "RATE events per second for SECONDS, from FROM seconds after the start on"
    parser.add_argument("--surge", metavar="FROM:SECONDS:RATE", help=surge)
    fault = "kill, pause or resume a process, SECONDS after the start; may be repeated"
    parser.add_argument("--fault", action="append", default=[], metavar="SECONDS:ACTION:PID", help=fault)
    _add_bounds(parser)
    parser.add_argument(
        "--progress", action="store_true", help="a line of JSON per second on standard output"
    )
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - is standard output")


def _add_bounds(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("bounds, for each source")
    bounds = Bounds()
    in_flight = "blocks posted and not answered; 1 keeps the order past a refused block"
    _option(group, "--in-flight", bounds.in_flight_max, in_flight)
    outstanding = "MiB due and not acknowledged; there the generator waits and says so"
    _option(group, "--outstanding-mib", bounds.outstanding_bytes_max / MIB, outstanding)
    _option(group, "--answer-timeout", bounds.answer_timeout_s, "seconds for an answer")
    give_up = "seconds in which a source takes nothing, then the run stops"
    _option(group, "--give-up-after", bounds.give_up_after_s, give_up)
    drain = "seconds for missing answers when nothing more is sent"
    _option(group, "--drain-timeout", DRAIN_TIMEOUT_S, drain)


def _add_check(commands_of: _Subparsers) -> None:
    parser = _command(
        commands_of,
        "check",
        commands.check,
        "recompute every window and compare it with the sink",
        "Recompute the views per campaign and window of everything that was acknowledged, and compare"
        " with the Redis sink: exact or not, what is missing, extra or wrong, and how late.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--run",
        metavar="FILE",
        help="JSON of `run --json`; - is standard input",
    )
    what.add_argument("--events", type=int, help="the first so many of --seed, --rate, ... were acknowledged")
    _add_workload(parser)
    _option(parser, "--start-ms", _START_MS, _START)
    parser.add_argument("--redis", required=True, metavar="URL", help="redis://host:port/0 or unix:///path")
    _option(parser, "--prefix", "ysb", "key prefix of the sink")
    _option(parser, "--field", "clicks", "name of the count in the job")
    _option(parser, "--window-ms", 10_000, "length of the tumbling window")
    since = "judge only windows that start then or later (Unix ms): a sink may hold those of earlier runs"
    _option(parser, "--windows-from", 0, since)
    warm_up = "seconds of the workload whose windows must be exact, but are left out of latencies"
    _option(parser, "--warm-up", 0.0, warm_up)
    _option(parser, "--timeout", 0.0, "seconds to wait for the counts to become exact")
    parser.add_argument("--json", metavar="FILE", help="write the verdict as JSON; - is standard output")


def _add_workload(parser: argparse.ArgumentParser) -> None:
    _option(parser, "--seed", 0, _SEED)
    _option(parser, "--rate", 20_000, "events per second")
    skew = "move event times by up to 50 ms, and one in 100,000 by up to 60 s into the past"
    parser.add_argument("--with-skew", action="store_true", help=skew)

"""`drizzle stop JOB`: launch nothing more, finish what is launched, then end the job."""

from __future__ import annotations

import argparse

from drizzle_streams.cli.client import add_cluster, add_json, found, get_from, job_path, print_json
from drizzle_streams.cli.progress import until_phase
from drizzle_streams.cli.values import number

STOPPED_WITHIN_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job, whether to wait, the cluster."""
    parser.add_argument("job", metavar="JOB", help="name of the job")
    parser.add_argument("--wait", action="store_true", help="return when it has ended, not before")
    parser.add_argument(
        "--timeout",
        type=number(1, 86_400),
        default=STOPPED_WITHIN_S,
        metavar="SECONDS",
        help="with --wait: how long (default: %(default)g)",
    )
    add_cluster(parser)
    add_json(parser)
    parser.epilog = "examples:\n  drizzle stop ysb\n  drizzle stop ysb --wait"


def run(arguments: argparse.Namespace) -> int:
    """Ask for it, and wait if told to."""
    to = found(arguments)
    answer = get_from(to, job_path(arguments.job), "DELETE")
    if arguments.wait:
        answer = until_phase(to, arguments.job, ("stopped", "failed"), arguments.timeout)
    if arguments.json:
        print_json({"job": answer["job"], "phase": answer["phase"]})
    elif answer["phase"] == "stopping":
        print(f"job {arguments.job} stops after what is launched")
    else:
        print(f"job {arguments.job}: {answer['phase']}")
    return 0

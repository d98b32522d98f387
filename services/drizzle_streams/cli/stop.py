"""`drizzle stop JOB`: launch nothing more, finish what is launched, then end the job."""

from __future__ import annotations

import argparse
from urllib.parse import quote

from drizzle_streams.cli.client import add_cluster, get


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job, the cluster."""
    parser.add_argument("job", metavar="JOB", help="name of the job")
    add_cluster(parser)
    parser.epilog = "example:\n  drizzle stop ysb"


def run(arguments: argparse.Namespace) -> int:
    """Ask for it."""
    get(arguments, f"/jobs/{quote(arguments.job, safe='')}", "DELETE")
    print(f"job {arguments.job} stops after what is launched")
    return 0

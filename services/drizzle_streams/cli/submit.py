"""`drizzle submit FILE`: run the jobs that a file defines on a cluster."""

from __future__ import annotations

import argparse

from drizzle_streams.cli.client import add_cluster, found

_EPILOG = """\
The file is ordinary Python; every job it leaves in a module-level name is submitted.

example:
  drizzle submit job.py --cluster http://127.0.0.1:7070"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, the cluster."""
    parser.add_argument("file", metavar="FILE", help="Python file that defines one or more jobs")
    add_cluster(parser)
    parser.epilog = _EPILOG


def run(arguments: argparse.Namespace) -> int:
    """Submit and say what runs."""
    from drizzle_streams.api.load import load_jobs

    jobs = load_jobs(arguments.file)
    settings = found(arguments)
    for job in jobs:
        name = job.submit(settings.cluster, token=settings.token, tls=settings.tls)
        print(f"job {name} runs on {settings.cluster}")
    return 0

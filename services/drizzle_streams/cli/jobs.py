"""`drizzle jobs`: every job of a cluster, one line each."""

from __future__ import annotations

import argparse
import json

from drizzle_streams.cli.client import add_cluster, get, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The cluster, the format."""
    add_cluster(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = "example:\n  drizzle jobs --json"


def run(arguments: argparse.Namespace) -> int:
    """List them."""
    answer = get(arguments, "/jobs")
    if arguments.json:
        print(json.dumps(answer, indent=2))
        return 0
    rows = [
        (
            job["job"],
            job["phase"],
            job["batches_done"],
            f"{job['frontier_lag']['batches']} batches",
            job["scheduling"],
            (job["waits_for"] or job["detail"].splitlines()[0] if job["waits_for"] or job["detail"] else ""),
        )
        for job in answer["jobs"]
    ]
    print_table("jobs", ("job", "phase", "batches", "lag", "scheduling", ""), rows)
    return 0

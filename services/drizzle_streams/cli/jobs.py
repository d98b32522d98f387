"""`drizzle jobs`: every job of a cluster, one line each."""

from __future__ import annotations

import argparse
from typing import Any

from drizzle_streams.cli.client import add_cluster, add_json, counted, get, print_json, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The cluster, the format."""
    add_cluster(parser)
    add_json(parser)
    parser.epilog = "examples:\n  drizzle jobs\n  drizzle --cluster http://10.0.0.7:7070 jobs --json"


def run(arguments: argparse.Namespace) -> int:
    """List them."""
    answer = get(arguments, "/jobs")
    if arguments.json:
        print_json(answer)
        return 0
    rows = [_row(job) for job in answer["jobs"]]
    print_table("jobs", ("job", "phase", "batches", "lag", "scheduling", ""), rows)
    return 0


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    lag = counted(job["frontier_lag"]["batches"], "batch", "batches")
    return job["job"], job["phase"], f"{job['batches_done']:,}", lag, job["scheduling"], says(job)


def says(job: dict[str, Any]) -> str:
    """What a job waits for, or why it ended, in one line."""
    return job["waits_for"] or next(iter(job["detail"].splitlines()), "")

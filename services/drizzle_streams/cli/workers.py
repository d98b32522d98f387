"""`drizzle workers`: who computes, how busy, and what lies where."""

from __future__ import annotations

import argparse
from typing import Any

from drizzle_streams.cli.client import (
    add_cluster,
    add_json,
    found,
    get_from,
    job_path,
    print_json,
    print_table,
)
from drizzle_streams.cli.progress import ENDED

COLUMNS = ("worker", "address", "slots", "busy", "partitions", "lease left", "")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The cluster, the format."""
    add_cluster(parser)
    add_json(parser)
    parser.epilog = """\
partitions: how many each worker owns, by job; its stages counted together.

examples:
  drizzle workers
  drizzle workers --json"""


def run(arguments: argparse.Namespace) -> int:
    """List them."""
    to = found(arguments)
    status = get_from(to, "/status")
    active = [job["job"] for job in status["jobs"] if job["phase"] not in ENDED]
    owned = _owned([get_from(to, job_path(job)) for job in active])
    workers = [worker | {"partitions": owned.get(worker["id"], {})} for worker in status["workers"]]
    if arguments.json:
        print_json({"workers": workers})
    else:
        print_table("workers", COLUMNS, [_row(worker) for worker in workers])
    return 0


def _owned(jobs: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Partitions by worker and job."""
    found: dict[str, dict[str, int]] = {}
    for job in jobs:
        for worker, stages in job["placement"].items():
            found.setdefault(worker, {})[job["job"]] = sum(map(len, stages.values()))
    return found


def _row(worker: dict[str, Any]) -> tuple[object, ...]:
    partitions = ", ".join(f"{job}: {count}" for job, count in sorted(worker["partitions"].items()))
    return (
        worker["id"],
        worker["address"],
        worker["slots"],
        f"{worker['busy']:.0%}",
        partitions or "none",
        f"{worker['lease_left_ms']:,} ms",
        condition(worker),
    )


def condition(member: dict[str, Any]) -> str:
    """What is not as usual about a member."""
    return ", ".join(name for name in ("suspected", "draining", "slow") if member.get(name))

"""`drizzle status`: members and jobs of a cluster, with latencies."""

from __future__ import annotations

import argparse
import json
from typing import Any
from urllib.parse import quote

from drizzle_streams.cli.client import add_cluster, get, print_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The cluster, the format."""
    add_cluster(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.epilog = "example:\n  drizzle status"


def run(arguments: argparse.Namespace) -> int:
    """Show it."""
    status = get(arguments, "/status")
    details = [get(arguments, f"/jobs/{quote(job['job'], safe='')}") for job in status["jobs"]]
    if arguments.json:
        print(json.dumps({**status, "jobs": details}, indent=2))
        return 0
    members = [
        (m["id"], kind, m["address"], f"{m['busy']:.0%}", "suspected" if m["suspected"] else "")
        for kind in ("workers", "sources")
        for m in status[kind]
    ]
    print_table("members", ("node", "kind", "address", "busy", ""), members)
    print_table(
        "jobs",
        ("job", "phase", "batches", "lag", "group size", "batch ms p50", "p99", "checkpoint"),
        [_row(job) for job in details],
    )
    return 0


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    latency = (job.get("batch_latency_ms") or {}).get("recent") or {}
    return (
        job["job"],
        job["phase"],
        job["batches_done"],
        job["frontier_lag"]["batches"],
        job["group_size"],
        latency.get("p50", "-"),
        latency.get("p99", "-"),
        job["checkpoint"]["batch"],
    )

"""`drizzle explain JOB`: how its stages run in the newest group, what was measured, and why."""

from __future__ import annotations

import argparse
from typing import Any

from drizzle_streams.cli.client import add_cluster, add_json, counted, get, job_path, print_json, print_table

COLUMNS = ("stage", "what", "how", "why")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The job, the cluster, the format."""
    parser.add_argument("job", help="name of the job")
    add_cluster(parser)
    add_json(parser)
    parser.epilog = """\
Choices are made anew for each group, by what was measured; results are the same whatever they are.

examples:
  drizzle explain ysb
  drizzle explain ysb --json"""


def run(arguments: argparse.Namespace) -> int:
    """Explain it."""
    plan = get(arguments, f"{job_path(arguments.job)}/plan")
    if arguments.json:
        print_json(plan)
        return 0
    print_table(title(plan), COLUMNS, [row for stage in plan["stages"] for row in rows(stage)])
    return 0


def title(plan: dict[str, Any]) -> str:
    """The job, and how often its plan has changed."""
    every = "" if plan["interval"] is None else f"; a batch each {_interval(plan)}"
    if not plan["replanning"]:
        return f"{plan['job']}: as compiled, re-planning is switched off{every}"
    changes = counted(plan["replans"], "change", "changes")
    if plan.get("resized"):
        changes += f", partitions split or merged {counted(plan['resized'], 'time', 'times')}"
    return f"{plan['job']}: {changes}, the plan of batch {plan['since_batch']:,} on{every}"


def _interval(plan: dict[str, Any]) -> str:
    return f"{plan['batch_interval_ms']:.1f} ms ({plan['interval']['because']})"


def rows(stage: dict[str, Any]) -> list[tuple[object, ...]]:
    """A stage: what it does, then a line for each thing that is chosen."""
    does = "merges" if stage["stateful"] else "joins"
    reads = f"reads {stage['reads']}" if stage["reads"] else f"{does} what stage {stage['inputs'][0]} gives"
    seen = stage["seen"]
    known = "" if seen is None else f"{seen['batches']:,} tasks seen" + _rows(seen["rows"])
    first = (stage["stage"], reads, f"{stage['partitions']} partitions", known)
    return [first, *(("", one["what"], one["how"], one["why"]) for one in stage["reasons"])]


def _rows(count: int) -> str:
    """Rows that came to an aggregation before a shuffle, where there is one."""
    return f", {count:,} rows" if count else ""
